"""The scores at which groups of leaves are cut: a search over ordered keys.

Of many keys it begins at quantiles of a sample; of no more than a sample has, it needs none.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._sharding import num_devices, varying_as
from jaxprune.select import _keys, _wide
from jaxprune.select._search import (
    PROBES,
    advance,
    count,
    divide_evenly,
    interpolate,
    search,
)
from jaxprune.select._source import concatenate

# Keys in the sample, all groups together: of one device, and of several, which send them to each
# other. What is kept does not depend on it.
_SAMPLE_ALONE, _SAMPLE_SENT = 1 << 15, 1 << 12
# Where the first probes stand, in standard deviations of the sample's quantile.
_SPREAD = np.array([-2.5, -0.7, 0.0, 0.7, 2.5], np.float32)


def index_in_row(source, index=0):
    """The flat index within each row of a source, int32, counted from `index`."""
    shape, index = source.shape, jnp.int32(index)
    for axis, size in enumerate(shape[source.row_axes :], source.row_axes):
        index = index * size + lax.broadcasted_iota(jnp.int32, shape, axis)
    return jnp.broadcast_to(index, shape)


def column(vector, source):
    """[rows, ...] against the array of a source, which has axes of one element before the rest."""
    rows, rest = source.shape[: source.row_axes], vector.shape[1:]
    return vector.reshape(*rows, *(1,) * (len(source.shape) - source.row_axes), *rest)


@functools.partial(jax.jit, static_argnums=(1,), inline=True)
def _count_leaf(source, dtype, probes, tie, equal):
    # Without the barrier XLA hoists keys and indices out of the loop: copies of every parameter.
    source, probes, zero = lax.optimization_barrier((source, probes, jnp.int32(0)))
    keys = source.keys(dtype)
    index = index_in_row(source, zero).astype(keys.dtype)
    none = np.iinfo(keys.dtype).min
    keys = jnp.where(tie, jnp.where(keys == equal, -index, none), keys)
    reached = [keys >= probe for probe in jnp.unstack(column(probes, source), axis=-1)]
    counts = jnp.stack(count(reached, tuple(range(source.row_axes, keys.ndim))), axis=-1)
    return counts.reshape(-1, PROBES)


def most_in_sample() -> int:
    """About how many keys a sample has; no more than that are searched without one.

    On one device the turns that this takes besides cost less than the sample does. Over several
    each turn waits for the others: of so few keys that is what a search costs.
    """
    return _SAMPLE_ALONE if num_devices() == 1 else _SAMPLE_SENT


def _sample(sources, dtype, groups, num_groups, lowest, weights):
    """Every so-manieth key of each group, padded below the lowest, and what each of them weighs.

    Returns:
      Keys and static float32 numbers, both [groups, width].
    """
    share = max(most_in_sample() // num_groups, 1)
    rows, weighed = [], []
    for g in range(num_groups):
        members = [i for i, group in enumerate(groups) if group == g]
        # An odd stride visits every column of a matrix whose rows are a power of two long.
        stride = -(-sum(sources[i].size for i in members) // share) | 1
        rows.append([sources[i].sample(stride) for i in members])
        weighed.append(np.repeat(weights[members], [x.size for x in rows[-1]]))
    sizes = [len(row) for row in weighed]
    flat = _keys_of([x for row in rows for x in row], dtype)
    padded = np.stack([np.pad(row, (0, max(1, *sizes) - len(row))) for row in weighed])
    return _pad_rows(flat, sizes, lowest - 1), padded


def _pad_rows(flat, sizes, fill):
    """Vectors that lie one after the other in `flat`, as the padded rows of a matrix."""
    start = np.cumsum([0, *sizes[:-1]], dtype=np.int32)[:, None]
    column = np.arange(max(1, *sizes), dtype=np.int32)
    rows = flat.at[start + column].get(mode="fill", fill_value=fill)
    return jnp.where(column < np.array(sizes, np.int32)[:, None], rows, fill)


def _keys_of(sources, dtype):
    """The keys of flat sources, one after the other; in one go where their scores are alike."""
    if len({(x.scores, x.array.dtype, x.member is None) for x in sources}) == 1:
        return concatenate(sources).keys(dtype)
    return jnp.concatenate([x.keys(dtype) for x in sources])


def first_probes(sources, dtype, groups, num_keep, costs=None):
    """Quantiles of a sample around the rank that is asked for: ascending keys [groups, PROBES].

    With `costs` of leaves, `Costs`, a rank is what the keys up to it cost, in the highest cost.
    """
    low, high = _keys.key_range(dtype)
    num_groups = num_keep.shape[0]
    weights, unit = np.ones((len(sources),), np.float32), np.ones((num_groups,), np.float32)
    if costs is not None:
        weights = (costs.each / costs.highest).astype(np.float32)
        unit[costs.member] = costs.highest
    sizes = np.zeros((num_groups,), np.float32)
    each = [np.float32(x.size) * weight for x, weight in zip(sources, weights, strict=True)]
    np.add.at(sizes, np.asarray(groups), each)
    sample, weighed = _sample(sources, dtype, groups, num_groups, low, weights)
    sampled = weighed.sum(1, dtype=np.float32)
    asked = _wide.to_float(num_keep)
    fraction = (asked if costs is None else asked / unit) / np.maximum(sizes, 1)
    rank = fraction * sampled
    deviation = jnp.sqrt(rank * jnp.clip(1 - fraction, 0)) + 1
    ranks = rank[:, None] - _SPREAD[None] * deviation[:, None]
    ranks = jnp.clip(ranks, 0, sampled[:, None] + 1)

    def halve(_, bracket):
        lower, upper = bracket
        half = (upper.astype(_unsigned) - lower.astype(_unsigned)) >> 1
        middle = advance(lower, half)
        reached = [sample >= middle[:, p : p + 1] for p in range(PROBES)]
        if costs is None:
            number = jnp.stack(count(reached, (1,)), 1).astype(jnp.float32)
        else:
            number = jnp.stack([jnp.where(r, weighed, 0).sum(1) for r in reached], 1)
        enough = number >= ranks
        return jnp.where(enough, middle, lower), jnp.where(enough, upper, middle)

    _unsigned = jnp.dtype(f"uint{8 * sample.dtype.itemsize}")
    shape = (num_groups, PROBES)
    bracket = jnp.full(shape, low, sample.dtype), jnp.full(shape, high, sample.dtype)
    bracket = varying_as(bracket, (sample, ranks))
    probes, _ = lax.fori_loop(0, (high - low).bit_length(), halve, bracket)
    # Where many scores are equal, so are the quantiles: the next keys are what settles it.
    return jnp.minimum(probes + np.array([[0, 0, 1, 2, 3]], probes.dtype), high)


def find_thresholds(
    sources, dtype, groups, num_keep, balance, bracket, share, costs=None, *, near=False
):
    """Searches each group's threshold, and where to cut among the scores that equal it.

    Args:
      sources: what is ranked, a `Source` for each leaf, arrays [rows of the leaf, ...].
      dtype: the float dtype to compare in.
      groups: the group of each leaf, static.
      num_keep: limbs [groups, 1 or 2].
      balance, bracket, share, costs: as in `search`.
      near: whether the bracket says more about most of the thresholds than a sample would, where
        there are keys enough for one.

    Returns:
      State.
    """
    rows = [x.num_rows for x in sources]
    sizes = np.repeat([x.size // r for x, r in zip(sources, rows, strict=True)], rows)
    first = np.cumsum([0, *rows])

    def count_rows(probes, tie, equal):
        counts = [
            _count_leaf(x, dtype, probes[i : i + r], tie[i], equal[i])
            for x, i, r in zip(sources, first[:-1].tolist(), rows, strict=True)
        ]
        return jnp.concatenate(counts)

    interpolated = sum(x.size for x in sources) > most_in_sample()
    if not interpolated:
        probes = divide_evenly(bracket)
    elif near:
        probes = interpolate(bracket)
    else:
        of_leaves = None if costs is None else costs.take(first[:-1])
        probes = first_probes(sources, dtype, groups, num_keep, of_leaves)
        probes = probes[np.repeat(groups, rows)]
        probes = jnp.clip(probes, bracket.low[:, :1], bracket.high[:, :1])
    probes, sizes = varying_as(probes, sources), sizes.astype(np.int32)
    return search(
        count_rows, balance, bracket, probes, sizes, share, costs, interpolated=interpolated
    )
