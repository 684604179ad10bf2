"""Exact selection: the k highest of n scores, without sorting."""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune.select import _keys, _wide
from jaxprune.select._search import Brackets, find_brackets, pick
from jaxprune.select._source import Source
from jaxprune.select._ties import find_cuts


@functools.partial(jax.jit, static_argnums=(1,), inline=True)
def _leaf_mask(source, dtype, threshold, equal, cut, i):
    """What reaches the threshold, and what equals the other one before the cut."""
    keys = source.keys(dtype)
    index = jnp.zeros((), jnp.int32)
    for axis, size in enumerate(source.shape):
        index = index * size + lax.broadcasted_iota(jnp.int32, source.shape, axis)
    return (keys >= pick(threshold, i)) | ((keys == pick(equal, i)) & (index < pick(cut, i)))


def _kept_per_leaf(bracket, groups, num_keep, lower, upper):
    """How many each leaf keeps: what its group's threshold says, equal scores in leaf order."""
    at_low, at_high = bracket.at_low, bracket.at_high
    if lower is not None:
        at_low, at_high = jnp.clip(at_low, lower, upper), jnp.clip(at_high, lower, upper)
    spare = at_low - at_high
    member = np.asarray(groups)
    missing = num_keep[member]
    if member.tolist() != list(range(num_keep.shape[0])):
        together = member[:, None] == member
        earlier = together & np.triu(np.ones_like(together), 1)
        taken = jnp.where(together, at_high[:, None], 0) + jnp.where(earlier, spare[:, None], 0)
    else:
        taken = at_high[None]
    missing = _wide.subtract(missing, _wide.total(taken))
    enough = _wide.at_least(missing, _wide.from_int32(spare))
    some = jnp.where(missing[:, 0] < 0, 0, _wide.to_int32(missing))
    return at_high + jnp.where(enough, spare, some)


def select(sources, groups, num_keep, *, lower=None, upper=None):
    """Masks of many leaves: the engine below the public functions.

    Args:
      sources: a `Source` for each leaf.
      groups: for each leaf the number of its group, static.
      num_keep: int32 limbs [groups, 2].
      lower, upper: int32 [leaves], bounds on what a leaf keeps, or None.

    Returns:
      A list of bool arrays.
    """
    filled = [i for i, x in enumerate(sources) if x.size]
    if len(filled) < len(sources):
        masks = [jnp.zeros(x.shape, bool) for x in sources]
        if filled:
            some = np.array(filled)
            bounds = (None, None) if lower is None else (lower[some], upper[some])
            of_some = select(
                [sources[i] for i in filled],
                tuple(groups[i] for i in filled),
                num_keep,
                lower=bounds[0],
                upper=bounds[1],
            )
            for i, mask in zip(filled, of_some, strict=True):
                masks[i] = mask
        return masks
    dtype = _keys.common_dtype([x.dtype for x in sources])
    num_keep = jnp.asarray(num_keep)
    bracket = find_brackets(sources, dtype, groups, num_keep, lower=lower, upper=upper)
    kept = _kept_per_leaf(bracket, groups, num_keep, lower, upper)
    member = np.asarray(groups)
    own = Brackets(bracket.low[member], bracket.high[member], bracket.at_low, bracket.at_high)
    if lower is not None:
        own = _settle_bounded(sources, dtype, own, kept)

    # Where some of the scores equal to `low` are kept and some are not, cut by flat index.
    partial = (own.at_high < kept) & (kept < own.at_low)
    cut = lax.cond(
        jnp.any(partial),
        lambda: find_cuts(sources, dtype, own.low, jnp.where(partial, kept - own.at_high, 0)),
        lambda: jnp.zeros_like(kept),
    )
    cut = jnp.where(partial, cut, 0)
    threshold = jnp.where(kept == own.at_low, own.low, own.high)
    return [
        _leaf_mask(x, dtype, threshold, own.low, cut, jnp.int32(i)) for i, x in enumerate(sources)
    ]


def _settle_bounded(sources, dtype, own, kept):
    """A leaf at a bound keeps its own highest, above or below the threshold of its group."""
    lowest, highest = _keys.key_range(dtype)
    most = jnp.stack([x.most for x in sources])
    more, fewer = kept > own.at_low, kept < own.at_high
    start = Brackets(
        jnp.where(more, lowest, jnp.where(fewer, own.high, own.low)),
        jnp.where(fewer, highest, jnp.where(more, own.low, own.high)),
        jnp.where(more, most, jnp.where(fewer, own.at_high, own.at_low)),
        jnp.where(fewer, 0, jnp.where(more, own.at_low, own.at_high)),
    )
    alone = tuple(range(len(sources)))
    return find_brackets(sources, dtype, alone, _wide.from_int32(kept), start=start)


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
    shape = (*scores.shape[:axis], scores.shape[axis] // m, m, *scores.shape[axis + 1 :])
    keys = _keys.to_keys(lax.stop_gradient(scores)).reshape(shape)
    index = lax.broadcasted_iota(jnp.int32, shape, axis + 1)
    rank = jnp.zeros(shape, jnp.int32)
    for other in range(m):
        theirs = lax.slice_in_dim(keys, other, other + 1, axis=axis + 1)
        ahead = (theirs > keys) | ((theirs == keys) & (other < index))
        rank += ahead.astype(jnp.int32)
    return (rank < n).reshape(scores.shape)


def top_k_masks(
    leaves: Sequence[jax.Array], k: Sequence, *, groups: Sequence[int] | None = None
) -> list[jax.Array]:
    """True for exactly the `k[g]` highest scores of each group of arrays.

    Arrays of one group are ranked against each other where they lie: they are counted one by one
    and never concatenated. Of equal scores the earlier array, and in it the lower flat index, is
    kept.

    Args:
      leaves: float arrays of any shapes, each with under 2**31 elements; of one group, also of
        different dtypes (XLA may flush subnormal float32 scores to 0 beside float64 ones).
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
        if x.size >= 2**31:
            raise ValueError(
                f"leaves[{i}] has {x.size} elements; an array may have up to 2**31 - 1."
            )
    sizes = [
        sum(x.size for x, h in zip(leaves, groups, strict=True) if h == g) for g in range(len(k))
    ]
    num_keep = [_limbs(value, size) for value, size in zip(k, sizes, strict=True)]
    return _select_arrays(tuple(leaves), groups, jnp.stack(num_keep)) if leaves else []


@functools.partial(jax.jit, static_argnames=("groups",))
def _select_arrays(leaves, groups, num_keep):
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
