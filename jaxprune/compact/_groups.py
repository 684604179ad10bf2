"""Groups of parameter axes that have to be cut together."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxprune import _table
from jaxprune.compact._axes import Atom
from jaxprune.compact._ties import Ties

_SHOWN = 4  # leaves with one reason


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """An axis of a leaf that a group runs along.

    Attributes:
      path: of the leaf.
      axis: its number, from 0.
      units: int32 [length of the axis], the unit of the group at each index; -1 where there is
        none, as in the other parts of a concatenation.
    """

    path: str
    axis: int
    units: np.ndarray

    def __str__(self):
        return f"{self.path}[{self.axis}]"


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Parts of axes that are tied index by index: channels, features, heads, and in heads.

    Attributes:
      name: the axis of the leaf that is used first, such as "Conv_0/kernel[3]".
      size: how many units.
      members: all axes along which it runs.
      flags: why a program without some units computes something else than one in which their
        weights are masked; empty where it does not.
      ordered: why units cannot change places, or None: something that is no parameter, such as the
        angles of rotary embeddings, runs along it.
      step: how many indices of an axis a unit is at least: 64 for heads of 64. Of several axes the
        smallest.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    flags: tuple[str, ...]
    ordered: str | None
    step: int


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A part of a parameter axis that has to stay whole, and why."""

    path: str
    axis: int
    size: int
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Leaf:
    """What is known of a leaf.

    Attributes:
      path, shape, dtype: of the leaf.
      weight: whether it is a floating parameter; state such as running means is cut and not scored.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    weight: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """What `trace_groups` finds. It prints as a table, and is a sequence of `Group`s.

    Attributes:
      groups: in the order in which the call uses them.
      frozen: parts of axes of parameters that stay whole.
      leaves: all leaves of the tree that was traced.
      apply: the function that was traced.
      structure: of the tree that was traced.
      paths: of all its leaves, also of those that are no arrays.
    """

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    leaves: tuple[Leaf, ...]
    apply: Callable[..., Any]
    structure: Any
    paths: tuple[str, ...]
    _ties: Ties
    _roots: Mapping[str, Atom]
    _numbers: Mapping[str, int]

    def __len__(self):
        return len(self.groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __getitem__(self, name: str | int) -> Group:
        """A group by its name or its number."""
        if isinstance(name, int | np.integer):
            return self.groups[name]
        for group in self.groups:
            if group.name == name:
                return group
        known = ", ".join(group.name for group in self.groups[:8])
        raise KeyError(f"no group is called {name!r}; there are {known}.")

    def __repr__(self):
        return f"Groups({len(self)} groups of {len(self.leaves)} leaves)"

    def __str__(self):
        """A table; raises ImportError without rich."""
        rows = [
            [
                group.name,
                "; ".join(group.flags) or "equal",
                str(group.size),
                str(len(group.members)),
            ]
            for group in self.groups
        ]
        columns = ["group", "cut against masked", "units", "axes"]
        table = _table.render("the table of groups", columns, rows, left=2)
        if not self.frozen:
            return table
        axes: dict[tuple[str, str], list[int]] = {}
        for part in self.frozen:
            axes.setdefault((part.path, part.reason), []).append(part.axis)
        alike: dict[tuple[str, str], list[str]] = {}
        for (path, why), own in axes.items():
            alike.setdefault((", ".join(map(str, dict.fromkeys(own))), why), []).append(path)
        rows = []
        for (own_axes, why), paths in alike.items():
            shown = paths if len(paths) <= _SHOWN else paths[:1]
            rows += [[f"{path}[{own_axes}]", why] for path in shown]
            if len(paths) > len(shown):
                rows.append([f"and {len(paths) - 1} leaves more", why])
        columns = ["stays whole", "reason"]
        return f"{table}\n{_table.render('the table of groups', columns, rows, left=2)}"
