"""Exact selection: the k highest of n scores, without sorting."""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._sharding import num_devices, with_auto_axes
from jaxprune.select import _keys, _wide
from jaxprune.select._rows import row_lengths, wanted
from jaxprune.select._search import Bracket
from jaxprune.select._source import Source
from jaxprune.select._thresholds import column, find_thresholds, index_in_row


@functools.partial(jax.jit, static_argnums=(1,), inline=True)
def _leaf_mask(source, dtype, threshold, cuts):
    """What reaches the threshold, and what is just below it and before the cut of its row."""
    keys = source.keys(dtype)
    before = index_in_row(source) < column(cuts, source)
    mask = (keys >= threshold) | ((keys == threshold - 1) & before)
    return mask if source.member is None else mask | (source.member & ~source.wanted)


def _sums(limbs, member, num_groups):
    """[rows, ...] limbs -> [groups, ...] limbs."""
    if num_groups == 1:
        return _wide.total(limbs)[None]
    if member.tolist() == list(range(num_groups)):
        return limbs
    return jnp.stack([_wide.total(limbs[member == g]) for g in range(num_groups)])


def _of_rows(values, member):
    """[groups, ...] -> [rows, ...]."""
    return values if member.tolist() == list(range(len(values))) else values[member]


def _share(spare, member, missing):
    """How much of `spare` each row takes until its group has what it is missing, in order.

    Args:
      spare: limbs [rows, 2].
      member: the group of each row, static.
      missing: limbs [rows, 2], of its group.

    Returns:
      limbs [rows, 2], from 0 to `spare`.
    """
    if member.tolist() != list(range(len(member))):
        order = np.argsort(member, kind="stable")
        back = np.argsort(order, kind="stable")
        start = np.searchsorted(member[order], member[order])
        before = _wide.totals_before(spare[order])
        missing = _wide.subtract(missing, _wide.subtract(before, before[start])[back])
    return _wide.clip(missing, 0, spare)


def select(sources, groups, num_keep, *, lower=None, upper=None, longest=2**31 - 1):
    """Masks of many leaves: the engine below the public functions.

    Args:
      sources: a `Source` for each leaf.
      groups: for each leaf the number of its group, static.
      num_keep: int32 limbs [groups, 2].
      lower, upper: int32 limbs [leaves, 2], bounds on what a leaf keeps, or None.
      longest: how many elements a row may have; more than the default no int32 can count.

    Returns:
      A list of bool arrays.
    """
    filled = [i for i, x in enumerate(sources) if x.size]
    masks = [jnp.zeros(x.shape, bool) for x in sources]
    if filled:
        some = np.array(filled)
        lower, upper = (None, None) if lower is None else (lower[some], upper[some])
        of_some = _select_filled(
            [sources[i] for i in filled],
            tuple(groups[i] for i in filled),
            jnp.asarray(num_keep),
            lower,
            upper,
            longest,
        )
        for i, mask in zip(filled, of_some, strict=True):
            masks[i] = mask
    return masks


def _select_filled(leaves, groups, num_keep, lower, upper, longest):
    dtype = _keys.common_dtype([x.dtype for x in leaves])
    total = sum(x.size for x in leaves)
    devices = num_devices()
    sources = [
        x.in_rows(row_lengths(x.shape, x.unit, longest, wanted(x, total), devices)) for x in leaves
    ]
    rows = [x.num_rows for x in sources]
    leaf = np.repeat(np.arange(len(sources)), rows)  # of each row
    bracket, bounded = _all_keys(sources, dtype), lower is not None
    if bounded:
        num_keep, bracket = _within_bounds(sources, dtype, groups, leaf, num_keep, lower, upper)
        groups = tuple(range(len(sources)))
    member = np.asarray(groups)[leaf]

    def balance(counts):
        totals = _sums(_wide.from_int32(counts), member, len(num_keep))
        return _of_rows(_wide.subtract(totals, num_keep[:, None]), member)

    def share(spare, bracket):
        missing = _wide.negative(bracket.excess[:, 1])
        return _wide.to_int32(_share(_wide.from_int32(spare), member, missing))

    bracket = bracket._replace(excess=balance(bracket.counts))
    found = find_thresholds(sources, dtype, groups, num_keep, balance, bracket, share, near=bounded)
    first = np.cumsum([0, *rows]).tolist()
    masks = [
        _leaf_mask(x, dtype, found.threshold[i], found.cut[i : i + r])
        for x, i, r in zip(sources, first[:-1], rows, strict=True)
    ]
    return [mask.reshape(x.shape) for mask, x in zip(masks, leaves, strict=True)]


