"""Exact selection: the k highest of n scores, without sorting."""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._sharding import with_auto_axes
from jaxprune.select import _keys, _wide
from jaxprune.select._costs import COST_BITS
from jaxprune.select._select import select
from jaxprune.select._source import Source


def top_k_mask(scores: jax.Array, k, *, axis: int | None = None) -> jax.Array:
    """True for exactly the `k` highest scores.

        mask = scores is among the k highest; of equal scores the lower flat index is kept

    The threshold is found by counting how many scores reach it, with no temporary of the size of
    `scores`; nothing is sorted. A large array is read about four times; one of no more than 32,768
    scores, or such slices of a larger one, up to 19 times (31 of float64), which takes less time
    than a sample.

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
      TypeError: `scores` is not a float array, or a number not whole.
      ValueError: n > m, or the axis cannot be divided.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import select
      >>> select.top_n_of_m(jnp.array([1.0, 4.0, 3.0, 2.0]), 2, 4)
      Array([False,  True,  True, False], dtype=bool)
    """
    scores = jnp.asarray(scores)
    _keys.check_dtype(scores.dtype, "scores")
    n, m, axis = (_whole(x, name) for x, name in ((n, "n"), (m, "m"), (axis, "axis")))
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


def _whole(number, name):
    try:
        return operator.index(number)
    except TypeError as error:
        raise TypeError(f"{name}={number!r} must be a whole number that is known.") from error


@functools.partial(jax.jit, static_argnames=("n", "m", "axis"), inline=True)
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
    leaves: Sequence[jax.Array],
    k: Sequence,
    *,
    groups: Sequence[int] | None = None,
    costs: Sequence[int] | None = None,
) -> list[jax.Array]:
    """True for exactly the `k[g]` highest scores of each group of arrays.

    Arrays of one group are ranked against each other where they lie: they are counted one by one
    and never concatenated. Of equal scores the earlier array, and in it the lower flat index, is
    kept. With `costs`, `k[g]` is a budget: kept is the longest run of the ranking, from the highest
    score on, that does not cost more.

    Args:
      leaves: float arrays of any shapes; of one group, also of different dtypes (XLA may flush
        subnormal float32 scores to 0 beside float64 ones).
      k: for each group how many to keep, Python integers of any size or int32 scalars (they may
        be traced), clipped to [0, size of the group]; with costs, to what all of it costs.
      groups: for each array the number of its group, 0 .. len(k) - 1, static. None: each array is
        a group of its own.
      costs: what one score of each array costs, Python integers from 0, static; all of a group
        cost less than 2**45 together. None: each costs 1.

    Returns:
      A list of bool arrays, shaped as `leaves`.

    Raises:
      TypeError: an array is not of floats, or a k or a cost not an integer.
      ValueError: `groups`, `k` or `costs` do not fit `leaves`, or a cost is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import select
      >>> select.top_k_masks([jnp.array([1.0, 4.0]), jnp.array([2.0, 3.0])], [2], groups=[0, 0])
      [Array([False,  True], dtype=bool), Array([False,  True], dtype=bool)]

      4 costs 1, then 3 costs 5, which is more than is left:

      >>> select.top_k_masks(
      ...     [jnp.array([1.0, 4.0]), jnp.array([2.0, 3.0])], [5], groups=[0, 0], costs=[1, 5]
      ... )
      [Array([False,  True], dtype=bool), Array([False, False], dtype=bool)]
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
    each = (1,) * len(leaves) if costs is None else _checked_costs(costs, len(leaves))
    sizes = [0] * len(k)
    for x, group, cost in zip(leaves, groups, each, strict=True):
        sizes[group] += x.size * cost
    if costs is not None and max(sizes, default=0) >> COST_BITS:
        raise ValueError(
            f"costs: all of a group costs {max(sizes)}, which must be less than 2**{COST_BITS}; "
            "divide costs by a common factor, and k as well."
        )
    num_keep = [_limbs(value, size) for value, size in zip(k, sizes, strict=True)]
    if not leaves:
        return []
    run = functools.partial(_select_arrays, groups=groups, costs=None if set(each) == {1} else each)
    return with_auto_axes(run, tuple(leaves), jnp.stack(num_keep), like=leaves)


@functools.partial(jax.jit, static_argnames=("groups", "costs"))
def _select_arrays(leaves, num_keep, groups, costs):
    sources = [Source(lax.stop_gradient(x)) for x in leaves]
    return select(sources, groups, num_keep, costs=costs)


def _checked_costs(costs, number):
    for cost in costs:
        if isinstance(cost, bool) or not isinstance(cost, int | np.integer):
            raise TypeError(f"costs holds {cost!r}; give a Python integer for each array.")
        if cost < 0:
            raise ValueError(f"costs holds {cost}; give integers from 0.")
    if len(costs) != number:
        raise ValueError(f"costs has {len(costs)} entries for {number} arrays; give one each.")
    return tuple(map(int, costs))


def _limbs(k, size):
    if isinstance(k, (int, np.integer)) and not isinstance(k, bool):
        return jnp.asarray(_wide.constant(min(max(int(k), 0), size)))
    k = jnp.asarray(k) if hasattr(k, "dtype") else np.asarray(k)
    if k.ndim or not jnp.issubdtype(k.dtype, jnp.integer):
        raise TypeError(f"k must be an integer, not {k.dtype}{list(k.shape)}.")
    k = jnp.asarray(k)
    k = k.astype(jnp.promote_types(k.dtype, jnp.int32))  # a narrow k could not hold the size
    return _wide.from_int32(jnp.clip(k, 0, min(size, 2**31 - 1)).astype(jnp.int32))
