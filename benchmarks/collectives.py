"""What devices send each other, read off a compiled program."""

import math
import re
from typing import NamedTuple

_KINDS = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
_LINE = re.compile(rf"= (?P<type>.*?) (?P<kind>{_KINDS})(?:-start)?\(")
_ARRAY = re.compile(r"(pred|[a-z]+?\d+\w*)\[([\d,]*)\]")
_NAME = re.compile(r'op_name="([^"]*)"')


class Collective(NamedTuple):
    """One collective operation.

    Attributes:
      kind: "all-reduce" and so on.
      shapes: (dtype, shape) of each result.
      bytes: of all results on one device.
      name: what it was made from, as JAX names it.
    """

    kind: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    bytes: int
    name: str

    @property
    def in_search(self) -> bool:
        """Whether it runs once in each turn of a search, and not once at an event."""
        return "while/body/cond" in self.name


def collectives(text: str) -> list[Collective]:
    """The collectives in the text of a compiled program."""
    found = []
    for line in text.splitlines():
        match = _LINE.search(line)
        if not match:
            continue
        shapes = tuple(
            (dtype, tuple(int(n) for n in dims.split(",") if n))
            for dtype, dims in _ARRAY.findall(match["type"])
        )
        size = sum(_width(dtype) * math.prod(shape) for dtype, shape in shapes)
        name = _NAME.search(line)
        found.append(Collective(match["kind"], shapes, size, name[1] if name else ""))
    return found


def _width(dtype: str) -> int:
    """Bytes of an element."""
    return 1 if dtype == "pred" else -(-int(re.search(r"\d+", dtype)[0]) // 8)
