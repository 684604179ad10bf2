"""Where to cut among equal scores: the flat index at which enough of them have been kept."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune.select import _keys
from jaxprune.select._search import count, keys_of, pad_rows, pick


def _matrix_shape(shape):
    """Rows and columns to count in: the shape's own axes where that is not too lopsided."""
    size = math.prod(shape)
    splits = [(math.prod(shape[:a]), math.prod(shape[a:])) for a in range(1, len(shape))]
    best = min(splits, key=max, default=(1, size))
    if max(best) <= 4 * math.isqrt(size) + 64:
        return best
    root = math.isqrt(size - 1) + 1
    for columns in range(root, root // 8, -1):
        if size % columns == 0:  # nothing to pad, so nothing to copy
            return size // columns, columns
    return -(-size // root), root


def _as_matrix(source):
    rows, columns = _matrix_shape(source.shape)
    padding = (0, rows * columns - source.size)
    return source.map(lambda x: jnp.pad(x.reshape(-1), padding).reshape(rows, columns))


def _first_reaching(counts, quota):
    """For each row of counts the smallest i with sum(counts[: i + 1]) >= quota, and the sum before.

    Both int32 [rows]; `counts` is int32 [rows, n], `quota` int32 [rows].
    """
    index = jnp.arange(counts.shape[1], dtype=jnp.int32)[None]

    def before(i):
        return jnp.sum(jnp.where(index < i[:, None], counts, 0), axis=1, dtype=jnp.int32)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high + 1) // 2
        short = before(middle) < quota
        return jnp.where(short, middle, low), jnp.where(short, high, middle - 1)

    zero = jnp.zeros_like(quota)
    bracket = zero, zero + (counts.shape[1] - 1)
    position, _ = lax.fori_loop(0, counts.shape[1].bit_length(), halve, bracket)
    return position, before(position)


@functools.partial(jax.jit, inline=True)
def _row(source, chosen, i):
    row = pick(chosen, i)
    return _as_matrix(source).map(lambda x: lax.dynamic_index_in_dim(x, row, keepdims=False))


@functools.partial(jax.jit, static_argnums=(1,), inline=True)
def _equal_per_row(source, dtype, thresholds, i):
    threshold = pick(thresholds, i)
    rows, columns = _matrix_shape(source.shape)
    keys = _as_matrix(source).keys(dtype)
    inside = True
    if rows * columns > source.size:
        flat = lax.broadcasted_iota(jnp.int32, (rows, columns), 0) * columns
        inside = flat + lax.broadcasted_iota(jnp.int32, (rows, columns), 1) < source.size
    reached, passed = count([inside & (keys >= threshold), inside & (keys > threshold)], (1,))
    return reached - passed


def find_cuts(sources, dtype, thresholds, quotas):
    """The flat index below which `quota` scores equal the threshold, for each leaf.

    Counts equals per row of a nearly square view, then within the one row that the cut falls in.

    Args:
      sources: a `Source` for each leaf, none empty.
      dtype: the float dtype to compare in.
      thresholds: keys, [leaves].
      quotas: int32 [leaves], at most the number of scores equal to the threshold.

    Returns:
      int32 [leaves]; anything where the quota is 0.
    """
    rows, columns = np.array([_matrix_shape(x.shape) for x in sources], np.int32).T
    per_row = [_equal_per_row(x, dtype, thresholds, jnp.int32(i)) for i, x in enumerate(sources)]
    row, above = _first_reaching(pad_rows(jnp.concatenate(per_row), rows, 0), quotas)
    chosen = [_row(x, row, jnp.int32(i)) for i, x in enumerate(sources)]
    lowest, _ = _keys.key_range(dtype)
    in_row = pad_rows(keys_of(chosen, dtype), columns, lowest - 1) == thresholds[:, None]
    column, _ = _first_reaching(in_row.astype(jnp.int32), quotas - above)
    return row * columns + column + 1
