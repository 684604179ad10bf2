"""Tied axes: units that have weights in several leaves."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.patterns import _pool


class Units:
    """The unit of each index of an axis: an int32 array that can be hashed and compared."""

    def __init__(self, numbers):
        given = np.asarray(numbers)
        if given.ndim != 1 or not (given.size == 0 or np.issubdtype(given.dtype, np.integer)):
            raise TypeError(
                f"units={numbers!r} must be whole numbers, one for each index of the axis."
            )
        self.array = given.astype(np.int32)
        self.array.flags.writeable = False
        self._bytes = self.array.tobytes()
        self._hash = hash(self._bytes)

    def __eq__(self, other):
        return self is other or (isinstance(other, Units) and self._bytes == other._bytes)

    def __hash__(self):
        return self._hash

    def __repr__(self):
        return repr(self.array.tolist())


@dataclasses.dataclass(frozen=True)
class Group:
    """Units that are ranked against each other, such as the channels between two layers.

    Args:
      name: what messages, `scope`, `allocate` and `cost` call it.
      size: how many units it has, at least 1.
      keep: how many of them are kept in the end, 0 to `size`; None: as the sparsity says.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind or out of range.

    Example:
      >>> from jaxprune import patterns
      >>> patterns.Group("conv1", 64, keep=48)
      Group(name='conv1', size=64, keep=48)
    """

    name: str
    size: int
    keep: int | None = None

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"Group: name={self.name!r} must be a string.")
        for field, lowest in [("size", 1), ("keep", 0)]:
            value = getattr(self, field)
            if field == "keep" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"Group {self.name!r}: {field}={value!r} must be a whole number.")
            if value < lowest:
                raise ValueError(f"Group {self.name!r}: {field}={value} must be from {lowest}.")
            object.__setattr__(self, field, int(value))
        if self.keep is not None and self.keep > self.size:
            raise ValueError(f"Group {self.name!r}: keep={self.keep} of {self.size} units.")


@dataclasses.dataclass(frozen=True)
class Member:
    """Where weights of a group lie: along one axis of one leaf.

    Args:
      path: of the leaf, `a/b/kernel`.
      shape: of the leaf.
      axis: whose indices belong to units, negative counted from the end.
      group: the number of the group.
      units: for each index of the axis its unit, or -1 where it belongs to none of this group; any
        sequence or NumPy array of `shape[axis]` whole numbers.

    Raises:
      TypeError, ValueError: there is no such axis, or units are not as many as it has indices.

    Example:
      >>> from jaxprune import patterns
      >>> patterns.Member("fused/kernel", (3, 4), -1, group=0, units=[0, 1, 0, 1])
      Member(path='fused/kernel', shape=(3, 4), axis=1, group=0, units=[0, 1, 0, 1])
    """

    path: str
    shape: tuple[int, ...]
    axis: int
    group: int
    units: Any

    def __post_init__(self):
        shape = tuple(int(n) for n in self.shape)
        for field in ("axis", "group"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"Member {self.path}: {field}={value!r} must be a whole number.")
        if not -len(shape) <= self.axis < len(shape):
            raise ValueError(f"Member {self.path}: axis={self.axis} of a leaf of shape {shape}.")
        units = self.units if isinstance(self.units, Units) else Units(self.units)
        axis = int(self.axis) % len(shape)
        if len(units.array) != shape[axis]:
            raise ValueError(
                f"Member {self.path}: units has {len(units.array)} numbers, but axis {axis} of "
                f"shape {shape} has {shape[axis]} indices."
            )
        for field, value in [("shape", shape), ("axis", axis), ("units", units)]:
            object.__setattr__(self, field, value)
        object.__setattr__(self, "group", int(self.group))


@dataclasses.dataclass(frozen=True)
class Tied:
    """Axes of several leaves are tied: a unit takes its weights in all of them with it.

        score of a unit = sum over members of the scores of all weights at its indices
        mask of a leaf  = and over its members of (its unit is kept, or the index has none)

    The outputs of a layer, its bias, the scale of the norm behind it and the inputs of the next
    layer are one group. Sparsity counts units, in each group or, with a `scope`, in all groups
    together; scores of units add up, so groups that have more weights score more.

    With `keep=` a group is ranked by itself, and a schedule only says how far along it is:

        kept = round(size * (1 - (1 - keep / size) * s / s_final))

    All members have masks, also biases and scales; other leaves are dense. `scope`, `allocate` (a
    mapping) and `cost` know groups by their names, bounds are those of every group, and `Rule`s may
    give members a score and nothing else. Criteria that ask for a leaf's pattern, such as
    `scores.taylor`, cannot be used, nor transforms that exchange weights, such as `rigl`.

    Args:
      groups: a sequence of `Group`s, each with a name of its own.
      members: a sequence of `Member`s. An axis may have several, of different groups, and a leaf
        may have members on several axes.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind; a name or a member is there twice; a
        member has a group or a unit that does not exist; a unit has no index anywhere.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> from jaxprune.patterns import Group, Member, Tied
      >>> tied = Tied(
      ...     [Group("hidden", 2)],
      ...     [Member("a", (1, 2), 1, 0, [0, 1]), Member("b", (2, 1), 0, 0, [0, 1])],
      ... )
      >>> params = {"a": jnp.array([[3.0, 2.0]]), "b": jnp.array([[1.0], [9.0]])}
      >>> masks = jaxprune.masks.make(params, 0.5, pattern=tied)
      >>> masks["a"].tolist(), masks["b"].tolist()
      ([[False, True]], [[False], [True]])

    References:
      Fang et al., DepGraph: towards any structural pruning, arXiv 2301.12900.
    """

    groups: tuple[Group, ...]
    members: tuple[Member, ...]

    def __post_init__(self):
        for field, kind in [("groups", Group), ("members", Member)]:
            given = tuple(getattr(self, field))
            strange = [x for x in given if not isinstance(x, kind)]
            if strange:
                raise TypeError(f"Tied: {field} holds {strange[0]!r}; give {kind.__name__}s.")
            object.__setattr__(self, field, given)
        _check_names([group.name for group in self.groups])
        _check_members(self.groups, self.members)

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the leaves that have members, each once."""
        return tuple(dict.fromkeys(member.path for member in self.members))

    def planned(self, keep: Mapping[str, int] | None) -> "Tied":
        """The same groups with other numbers of units to keep.

        Args:
          keep: name of the group -> `keep`; None in the place of groups that are not named, and
            of all groups if there is no mapping.

        Raises:
          TypeError, ValueError: a name is not that of a group; a number is out of range.
        """
        keep = {} if keep is None else keep
        names = [group.name for group in self.groups]
        strange = [name for name in keep if name not in names]
        if strange:
            raise ValueError(
                f"keep names {strange[0]!r}, which is no group; they are {', '.join(names[:8])}."
            )
        if all(group.keep == keep.get(group.name) for group in self.groups):
            return self
        groups = (dataclasses.replace(g, keep=keep.get(g.name)) for g in self.groups)
        return dataclasses.replace(self, groups=tuple(groups))

    def sums(self, values: Mapping[str, jax.Array]) -> list[jax.Array]:
        """For each group the sums over its units, float32 [size], the same in any order.

        Args:
          values: path -> array of the shape of the leaf, for every leaf that has members.
        """
        axes = dict.fromkeys((m.path, m.axis) for m in self.members)
        along = {(path, axis): _along(values[path], axis) for path, axis in axes}
        found = []
        for number, group in enumerate(self.groups):
            own = [m for m in self.members if m.group == number]
            where = _places(np.concatenate([m.units.array for m in own]), group.size)
            found.append(_totals([along[m.path, m.axis] for m in own], where))
        return found

    def expand(self, masks: Sequence[jax.Array]) -> dict[str, jax.Array]:
        """Path -> mask, for every leaf that has members.

        Args:
          masks: for each group a bool array [size].
        """
        found: dict[str, jax.Array] = {}
        for m in self.members:
            kept = _kept(masks[m.group], m.units.array, m.axis, len(m.shape))
            found[m.path] = found[m.path] & kept if m.path in found else kept
        shapes = {m.path: m.shape for m in self.members}
        return {path: jnp.broadcast_to(mask, shapes[path]) for path, mask in found.items()}

    def __str__(self):
        return "tied"


