"""Which indices of axes are kept, and cutting arrays to them."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxprune.compact import _axes
from jaxprune.compact._axes import Atom, Axis
from jaxprune.compact._ties import Ties

Kept = Sequence[np.ndarray | None]
"""For each axis of an array which indices are kept; None: all."""


_ALL = np.ones((1,), bool)


class Keep:
    """Which indices of atoms are kept; of others all are."""

    def __init__(self, of: dict[Atom, np.ndarray] | None = None):
        self.of = {} if of is None else of

    def assign(self, axis: Axis, kept: np.ndarray | None):
        """Says which indices of an axis are kept.

        Raises:
          ValueError: that cannot be, and why.
        """
        kept = np.ones((_axes.size(axis),), bool) if kept is None else kept
        parts = _axes.expand(axis)
        grid = kept.reshape([atom.size for atom in parts])
        vectors = [
            np.asarray(grid.any(tuple(j for j in range(len(parts)) if j != i)))
            for i in range(len(parts))
        ]
        if not np.array_equal(_outer(vectors), kept):
            raise ValueError("indices are kept there that do not go together")
        for atom, vector in zip(parts, vectors, strict=True):
            self._assign(atom, vector)

    def _assign(self, atom: Atom, kept: np.ndarray):
        if atom.pieces is not None:
            start = 0
            for piece in _axes.pieces(atom):
                n = _axes.size(piece)
                self.assign(piece, kept[start : start + n])
                start += n
        elif atom.frozen and not kept.all():
            raise ValueError(f"here it has to stay whole: {atom.frozen}")
        elif not np.array_equal(self.of.setdefault(atom, kept), kept):
            raise ValueError("here it is tied to an axis of which other indices are kept")

    def vector(self, axis: Axis) -> np.ndarray | None:
        """Which indices of an axis are kept; None: all."""
        return self._vector(axis) if self.is_cut(axis) else None

    def _vector(self, axis: Axis) -> np.ndarray:
        made = []
        for atom in _axes.expand(axis):
            if atom.pieces is not None:
                made.append(np.concatenate([self._vector(p) for p in _axes.pieces(atom)]))
            else:
                made.append(self.of[atom] if atom in self.of else np.ones((atom.size,), bool))
        return _outer(made)

    def is_cut(self, axis: Axis) -> bool:
        """Whether not all indices of an axis are kept."""
        return any(not self.of.get(root, _ALL).all() for root in _axes.roots(axis))

    def size(self, axis: Axis):
        """How many indices of an axis are kept."""
        return math.prod(self._size(atom) for atom in _axes.expand(axis))

    def _size(self, atom: Atom):
        if atom.pieces is not None:
            return sum(self.size(piece) for piece in _axes.pieces(atom))
        return int(self.of[atom].sum()) if atom in self.of else atom.size

    def cut(self, array, axes: Sequence[Axis]):
        """What is kept of an array."""
        return take(array, [self.vector(axis) for axis in axes])


def _outer(vectors) -> np.ndarray:
    """Row-major: an index is kept if its part in each vector is."""
    made = np.ones((1,), bool)
    for vector in vectors:
        made = (made[:, None] & vector).reshape(-1)
    return made


def take(array, kept: Kept):
    """An array at the indices that are kept."""
    for i, vector in enumerate(kept):
        if vector is not None:
            array = at(array, np.flatnonzero(vector), i)
    return array


def at(array, indices, axis: int):
    """An array at indices along an axis; of NumPy's one of NumPy's."""
    module = np if isinstance(array, np.ndarray) else jnp
    return module.take(array, indices, axis=axis)


def seeded(ties: Ties, kept: Sequence[Kept], names: Sequence[str]) -> Keep:
    """What is kept in a program, given what is kept of its arguments."""
    keep = Keep()
    for number, vectors, name in zip(ties.graph.body.inputs, kept, names, strict=True):
        for i, (axis, vector) in enumerate(zip(ties.of(number), vectors, strict=True)):
            if vector is None and not all(isinstance(n.size, int) for n in axis):
                continue
            try:
                keep.assign(axis, vector)
            except ValueError as error:
                raise ValueError(f"axis {i} of {name}: {error}.") from None
    return keep