def _all_keys(sources, dtype):
    """The brackets of all keys; the excess is not known."""
    most = jnp.concatenate([x.most_per_row for x in sources])
    ends = jnp.array(_keys.key_range(dtype), _keys.key_dtype(dtype))
    ends = jnp.broadcast_to(ends, (len(most), 2))
    return Bracket(ends, jnp.stack([most, jnp.zeros_like(most)], 1), jnp.zeros_like(most))


def _within_bounds(sources, dtype, groups, leaf, num_keep, lower, upper):
    """What each leaf keeps where the ranking of its group is held within bounds.

    Returns:
      limbs [leaves, 2], and brackets to search the threshold of each leaf in.
    """
    group = np.asarray(groups)
    member = group[leaf]

    def per_leaf(counts):
        return _sums(_wide.from_int32(counts), leaf, len(sources))

    def bounded(counts):
        return _wide.clip(per_leaf(counts), lower[:, None], upper[:, None])

    def balance(counts):
        totals = _sums(bounded(counts), group, len(num_keep))
        return _of_rows(_wide.subtract(totals, num_keep[:, None]), member)

    every = _all_keys(sources, dtype)
    every = every._replace(excess=balance(every.counts))
    found = find_thresholds(sources, dtype, groups, num_keep, balance, every, None).bracket
    at_low, at_high = jnp.unstack(bounded(found.counts), axis=1)
    first_row = np.searchsorted(leaf, np.arange(len(sources)))
    missing = _wide.negative(found.excess[first_row, 1])
    kept = _wide.carry(at_high + _share(_wide.subtract(at_low, at_high), group, missing))

    # A leaf at a bound keeps its own highest, above or below the threshold of its group.
    at_low, at_high = jnp.unstack(per_leaf(found.counts), axis=1)
    more = ~_wide.at_least(at_low, kept)[leaf]
    fewer = ~_wide.at_least(kept, at_high)[leaf]

    def start(all_keys, near):
        low = jnp.where(more, all_keys[:, 0], jnp.where(fewer, near[:, 1], near[:, 0]))
        high = jnp.where(more, near[:, 0], jnp.where(fewer, all_keys[:, 1], near[:, 1]))
        return jnp.stack([low, high], 1)

    ends, counts = start(every.ends, found.ends), start(every.counts, found.counts)
    return kept, Bracket(ends, counts, found.excess)


def top_k_mask(scores: jax.Array, k, *, axis: int | None = None) -> jax.Array:
    """True for exactly the `k` highest scores.

        mask = scores is among the k highest; of equal scores the lower flat index is kept

    The threshold is found by counting how many scores reach it, in about four reads of `scores`
    and with no temporary of its size; nothing is sorted.

    Args:
      scores: float16, bfloat16, float32 or float64, any shape. NaN counts as the lowest
        score, below -inf; -0.0 equals 0.0.
      k: how many to keep, an integer or an int32 scalar array (it may be traced). It is clipped
        to [0, n].
      axis: None ranks all scores at once; an axis ranks each slice along it by itself, and `k`
        are kept of each.

    Returns:
      bool, the shape of `scores`.

    Raises:
      TypeError: `scores` is not a float array, or `k` not an integer.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import select
      >>> select.top_k_mask(jnp.array([3.0, jnp.nan, 2.0, 3.0]), 2)
      Array([ True, False, False,  True], dtype=bool)
    """
    scores = jnp.asarray(scores)
    if axis is None:
        return top_k_masks([scores], [k])[0]
    (mask,) = with_auto_axes(functools.partial(_top_k_along, axis=axis), scores, k, like=[scores])
    return mask


def _top_k_along(scores, k, axis):
    rows = jnp.moveaxis(scores, axis, -1)
    flat = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
    masks = jax.vmap(lambda row: top_k_mask(row, k))(flat)
    return [jnp.moveaxis(masks.reshape(rows.shape), -1, axis)]


def top_n_of_m(scores: jax.Array, n: int, m: int, *, axis: int = -1) -> jax.Array:
    """True for the `n` highest of every `m` consecutive scores along an axis.

    Args:
      scores: float array; of equal scores the one with the lower index is kept, NaN ranks lowest.
      n, m: 0 <= n <= m, and `m` divides the length of the axis.
      axis: the axis along which the groups of `m` lie.

    Returns:
      bool, the shape of `scores`.

    Raises:
      TypeError: `scores` is not a float array.
      ValueError: n > m, or the axis cannot be divided.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import select
      >>> select.top_n_of_m(jnp.array([1.0, 4.0, 3.0, 2.0]), 2, 4)
      Array([False,  True,  True, False], dtype=bool)
    """
    scores = jnp.asarray(scores)
    _keys.check_dtype(scores.dtype, "scores")
    if not 0 <= n <= m or m < 1:
        raise ValueError(f"n={n}, m={m}: keep n of every m with 0 <= n <= m and m >= 1.")
    if not -scores.ndim <= axis < scores.ndim:
        raise ValueError(f"axis={axis} of scores with {scores.ndim} axes; choose one of theirs.")
    axis = axis % scores.ndim
    if scores.shape[axis] % m:
        raise ValueError(
            f"m={m} does not divide axis {axis} of shape {scores.shape}; choose an m that does."
        )
    run = functools.partial(_top_n_along, n=n, m=m, axis=axis)
    (mask,) = with_auto_axes(run, scores, like=[scores])
    return mask