def _check_names(names):
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"Tied: two groups have the name {twice[0]!r}; give each its own.")


def _check_members(groups, members):
    """Every number of a group and of a unit exists, and every unit is somewhere."""
    seen = [np.zeros((group.size,), bool) for group in groups]
    places = set()
    for m in members:
        if not 0 <= m.group < len(groups):
            raise ValueError(f"Tied: {m.path} is in group {m.group}, but there are {len(groups)}.")
        group, units = groups[m.group], m.units.array
        if (m.path, m.axis, m.group) in places:
            raise ValueError(
                f"Tied: axis {m.axis} of {m.path} is twice a member of {group.name!r}; put its "
                "units into one."
            )
        places.add((m.path, m.axis, m.group))
        wrong = units[(units < -1) | (units >= group.size)]
        if wrong.size:
            raise ValueError(
                f"Tied: axis {m.axis} of {m.path} has unit {wrong[0]} of {group.name!r}, whose "
                f"units are 0 to {group.size - 1}, and -1 for none."
            )
        seen[m.group][units[units >= 0]] = True
    for group, there in zip(groups, seen, strict=True):
        if not there.all():
            raise ValueError(
                f"Tied: unit {int(np.argmin(there))} of {group.name!r} has no weights; every unit "
                "is at an index of some member."
            )


def _along(values, axis):
    """The sum at each index of an axis, float32."""
    if values.size == 0:
        return jnp.zeros((values.shape[axis],), jnp.float32)
    return _pool.total(values, tuple(a for a in range(values.ndim) if a != axis))


_program = functools.partial(jax.jit, inline=True)  # one program for a shape, without jit too


@_program
def _totals(parts, where):
    """What lies at the places of each unit, of all parts, is added up."""
    padded = jnp.concatenate([*parts, jnp.zeros((1,), jnp.float32)])
    return _pool.total(padded[where], (1,))


@functools.partial(_program, static_argnums=(2, 3))
def _kept(mask, units, axis, ndim):
    """Which indices of an axis are kept, with that many axes."""
    kept = mask[jnp.maximum(units, 0)] | (units < 0)
    return jnp.expand_dims(kept, [a for a in range(ndim) if a != axis])


def _places(units, size):
    """int32 [size, most]: where each unit is among `units`; behind the last, where nowhere."""
    there = np.flatnonzero(units >= 0)
    there = there[np.argsort(units[there], kind="stable")]
    owner = units[there]
    numbers = np.bincount(owner, minlength=size)
    first = np.cumsum(numbers) - numbers
    places = np.full((size, numbers.max()), len(units), np.int32)
    places[owner, np.arange(len(there)) - first[owner]] = there
    return places
