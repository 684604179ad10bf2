"""Blocks: rectangles of weights that live or die together."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune import axes as _axes
from jaxprune.patterns import _pool
from jaxprune.select._source import Source


@dataclasses.dataclass(frozen=True)
class Block:
    """Rectangles of weights live or die together.

    A block's score is the mean of its scores. Where an axis is not a multiple of the block, the
    last blocks are smaller, and their mean is over the weights they have. Sparsity counts blocks.

    Args:
      shape: lengths of a block along `axes`, at least 1 each.
      axes: the axes that are cut into blocks; all others are not: a (3, 3, in, out) kernel has
        blocks of its own at each of the nine positions.

    Raises:
      TypeError: lengths or axes are not whole numbers.
      ValueError: a length is under 1, or shape and axes differ in number.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> w = {"kernel": jnp.array([[1.0, 1.0, 5.0], [1.0, 1.0, 4.0]])}
      >>> jaxprune.masks.make(w, 0.5, pattern=jaxprune.Block((2, 2)))["kernel"]
      Array([[False, False,  True],
             [False, False,  True]], dtype=bool)
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...] = (-2, -1)

    def __post_init__(self):
        for name in ("shape", "axes"):
            value = getattr(self, name)
            try:
                value = tuple(value)
            except TypeError as error:
                raise TypeError(f"Block: {name}={value!r} must be a tuple of integers.") from error
            if any(isinstance(v, bool) or not isinstance(v, int) for v in value):
                raise TypeError(f"Block: {name}={value!r} must hold whole numbers.")
            object.__setattr__(self, name, value)
        if len(self.shape) != len(self.axes):
            raise ValueError(
                f"Block: shape={self.shape} has {len(self.shape)} lengths for "
                f"{len(self.axes)} axes {self.axes}; give one for each."
            )
        if min(self.shape, default=0) < 1:
            raise ValueError(f"Block: shape={self.shape} must hold lengths of at least 1.")

    def _lengths(self, shape):
        """The block's length along every axis of a leaf."""
        lengths = [1] * len(shape)
        for axis, length in zip(self.axes, self.shape, strict=True):
            lengths[axis] = length
        return lengths

    def _grid(self, shape):
        return [-(-n // b) for n, b in zip(shape, self._lengths(shape), strict=True)]

    def check(self, shape, path):
        """The axes must exist."""
        _axes.normalize_all(self.axes, len(shape), f"{self!r} for {path}")

    def num_units(self, shape):
        """How many blocks, the smaller ones at the edges included."""
        return math.prod(self._grid(shape))

    def units(self, source: Source) -> Source:
        """The mean score of each block."""
        scores = source.scores(source.array)
        lengths, grid = self._lengths(scores.shape), self._grid(scores.shape)
        edges = self._edges(scores.shape)
        number = _sizes(scores.ndim, lengths, grid, edges) if any(edges) else None
        cut, inner = self._cut(scores)
        return Source(_pool.mean(cut, inner, number))

    def sums(self, values):
        """The sum over each block."""
        return _pool.total(*self._cut(values))

    def _edges(self, shape):
        """What the last blocks lack along every axis."""
        lengths = self._lengths(shape)
        return [-n % b for n, b in zip(shape, lengths, strict=True)]

    def _cut(self, values):
        """The values with two axes for each, of the grid and in a block, padded; and the latter."""
        lengths, grid = self._lengths(values.shape), self._grid(values.shape)
        edges = self._edges(values.shape)
        if any(edges):
            values = jnp.pad(values, [(0, edge) for edge in edges])
        cut = [d for g, b in zip(grid, lengths, strict=True) for d in (g, b)]
        return values.reshape(cut), tuple(range(1, len(cut), 2))

    def expand(self, values, shape):
        """Every weight of a block has the block's value."""
        lengths, grid = self._lengths(shape), self._grid(shape)
        values = jnp.expand_dims(values.reshape(grid), tuple(range(1, 2 * len(grid), 2)))
        cut = [d for g, b in zip(grid, lengths, strict=True) for d in (g, b)]
        full = jnp.broadcast_to(values, cut)
        full = full.reshape([g * b for g, b in zip(grid, lengths, strict=True)])
        return lax.slice(full, [0] * len(shape), shape)

    def first_units(self, shape):
        """None: scores alone decide."""
        return None

    def __str__(self):
        axes = f" axes {self.axes}" if self.axes != (-2, -1) else ""
        return f"block {'x'.join(map(str, self.shape))}{axes}"


def _sizes(ndim, lengths, grid, edges):
    """How many weights each block has: the last ones along an axis may be smaller."""
    sizes = jnp.ones((1,) * ndim, jnp.float32)
    for axis, (length, number, edge) in enumerate(zip(lengths, grid, edges, strict=True)):
        along = np.full(number, length, np.float32)
        along[-1:] -= edge
        sizes = sizes * along.reshape([-1 if i == axis else 1 for i in range(ndim)])
    return sizes
