"""What a call costs: multiply-adds per leaf, while dense and as masks leave them."""

import dataclasses
import math
from fractions import Fraction

from jaxprune import _table
from jaxprune._tree import flatten
from jaxprune.analysis._macs import trace
from jaxprune.masks._apply import match
from jaxprune.masks._measure import num_kept


@dataclasses.dataclass(frozen=True)
class LeafCost:
    """What one leaf costs.

    Attributes:
      path, shape, size: of the leaf; size 0 where it is no array.
      macs: multiply-adds in which it takes part, while dense.
      kept: number of weights that its mask keeps; all where there is no mask.
    """

    path: str
    shape: tuple[int, ...]
    size: int
    macs: int
    kept: int

    @property
    def remaining(self) -> Fraction:
        """Multiply-adds with weights that are kept: macs * kept / size, exactly."""
        return Fraction(self.macs * self.kept, self.size) if self.size else Fraction(0)


@dataclasses.dataclass(frozen=True)
class Flops:
    """What `flops` counts; `str` gives a table.

    Attributes:
      rows: every leaf, in the order of the tree.
      activations: multiply-adds of products in which no leaf takes part, such as attention scores.
        No mask makes them fewer.
      partial: names of operations that are not counted in full: "while", of which one pass is
        counted, and solvers and kernels whose products cannot be read. With any, figures are lower
        bounds, except where a loop makes no pass.
      masked: whether masks were given.
    """

    rows: tuple[LeafCost, ...]
    activations: int
    partial: tuple[str, ...]
    masked: bool

    @property
    def total(self) -> int:
        """Multiply-adds of all leaves, while dense."""
        return sum(row.macs for row in self.rows)

    @property
    def remaining(self) -> Fraction:
        """Multiply-adds of all leaves with weights that are kept."""
        return sum((row.remaining for row in self.rows), Fraction(0))

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole call, while dense: of leaves and of activations."""
        return self.total + self.activations

    @property
    def flops(self) -> int:
        """Twice `macs`: a multiplication and an addition each."""
        return 2 * self.macs

    def __str__(self) -> str:
        """A table; raises ImportError without rich."""
        size, kept = (sum(getattr(row, field) for row in self.rows) for field in ("size", "kept"))
        shown = [
            *((r.path, _shape(r), r.size, r.macs, r.kept, r.remaining) for r in self.rows),
            ("leaves", "", size, self.total, kept, self.remaining),
            ("activations", "", "", self.activations, "", self.activations),
            ("whole call", "", size, self.macs, kept, self.remaining + self.activations),
        ]
        columns = ["leaf", "shape", "weights", "macs", "kept", "macs left"]
        width = len(columns) if self.masked else 4
        cells = [[_cell(value) for value in row[:width]] for row in shown]
        text = _table.render(
            "the table of FLOPs", columns[:width], cells[:-3], left=2, footer=cells[-3:]
        )
        text += f"\n{self.flops:,} FLOPs, dense"
        if self.partial:
            text += f"\nnot counted in full: {', '.join(self.partial)}"
        return text


def _shape(row):
    return "x".join(map(str, row.shape))


def _cell(value):
    """Numbers with commas; of fractions the nearest whole."""
    return value if isinstance(value, str) else f"{round(value):,}"


def flops(function, params, *args, masks=None) -> Flops:
    """What `function(params, *args)` costs, leaf by leaf, and what masks leave of it.

        flops = 2 * macs        remaining = macs * kept / size, of each leaf

    The program is traced and read; nothing is computed. `macs` says what counts as whose.

    Args:
      function, params, *args: as in `macs`: arrays or `jax.ShapeDtypeStruct`.
      masks: bool arrays in the tree of `params`, None where a leaf is dense; or None.

    Returns:
      A `Flops`; print it. Counts are exact integers and fractions.

    Raises:
      TypeError: function is not callable, or a mask is not bool.
      ValueError: masks do not fit params, or two leaves have one path.

    What remains is what a kernel could save that skips every zero; a dense product costs as much
    as before. It is exact where every weight of a leaf takes part equally often, as in a matrix
    product or a convolution, and a mean where a part of a leaf is used more than another.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params, masks = jaxprune.prune_params({"kernel": jnp.ones((8, 32))}, 0.75)
      >>> x = jax.ShapeDtypeStruct((64, 8), jnp.float32)
      >>> report = jaxprune.analysis.flops(lambda p, x: x @ p["kernel"], params, x, masks=masks)
      >>> report.flops, report.remaining
      (32768, Fraction(4096, 1))
    """
    paths, count = trace(function, params, args)
    leaves = flatten(params)[1]
    kept = {}
    if masks is not None:
        kept = {path: num_kept(m) for path, _, m in match(params, masks) if m is not None}
    rows = []
    for i, (path, leaf) in enumerate(zip(paths, leaves, strict=True)):
        shape = tuple(getattr(leaf, "shape", ()))
        size = math.prod(shape) if hasattr(leaf, "shape") else 0
        rows.append(LeafCost(path, shape, size, count.leaves.get(i, 0), kept.get(path, size)))
    return Flops(tuple(rows), count.others, tuple(sorted(count.partial)), masks is not None)
