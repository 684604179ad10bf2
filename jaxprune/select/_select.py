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


@functools.partial(jax.jit, static_argnums=(1,), inline=True)
def _leaf_mask(source, dtype, threshold, cuts):
    """What reaches the threshold, and what is just below it and before the cut of its row."""
    keys = source.keys(dtype)
    before = index_in_row(source) < column(cuts, source)
    mask = (keys >= threshold) | ((keys == threshold - 1) & before)
    return mask if source.member is None else mask | (source.member & ~source.wanted)


def select(sources, groups, num_keep, *, lower=None, upper=None, costs=None, longest=2**31 - 1):
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
    devices = num_devices()
    sources = [
        x.in_rows(row_lengths(x.shape, x.unit, longest, wanted(x, total), devices)) for x in leaves
    ]
    rows = [x.num_rows for x in sources]
    leaf = np.repeat(np.arange(len(sources)), rows)  # of each row
    bracket, bounded = _all_keys(sources, dtype), lower is not None
    if bounded:
        num_keep, bracket = _within_bounds(
            sources, dtype, groups, leaf, num_keep, lower, upper, costs
        )
        groups, costs = tuple(range(len(sources))), None
    member = np.asarray(groups)[leaf]
    costs = None if costs is None else Costs(costs[leaf], member)

    def balance(counts):
        wide = _wide.from_int32(counts)
        totals = sums(wide if costs is None else costs.paid(wide), member, len(num_keep))
        return of_rows(_wide.subtract(totals, num_keep[:, None]), member)

    def share_ties(spare, bracket):
        missing = _wide.negative(bracket.excess[:, 1])
        return _wide.to_int32(share(_wide.from_int32(spare), member, missing, costs))

    bracket = _balanced(bracket, balance, costs)
    found = find_thresholds(
        sources, dtype, groups, num_keep, balance, bracket, share_ties, costs, near=bounded
    )
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


def _balanced(bracket, balance, costs):
    """The bracket with its excess; with costs as if not all could be paid, so that it is valid."""
    excess = balance(bracket.counts)
    if costs is not None:
        low = _wide.clip(excess[:, :1], _wide.constant([[1]]), _wide.constant([[2 << COST_BITS]]))
        excess = jnp.concatenate([low, excess[:, 1:]], axis=1)
    return bracket._replace(excess=excess)


def _within_bounds(sources, dtype, groups, leaf, num_keep, lower, upper, costs):
    """What each leaf keeps where the ranking of its group is held within bounds.

    Returns:
      limbs [leaves, 2], and brackets to search the threshold of each leaf in.
    """
    group = np.asarray(groups)
    member = group[leaf]
    of_leaf = of_row = None
    if costs is not None:
        of_leaf, of_row = Costs(costs, group), Costs(costs[leaf], member)

    def per_leaf(counts):
        return sums(_wide.from_int32(counts), leaf, len(sources))

    def bounded(counts):
        return _wide.clip(per_leaf(counts), lower[:, None], upper[:, None])

    def balance(counts):
        kept = bounded(counts)
        totals = sums(kept if of_leaf is None else of_leaf.paid(kept), group, len(num_keep))
        return of_rows(_wide.subtract(totals, num_keep[:, None]), member)

    every = _balanced(_all_keys(sources, dtype), balance, costs)
    found = find_thresholds(sources, dtype, groups, num_keep, balance, every, None, of_row).bracket
    at_low, at_high = jnp.unstack(bounded(found.counts), axis=1)
    first_row = np.searchsorted(leaf, np.arange(len(sources)))
    missing = _wide.negative(found.excess[first_row, 1])
    spare = _wide.subtract(at_low, at_high)
    kept = _wide.carry(at_high + share(spare, group, missing, of_leaf))

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