def _top_n_along(scores, n, m, axis):
    shape = (*scores.shape[:axis], scores.shape[axis] // m, m, *scores.shape[axis + 1 :])
    keys = _keys.to_keys(lax.stop_gradient(scores)).reshape(shape)
    index = lax.broadcasted_iota(jnp.int32, shape, axis + 1)
    rank = jnp.zeros(shape, jnp.int32)
    for other in range(m):
        theirs = lax.slice_in_dim(keys, other, other + 1, axis=axis + 1)
        # Ahead of it, also with an equal key from a lower index; keys are far from overflow.
        ahead = theirs >= keys + (index <= other).astype(keys.dtype)
        rank += ahead.astype(jnp.int32)
    return [(rank < n).reshape(scores.shape)]


def top_k_masks(
    leaves: Sequence[jax.Array], k: Sequence, *, groups: Sequence[int] | None = None
) -> list[jax.Array]:
    """True for exactly the `k[g]` highest scores of each group of arrays.

    Arrays of one group are ranked against each other where they lie: they are counted one by one
    and never concatenated. Of equal scores the earlier array, and in it the lower flat index, is
    kept.

    Args:
      leaves: float arrays of any shapes; of one group, also of different dtypes (XLA may flush
        subnormal float32 scores to 0 beside float64 ones).
      k: for each group how many to keep, Python integers of any size or int32 scalars (they may
        be traced), clipped to [0, size of the group].
      groups: for each array the number of its group, 0 .. len(k) - 1, static. None: each array is
        a group of its own.

    Returns:
      A list of bool arrays, shaped as `leaves`.

    Raises:
      TypeError: an array is not of floats, or a k not an integer.
      ValueError: `groups` or `k` do not fit `leaves`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import select
      >>> select.top_k_masks([jnp.array([1.0, 4.0]), jnp.array([2.0, 3.0])], [2], groups=[0, 0])
      [Array([False,  True], dtype=bool), Array([False,  True], dtype=bool)]
    """
    leaves = [jnp.asarray(x) for x in leaves]
    groups = tuple(range(len(leaves)) if groups is None else map(operator.index, groups))
    if len(groups) != len(leaves):
        raise ValueError(
            f"groups has {len(groups)} entries for {len(leaves)} arrays; give one each."
        )
    if set(groups) != set(range(len(k))):
        raise ValueError(
            f"k has {len(k)} entries for the groups {sorted(set(groups))}; number the groups from "
            "0 and give one k for each."
        )
    for i, x in enumerate(leaves):
        _keys.check_dtype(x.dtype, f"leaves[{i}]")
    sizes = [
        sum(x.size for x, h in zip(leaves, groups, strict=True) if h == g) for g in range(len(k))
    ]
    num_keep = [_limbs(value, size) for value, size in zip(k, sizes, strict=True)]
    if not leaves:
        return []
    run = functools.partial(_select_arrays, groups=groups)
    return with_auto_axes(run, tuple(leaves), jnp.stack(num_keep), like=leaves)


@functools.partial(jax.jit, static_argnames=("groups",))
def _select_arrays(leaves, num_keep, groups):
    return select([Source(lax.stop_gradient(x)) for x in leaves], groups, num_keep)


def _limbs(k, size):
    if isinstance(k, (int, np.integer)) and not isinstance(k, bool):
        return jnp.asarray(_wide.constant(min(max(int(k), 0), size)))
    k = jnp.asarray(k) if hasattr(k, "dtype") else np.asarray(k)
    if k.ndim or not jnp.issubdtype(k.dtype, jnp.integer):
        raise TypeError(f"k must be an integer, not {k.dtype}{list(k.shape)}.")
    k = jnp.asarray(k)
    k = k.astype(jnp.promote_types(k.dtype, jnp.int32))  # a narrow k could not hold the size
    return _wide.from_int32(jnp.clip(k, 0, min(size, 2**31 - 1)).astype(jnp.int32))
