"""Thresholds by counting: the key that exactly k of n scores reach, in a handful of passes.

A pass counts how many keys reach each of PROBES thresholds. The first probes are quantiles of a
strided sample; the next ones interpolate on the counts. A pass that did not shrink the bracket is
followed by one that divides it evenly, so the number of passes is bounded whatever the scores are.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune.select import _keys, _wide
from jaxprune.select._source import concatenate

PROBES = 5
_SAMPLE = 1 << 15  # keys in the sample, all groups together
_SAMPLE_MIN = 1 << 9  # and at least in each group
# Where the probes stand, in standard deviations of where the threshold is expected.
_SPREAD_SAMPLE = np.array([-2.5, -0.7, 0.0, 0.7, 2.5], np.float32)
_SPREAD_COUNTS = np.array([-1.8, -0.5, 0.0, 0.5, 1.8], np.float32)


class Brackets(NamedTuple):
    """For each group: the threshold lies in [low, high). For each leaf: how many keys reach those.

    When the search ends, either `at_low` keeps exactly what was asked for, or `high == low + 1`
    and some of the scores equal to `low` have to go.
    """

    low: jax.Array
    high: jax.Array
    at_low: jax.Array
    at_high: jax.Array


def count(predicates, axes):
    """How many are True along `axes`, for two or more predicates in one read of what they share.

    One reduction of several operands: XLA's CPU code for it is vectorised and threaded, while of
    a single predicate it first stores the converted array, and runs ten times slower.
    """
    zero = jnp.zeros((), jnp.int32)
    return lax.reduce(
        tuple(p.astype(jnp.int32) for p in predicates),
        (zero,) * len(predicates),
        lambda a, b: tuple(map(lax.add, a, b)),
        axes,
    )


def _distance(low, high):
    """High - low as unsigned: the range of keys does not fit the signed type."""
    unsigned = jnp.dtype(f"uint{8 * low.dtype.itemsize}")
    return high.astype(unsigned) - low.astype(unsigned)


def _advance(low, offset):
    return (low.astype(offset.dtype) + offset).astype(low.dtype)


def pick(vector, i):
    """vector[i] for an index held at run time: one compiled kernel serves all leaves of a shape."""
    i = lax.optimization_barrier(i)
    return lax.dynamic_slice_in_dim(vector, i, 1).reshape(vector.shape[1:])


@functools.partial(jax.jit, static_argnums=(1,), inline=True)
def _count_leaf(source, dtype, probes, group):
    # Without the barrier XLA hoists the keys out of the loop: a copy of every parameter.
    source, probes = lax.optimization_barrier((source, probes))
    thresholds = pick(probes, group)
    keys = source.keys(dtype)
    reached = [keys >= thresholds[p] for p in range(PROBES)]
    return jnp.stack(count(reached, tuple(range(keys.ndim))))


def _group_totals(counts, groups, num_groups):
    """[leaves, ...] int32 -> [groups, ..., 2] limbs."""
    if list(groups) == list(range(num_groups)):
        return _wide.from_int32(counts)
    members = [np.flatnonzero(np.asarray(groups) == g) for g in range(num_groups)]
    return jnp.stack([_wide.total(counts[m]) for m in members])


def _sample(sources, dtype, groups, num_groups, lowest):
    """Every so-manieth key of each group, padded below the lowest: [groups, width], and sizes."""
    share = max(_SAMPLE // num_groups, _SAMPLE_MIN)
    rows = []
    for g in range(num_groups):
        members = [x for x, group in zip(sources, groups, strict=True) if group == g]
        # An odd stride visits every column of a matrix whose rows are a power of two long.
        stride = max(1, sum(x.size for x in members) // share) | 1
        rows.append([x.map(lambda a: a.reshape(-1)[::stride]) for x in members])  # noqa: B023
    sizes = [sum(x.size for x in row) for row in rows]
    flat = keys_of([x for row in rows for x in row], dtype)
    return pad_rows(flat, sizes, lowest - 1), np.array(sizes, np.float32)


def pad_rows(flat, sizes, fill):
    """Vectors that lie one after the other in `flat`, as the padded rows of a matrix."""
    start = np.cumsum([0, *sizes[:-1]], dtype=np.int32)[:, None]
    column = np.arange(max(1, *sizes), dtype=np.int32)
    rows = flat.at[start + column].get(mode="fill", fill_value=fill)
    return jnp.where(column < np.array(sizes, np.int32)[:, None], rows, fill)


def keys_of(sources, dtype):
    """The keys of flat sources, one after the other; in one go where their scores are alike."""
    if len({(x.scores, x.array.dtype, x.member is None) for x in sources}) == 1:
        return concatenate(sources).keys(dtype)
    return jnp.concatenate([x.keys(dtype) for x in sources])


def _first_probes(sources, dtype, groups, num_keep, sizes):
    """Quantiles of a sample around the rank that is asked for: [groups, PROBES]."""
    low, high = _keys.key_range(dtype)
    sample, sampled = _sample(sources, dtype, groups, len(sizes), low)
    fraction = _wide.to_float(num_keep) / np.maximum(np.array(sizes, np.float32), 1)
    rank = fraction * sampled
    deviation = jnp.sqrt(rank * jnp.clip(1 - fraction, 0)) + 1
    ranks = rank[:, None] - _SPREAD_SAMPLE[None] * deviation[:, None]
    ranks = jnp.clip(ranks, 0, sampled[:, None] + 1)

    def halve(_, bracket):
        lower, upper = bracket
        middle = _advance(lower, _distance(lower, upper) >> 1)
        reached = count([sample >= middle[:, p : p + 1] for p in range(PROBES)], (1,))
        enough = jnp.stack(reached, 1) >= ranks
        return jnp.where(enough, middle, lower), jnp.where(enough, upper, middle)

    shape = (len(sizes), PROBES)
    bracket = jnp.full(shape, low, sample.dtype), jnp.full(shape, high, sample.dtype)
    probes, _ = lax.fori_loop(0, (high - low).bit_length(), halve, bracket)
    # Where many scores are equal, so are the quantiles: the next keys are what settles it.
    return probes + np.array([[0, 0, 1, 2, 3]], probes.dtype)


def _next_probes(bracket, excess, missing, shrunk):
    """Interpolates where the counts say that the threshold is; evenly where that did not help."""
    between = jnp.maximum(excess + missing, 1)
    position = excess / between
    width = _distance(bracket.low, bracket.high)
    deviation = jnp.sqrt(between * position * (1 - position)) + 0.5
    guess = position[:, None] + _SPREAD_COUNTS[None] * (deviation / between)[:, None]
    even = np.arange(1, PROBES + 1, dtype=np.float32)[None] / (PROBES + 1)
    where = jnp.clip(jnp.where(shrunk[:, None], guess, even), 0, 1)
    # Largest float32 below the unsigned range: the product must not wrap.
    most = np.float32(np.nextafter(np.float32(2.0 ** (8 * width.dtype.itemsize)), np.float32(0)))
    offset = jnp.minimum(where * width.astype(jnp.float32)[:, None], most).astype(width.dtype)
    order = np.arange(1, PROBES + 1, dtype=width.dtype)[None]
    inner = jnp.where(width > PROBES, width - PROBES, 1)[:, None] + order - 1
    offset = jnp.clip(offset, order, inner)  # distinct, and strictly inside the bracket
    return _advance(bracket.low[:, None], jnp.minimum(offset, width[:, None]))


def find_brackets(
    sources, dtype, groups, num_keep, *, lower=None, upper=None, start=None
) -> Brackets:
    """Brackets each group's threshold until the count is exact or the bracket is one key wide.

    Args:
      sources: what is ranked, a `Source` for each leaf.
      dtype: the float dtype to compare in.
      groups: for each leaf the number of its group, static.
      num_keep: int32 limbs [groups, 2], between the sums of `lower` and of `upper`.
      lower, upper: int32 [leaves], bounds on what a leaf keeps, or None.
      start: brackets that are known already, or None.

    Returns:
      Brackets.
    """
    num_groups = num_keep.shape[0]
    low, high = _keys.key_range(dtype)
    member = np.asarray(groups)
    sizes = [
        sum(x.size for x, g in zip(sources, groups, strict=True) if g == n)
        for n in range(num_groups)
    ]

    def balance(counts):  # [leaves, n] -> kept minus asked for, limbs [groups, n, 2]
        if lower is not None:
            counts = jnp.clip(counts, lower[:, None], upper[:, None])
        totals = _group_totals(counts, groups, num_groups)
        return _wide.subtract(totals, num_keep[:, None])

    def assess(bracket):  # kept too many, kept too few, and whether the search is over
        off = balance(jnp.stack([bracket.at_low, bracket.at_high], 1))
        exact = jnp.any(_wide.equal(off, 0), 1)
        return (
            _wide.to_float(off[:, 0]),
            -_wide.to_float(off[:, 1]),
            exact | (_distance(bracket.low, bracket.high) <= 1),
        )

    def narrow(state):
        old, probes, _ = state
        counts = jnp.stack(
            [
                _count_leaf(x, dtype, probes, jnp.int32(g))
                for x, g in zip(sources, groups, strict=True)
            ]
        )
        enough = balance(counts)[..., 0] >= 0  # [groups, PROBES]
        up, down = enough[member], ~enough[member]
        # Counts fall as thresholds rise, in every leaf: the best probe has the extreme count.
        new = Brackets(
            jnp.maximum(old.low, jnp.max(jnp.where(enough, probes, old.low[:, None]), 1)),
            jnp.minimum(old.high, jnp.min(jnp.where(enough, old.high[:, None], probes), 1)),
            jnp.minimum(old.at_low, jnp.min(jnp.where(up, counts, old.at_low[:, None]), 1)),
            jnp.maximum(old.at_high, jnp.max(jnp.where(down, counts, old.at_high[:, None]), 1)),
        )
        excess, missing, done = assess(new)
        shrunk = _distance(new.low, new.high) <= _distance(old.low, old.high) // 2
        return new, _next_probes(new, excess, missing, shrunk), done

    if start is None:
        start = Brackets(
            jnp.full((num_groups,), low, _keys.key_dtype(dtype)),
            jnp.full((num_groups,), high, _keys.key_dtype(dtype)),
            jnp.stack([x.most for x in sources]),
            jnp.zeros((len(sources),), jnp.int32),
        )
    done = assess(start)[2]
    probes = lax.cond(
        jnp.all(done),
        lambda: jnp.zeros((num_groups, PROBES), _keys.key_dtype(dtype)),
        lambda: _first_probes(sources, dtype, groups, num_keep, sizes),
    )
    bracket, _, _ = lax.while_loop(lambda state: ~jnp.all(state[2]), narrow, (start, probes, done))
    # Where what reaches `high` is exactly enough, `high` is the threshold.
    at_high = _wide.equal(balance(bracket.at_high[:, None])[:, 0], 0)
    return Brackets(
        jnp.where(at_high, bracket.high, bracket.low),
        bracket.high,
        jnp.where(at_high[member], bracket.at_high, bracket.at_low),
        bracket.at_high,
    )
