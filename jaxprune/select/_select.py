"""Exact selection: the k highest of n scores, without sorting."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune.select import _keys, _ties, _wide
from jaxprune.select._search import Brackets, find_brackets


def _leaf_mask(scores, dtype, low, high, at_low, at_high, num_keep):
    """The mask of one leaf, given its bracket and how many it keeps."""

    def plain(scores):
        return _keys.to_keys(scores, dtype) >= jnp.where(num_keep == at_low, low, high)

    def cut(scores):
        return _ties.cut_mask(scores, dtype, low, num_keep - at_high)

    if scores.size == 0:
        return jnp.zeros(scores.shape, bool)
    return lax.cond((at_high < num_keep) & (num_keep < at_low), cut, plain, scores)


def _kept_per_leaf(bracket, groups, num_keep, lower, upper):
    """How many each leaf keeps: what its group's threshold says, equal scores in leaf order."""
    at_low, at_high = bracket.at_low, bracket.at_high
    if lower is not None:
        at_low, at_high = jnp.clip(at_low, lower, upper), jnp.clip(at_high, lower, upper)
    kept = [None] * len(groups)
    for group in range(num_keep.shape[0]):
        members = [i for i, g in enumerate(groups) if g == group]
        missing = num_keep[group]
        if members:
            total = _wide.total(at_high[np.array(members)])
            missing = _wide.subtract(num_keep[group], total)
        for i in members:
            spare = at_low[i] - at_high[i]
            enough = _wide.at_least(missing, _wide.from_int32(spare))
            taken = jnp.where(enough, spare, jnp.clip(_wide.to_int32(missing), 0))
            kept[i] = at_high[i] + taken
            missing = _wide.subtract(missing, _wide.from_int32(taken))
    return jnp.stack(kept)


def select(leaves, groups, num_keep, *, lower=None, upper=None, start=None):
    """Masks of many leaves; `num_keep` in limbs. The engine below the public functions."""
    leaves = [lax.stop_gradient(x) for x in leaves]
    if not leaves:
        return []
    dtype = _keys.common_dtype([x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)] or leaves)
    dtype = jnp.dtype(jnp.float32) if jnp.issubdtype(dtype, jnp.integer) else dtype
    num_keep = jnp.asarray(num_keep)
    bracket = find_brackets(
        leaves, dtype, groups, num_keep, lower=lower, upper=upper, start=start
    )
    kept = _kept_per_leaf(bracket, groups, num_keep, lower, upper)
    member = np.asarray(groups)
    own = Brackets(bracket.low[member], bracket.high[member], bracket.at_low, bracket.at_high)
    if lower is not None:
        # A leaf at a bound keeps its own highest, above or below the threshold of its group.
        own = _settle_bounded(leaves, dtype, own, kept)
    return [
        _leaf_mask(x, dtype, own.low[i], own.high[i], own.at_low[i], own.at_high[i], kept[i])
        for i, x in enumerate(leaves)
    ]


def _settle_bounded(leaves, dtype, own, kept):
    lowest, highest = _keys.key_range(dtype)
    sizes = jnp.array([x.size for x in leaves], jnp.int32)
    more, fewer = kept > own.at_low, kept < own.at_high
    start = Brackets(
        jnp.where(more, lowest, jnp.where(fewer, own.high, own.low)),
        jnp.where(fewer, highest, jnp.where(more, own.low, own.high)),
        jnp.where(more, sizes, jnp.where(fewer, own.at_high, own.at_low)),
        jnp.where(fewer, 0, jnp.where(more, own.at_low, own.at_high)),
    )
    alone = tuple(range(len(leaves)))
    return find_brackets(leaves, dtype, alone, _wide.from_int32(kept), start=start)


def top_k_mask(scores: jax.Array, k, *, axis: int | None = None) -> jax.Array:
    """True for exactly the `k` highest scores.

        mask = scores is among the k highest; of equal scores the lower flat index is kept

    The threshold is found by counting how many scores reach it, in about four reads of `scores`
    and with no temporary of its size; nothing is sorted.

    Args:
      scores: float16, bfloat16, float32 or float64, any shape with under 2**31 elements. NaN
        counts as the lowest score, below -inf; -0.0 equals 0.0.
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
    rows = jnp.moveaxis(scores, axis, -1)
    flat = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
    masks = jax.vmap(lambda row: top_k_mask(row, k))(flat)
    return jnp.moveaxis(masks.reshape(rows.shape), -1, axis)


def top_k_masks(
    leaves: Sequence[jax.Array], k: Sequence, *, groups: Sequence[int] | None = None
) -> list[jax.Array]:
    """True for exactly the `k[g]` highest scores of each group of arrays.

    Arrays of one group are ranked against each other where they lie: they are counted one by one
    and never concatenated. Of equal scores the earlier array, and in it the lower flat index, is
    kept.

    Args:
      leaves: float arrays of any shapes, each with under 2**31 elements; of one group, also of
        different dtypes.
      k: for each group how many to keep, Python integers of any size or int32 scalars (they may
        be traced), clipped to [0, size of the group].
      groups: for each array the number of its group, 0 .. len(k) - 1, static. None: each array is
        a group of its own.

    Returns:
      A list of bool arrays, shaped as `leaves`.

    Raises:
      TypeError: an array is not of floats, or a k not an integer.
      ValueError: `groups` or `k` do not fit `leaves`, or an array has 2**31 elements or more.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import select
      >>> select.top_k_masks([jnp.array([1.0, 4.0]), jnp.array([2.0, 3.0])], [2], groups=[0, 0])
      [Array([False,  True], dtype=bool), Array([False,  True], dtype=bool)]
    """
    leaves = [jnp.asarray(x) for x in leaves]
    groups = tuple(range(len(leaves)) if groups is None else map(int, groups))
    if len(groups) != len(leaves):
        raise ValueError(f"groups has {len(groups)} entries for {len(leaves)} arrays; give one each.")
    if any(not 0 <= g < len(k) for g in groups):
        raise ValueError(f"groups names {max(groups, default=0)}, k has {len(k)} entries: 0 .. {len(k) - 1}.")
    for i, x in enumerate(leaves):
        _keys.check_scores(x, f"leaves[{i}]")
        if x.size >= 2**31:
            raise ValueError(f"leaves[{i}] has {x.size} elements; an array may have up to 2**31 - 1.")
    sizes = [sum(x.size for x, h in zip(leaves, groups, strict=True) if h == g) for g in range(len(k))]
    num_keep = [_limbs(value, size) for value, size in zip(k, sizes, strict=True)]
    return select(leaves, groups, jnp.stack(num_keep)) if leaves else []


def _limbs(k, size):
    if isinstance(k, (int, np.integer)) and not isinstance(k, bool):
        return jnp.asarray(_wide.constant(min(max(int(k), 0), size)))
    k = jnp.asarray(k)
    if k.ndim or not jnp.issubdtype(k.dtype, jnp.integer):
        raise TypeError(f"k must be an integer, not {k.dtype}{list(k.shape)}.")
    return _wide.from_int32(jnp.clip(k, 0, min(size, 2**31 - 1)).astype(jnp.int32))
