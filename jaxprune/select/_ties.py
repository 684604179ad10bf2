"""Masks of a known threshold where some of the scores equal to it have to go: by counting, too."""

import math

import jax.numpy as jnp
from jax import lax

from jaxprune.select import _keys
from jaxprune.select._search import count


def _rows(shape):
    """How many leading axes make the rows of a nearly square view of `shape`."""
    size = math.prod(shape)

    def longest(axis):
        rows = math.prod(shape[:axis])
        return max(rows, size // rows)

    return min(range(len(shape)), key=longest, default=0)


def _first_reaching(counts, quota):
    """The smallest i with sum(counts[: i + 1]) >= quota, and the sum before it."""
    index = jnp.arange(counts.shape[0], dtype=jnp.int32)

    def before(i):
        return jnp.sum(jnp.where(index < i, counts, 0), dtype=jnp.int32)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high + 1) // 2
        short = before(middle) < quota
        return jnp.where(short, middle, low), jnp.where(short, high, middle - 1)

    bracket = jnp.int32(0), jnp.int32(counts.shape[0] - 1)
    position, _ = lax.fori_loop(0, counts.shape[0].bit_length(), halve, bracket)
    return position, before(position)


def cut_mask(scores, dtype, threshold, quota):
    """Keeps the scores above `threshold`, and the first `quota` equal to it in row-major order.

    Counts equals per row of a nearly square view, then within the one row that the cut falls in.

    Args:
      scores: float array or keys, not empty.
      dtype: the float dtype to compare in.
      threshold: a key, scalar.
      quota: int32 scalar, 1 <= quota <= number of scores equal to the threshold.

    Returns:
      bool, the shape of `scores`.
    """
    split = _rows(scores.shape)
    if split:
        rows = scores.reshape(math.prod(scores.shape[:split]), -1)
    else:  # one axis, or all but one short: fold what lies flat, padded
        columns = math.isqrt(scores.size - 1) + 1
        rows = jnp.pad(scores.reshape(-1), (0, -scores.size % columns)).reshape(-1, columns)
    inside = _inside(rows.shape, scores.size)

    keys = _keys.to_keys(rows, dtype)
    reached, passed = count([inside & (keys >= threshold), inside & (keys > threshold)], (1,))
    row, above = _first_reaching(reached - passed, quota)
    in_row = _keys.to_keys(lax.dynamic_index_in_dim(rows, row, keepdims=False), dtype) == threshold
    column, _ = _first_reaching(in_row.astype(jnp.int32), quota - above)

    # The barrier makes XLA compute the keys again rather than keep them: a copy of the scores.
    rows, row, column = lax.optimization_barrier((rows, row, column))
    keys = _keys.to_keys(rows, dtype)
    before = jnp.where(_iota(rows.shape, 0) == row, column + 1, rows.shape[1])
    before = jnp.where(_iota(rows.shape, 0) > row, 0, before)
    mask = (keys > threshold) | ((keys == threshold) & (_iota(rows.shape, 1) < before))
    return mask.reshape(-1)[: scores.size].reshape(scores.shape)


def _iota(shape, axis):
    return lax.broadcasted_iota(jnp.int32, shape, axis)


def _inside(shape, size):
    """True where a folded view holds an element, not padding."""
    full, rest = divmod(size, shape[1])
    if rest == 0:
        return jnp.ones((), bool)
    return (_iota(shape, 0) < full) | (_iota(shape, 1) < rest)
