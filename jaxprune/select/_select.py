"""The engine of exact selection: masks of many leaves, by what they count or by what they cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._sharding import num_devices
from jaxprune.select import _keys, _wide
from jaxprune.select._costs import COST_BITS, Costs, of_rows, share, sums
from jaxprune.select._rows import row_lengths, wanted
from jaxprune.select._search import Bracket
from jaxprune.select._thresholds import column, find_thresholds, index_in_row

_MOST = 2**31 - 1  # what int32 holds


@functools.partial(jax.jit, static_argnums=(1,), inline=True)
def _leaf_mask(source, dtype, threshold, cuts):
    """What reaches the threshold, and what is just below it and before the cut of its row."""
    keys = source.keys(dtype)
    before = index_in_row(source) < column(cuts, source)
    mask = (keys >= threshold) | ((keys == threshold - 1) & before)
    return mask if source.member is None else mask | (source.member & ~source.wanted)


def select(sources, groups, num_keep, *, lower=None, upper=None, costs=None, longest=_MOST):
    """Masks of many leaves: the engine below the public functions.

    Args:
      sources: a `Source` for each leaf.
      groups: for each leaf the number of its group, static.
      num_keep: int32 limbs [groups, 2]: how many to keep, or what they may cost together.
      lower, upper: int32 limbs [leaves, 2], bounds on what a leaf keeps, or None.
      costs: what each score of a leaf costs, static integers from 0, less than 2**COST_BITS for all
        of a group together; or None. Then each group keeps the longest run of its ranking, from
        the highest score on, that does not cost more than `num_keep`.
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
            None if costs is None else 2 * np.array(costs, np.int64)[some],
            longest,
        )
        for i, mask in zip(filled, of_some, strict=True):
            masks[i] = mask
    return masks


def _select_filled(leaves, groups, num_keep, lower, upper, costs, longest):
    if costs is not None:
        num_keep = _wide.carry(2 * num_keep + _wide.constant([1]))
    dtype = _keys.common_dtype([x.dtype for x in leaves])
    total = sum(x.size for x in leaves)
    limbs = 1 if costs is None and total <= _MOST else 2
    num_keep, lower, upper = (_as_limbs(x, limbs) for x in (num_keep, lower, upper))
    devices = num_devices()
    sources = [
        x.in_rows(row_lengths(x.shape, x.unit, longest, wanted(x, total), devices)) for x in leaves
    ]
    rows = [x.num_rows for x in sources]
    leaf = np.repeat(np.arange(len(sources)), rows)  # of each row
    keys, counts = _all_keys(sources, dtype)
    bounded = lower is not None
    if bounded:
        num_keep, keys, counts = _within_bounds(
            sources, dtype, groups, leaf, num_keep, lower, upper, costs, keys, counts
        )
        groups, costs = tuple(range(len(sources))), None
    member = np.asarray(groups)[leaf]
    costs = None if costs is None else Costs(costs[leaf], member)

    def balance(counts):
        wide = _wide.from_int32(counts, limbs=limbs)
        totals = sums(wide if costs is None else costs.paid(wide), member, len(num_keep))
        return of_rows(_wide.subtract(totals, num_keep[:, None]), member)

    def share_ties(spare, bracket):
        wide = _wide.from_int32(spare, limbs=limbs)
        return _wide.to_int32(share(wide, member, bracket.missing, costs))

    bracket = _balanced(keys, counts, balance, costs)
    ranked = sources, dtype, groups, num_keep
    found = find_thresholds(*ranked, balance, bracket, share_ties, costs, near=bounded)
    first = np.cumsum([0, *rows]).tolist()
    masks = [
        _leaf_mask(x, dtype, found.threshold[i], found.cut[i : i + r])
        for x, i, r in zip(sources, first[:-1], rows, strict=True)
    ]
    return [mask.reshape(x.shape) for mask, x in zip(masks, leaves, strict=True)]


def _as_limbs(wide, limbs):
    """Limbs as they are, or one where the caller knows that it holds all."""
    return wide if wide is None or limbs == 2 else _wide.to_int32(wide)[..., None]


def _all_keys(sources, dtype):
    """The lowest key of each row and one above the highest, and how many reach them: [rows, 2]."""
    most = jnp.concatenate([x.most_per_row for x in sources])
    counts = jnp.stack([most, jnp.zeros_like(most)], 1)
    keys = jnp.array(_keys.key_range(dtype), _keys.key_dtype(dtype))
    return jnp.broadcast_to(keys, counts.shape), counts


def _balanced(keys, counts, balance, costs):
    """The bracket of two keys; with costs as if not all could be paid, so that it is valid."""
    excess = balance(counts)
    if costs is not None:
        low = _wide.clip(excess[:, :1], _wide.constant([[1]]), _wide.constant([[2 << COST_BITS]]))
        excess = jnp.concatenate([low, excess[:, 1:]], axis=1)
    return Bracket.of(keys, counts, excess)


def _within_bounds(
    sources, dtype, groups, leaf, num_keep, lower, upper, costs, all_keys, all_counts
):
    """What each leaf keeps where the ranking of its group is held within bounds.

    Args:
      all_keys, all_counts: of `_all_keys`.

    Returns:
      limbs [leaves, ...]; and the keys that the threshold of each leaf lies between, and how many
      reach them, [rows, 2].
    """
    group, limbs = np.asarray(groups), num_keep.shape[-1]
    member = group[leaf]
    of_leaf = of_row = None
    if costs is not None:
        of_leaf, of_row = Costs(costs, group), Costs(costs[leaf], member)

    def per_leaf(counts):
        return sums(_wide.from_int32(counts, limbs=limbs), leaf, len(sources))

    def bounded(counts):
        return _wide.clip(per_leaf(counts), lower[:, None], upper[:, None])

    def balance(counts):
        kept = bounded(counts)
        totals = sums(kept if of_leaf is None else of_leaf.paid(kept), group, len(num_keep))
        return of_rows(_wide.subtract(totals, num_keep[:, None]), member)

    every = _balanced(all_keys, all_counts, balance, costs)
    ranked = sources, dtype, groups, num_keep
    bracket = find_thresholds(*ranked, balance, every, None, of_row).bracket
    near_keys, near_counts = bracket.keys, bracket.counts
    at_low, at_high = jnp.unstack(bounded(near_counts), axis=1)
    first_row = np.searchsorted(leaf, np.arange(len(sources)))
    spare = _wide.subtract(at_low, at_high)
    kept = _wide.carry(at_high + share(spare, group, bracket.missing[first_row], of_leaf))

    # A leaf at a bound keeps its own highest, above or below the threshold of its group.
    at_low, at_high = jnp.unstack(per_leaf(near_counts), axis=1)
    more = ~_wide.at_least(at_low, kept)[leaf]
    fewer = ~_wide.at_least(kept, at_high)[leaf]

    def start(every, near):
        low = jnp.where(more, every[:, 0], jnp.where(fewer, near[:, 1], near[:, 0]))
        high = jnp.where(more, near[:, 0], jnp.where(fewer, every[:, 1], near[:, 1]))
        return jnp.stack([low, high], 1)

    return kept, start(all_keys, near_keys), start(all_counts, near_counts)
