"""The search by counting: thresholds that exactly as many keys reach as are asked for.

A turn counts in one read how many keys reach each of PROBES thresholds; the next probes interpolate
on the counts. After a few turns every other one divides the brackets evenly, so that the number of
turns is bounded whatever the keys are. Where a threshold is found and only some of the keys equal
to it are to be kept, the same loop goes on among those, with minus the index for a key.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._sharding import varying_as
from jaxprune.select import _wide

PROBES = 5
_PATIENCE = 8  # turns that interpolate before some divide evenly
# Where the probes stand, in standard deviations of where the threshold is expected.
_SPREAD = np.array([-1.8, -0.5, 0.0, 0.5, 1.8], np.float32)


class Bracket(NamedTuple):
    """Where the threshold of each row lies, and what reaches the two ends, [low, high).

    Rows that are ranked together have the same ends.

    Attributes:
      ends: keys [rows, 2].
      counts: int32 [rows, 2], how many keys of the row reach them.
      excess: limbs [rows, 2, 2], how many more keys reach them, of all that are ranked together,
        than are asked for: not negative at `low`, not positive at `high`.
    """

    ends: jax.Array
    counts: jax.Array
    excess: jax.Array

    @property
    def exact(self):
        """Which ends keep exactly what is asked for, bool [rows, 2]."""
        return _wide.equal(self.excess, 0)

    @property
    def width(self):
        """High - low as unsigned: the range of keys does not fit the signed type."""
        unsigned = jnp.dtype(f"uint{8 * self.ends.dtype.itemsize}")
        low, high = self.ends[:, 0].astype(unsigned), self.ends[:, 1].astype(unsigned)
        return high - low


class State(NamedTuple):
    """How far a search is.

    Attributes:
      bracket: of thresholds, or of minus the index in a row where ties are cut.
      probes: keys [rows, PROBES], what to count next.
      tie: bool [rows], whether the threshold is found, and keys one below it are cut by index.
      threshold: keys [rows]; all that reach it are kept.
      cut: int32 [rows]; of the keys one below the threshold those with a lower index are kept.
      quota: int32 [rows], how many of those to keep.
      turns: how many times keys were counted.
    """

    bracket: Bracket
    probes: jax.Array
    tie: jax.Array
    threshold: jax.Array
    cut: jax.Array
    quota: jax.Array
    turns: jax.Array


def count(predicates, axes):
    """How many are True along `axes`, for two or more predicates in one read of what they share."""
    return add(tuple(p.astype(jnp.int32) for p in predicates), axes)


def add(numbers, axes):
    """Sums of int32 along `axes`, of two or more arrays in one read of what they share."""
    return lax.platform_dependent(
        *numbers,
        cpu=functools.partial(_sum_together, axes=axes),
        default=functools.partial(_sum_each, axes=axes),
    )


def _sum_together(*numbers, axes):
    """One reduction of several operands.

    XLA's CPU code for it is vectorised; of a single operand it first stores the converted array,
    and runs ten times slower or more.
    """
    zero = jnp.zeros((), jnp.int32)
    return lax.reduce(numbers, (zero,) * len(numbers), lambda a, b: tuple(map(lax.add, a, b)), axes)


def _sum_each(*numbers, axes):
    """A reduction for each, of which compilers for GPU and TPU make one loop.

    Over devices they become one all-reduce of the sums, while of a reduction of several operands
    the partitioner gathers the sums of all devices.
    """
    return tuple(lax.reduce(x, jnp.zeros((), jnp.int32), lax.add, axes) for x in numbers)


def advance(low, offset):
    """Low + an unsigned offset."""
    return (low.astype(offset.dtype) + offset).astype(low.dtype)


def _adjacent(values, i):
    """values[:, i : i + 2], row by row."""
    column = jnp.arange(values.shape[1], dtype=jnp.int32)
    column = column.reshape(1, -1, *(1,) * (values.ndim - 2))
    i = i.reshape(-1, *(1,) * (values.ndim - 1))

    def at(j):
        return jnp.sum(jnp.where(column == j, values, 0), 1, dtype=values.dtype)

    return jnp.stack([at(i), at(i + 1)], 1)


def _narrow(bracket, probes, counts, excess):
    """The bracket between the last probe that keeps enough and the first that does not."""
    enough = jnp.sum(excess[..., 0] >= 0, axis=1, dtype=jnp.int32)

    def within(pair, inner):
        return _adjacent(jnp.concatenate([pair[:, :1], inner, pair[:, 1:]], axis=1), enough)

    return Bracket(*map(within, bracket, (probes, counts, excess)))


def next_probes(bracket, even, unit=None):
    """Ascending probes in the bracket, about where the counts say that the threshold is.

    Args:
      bracket: where it is known to be.
      even: bool, whether to divide the bracket evenly instead.
      unit: what one key adds to the excess of each row at most, float32 [rows]; None: 1.

    Returns:
      Keys [rows, PROBES].
    """
    over, missing = _wide.to_float(bracket.excess[:, 0]), -_wide.to_float(bracket.excess[:, 1])
    if unit is not None:
        over, missing = over / unit, missing / unit
    between = jnp.maximum(over + missing, 1)
    position = over / between
    deviation = jnp.sqrt(between * position * (1 - position)) + 0.5
    guess = position[:, None] + _SPREAD[None] * (deviation / between)[:, None]
    regular = np.arange(1, PROBES + 1, dtype=np.float32)[None] / (PROBES + 1)
    where = jnp.clip(jnp.where(even, regular, guess), 0, 1)
    # Largest float32 below the unsigned range: the product must not wrap.
    width = bracket.width
    most = np.float32(np.nextafter(np.float32(2.0 ** (8 * width.dtype.itemsize)), np.float32(0)))
    offset = jnp.minimum(where * width.astype(jnp.float32)[:, None], most).astype(width.dtype)
    order = np.arange(1, PROBES + 1, dtype=width.dtype)[None]
    inner = jnp.where(width > PROBES, width - PROBES, 1)[:, None] + order - 1
    offset = jnp.clip(offset, order, inner)  # distinct, and strictly inside the bracket
    return advance(bracket.ends[:, :1], jnp.minimum(offset, width[:, None]))


def _turn_to_ties(state, sizes, share):
    """Where a threshold is one key wide and not exact: which of the keys equal to it to keep."""
    bracket = state.bracket
    found = ~state.tie & ~jnp.any(bracket.exact, 1) & (bracket.width <= 1)
    spare = bracket.counts[:, 0] - bracket.counts[:, 1]
    quota = jnp.where(found, share(spare, bracket), state.quota)
    counts = jnp.stack([spare, jnp.zeros_like(spare)], 1)
    ends = jnp.stack([1 - sizes, np.ones_like(sizes)], 1).astype(bracket.ends.dtype)
    ties = Bracket(ends, counts, _wide.from_int32(counts - quota[:, None]))

    def choose(new, old):
        return jnp.where(found.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

    return state._replace(
        bracket=jax.tree.map(choose, ties, bracket),
        tie=state.tie | found,
        threshold=jnp.where(found, bracket.ends[:, 1], state.threshold),
        quota=quota,
    )


def _read_off(state):
    """Thresholds and cuts as the brackets have them: what reaches an end that is exact."""
    low, high = jnp.unstack(state.bracket.ends, axis=1)
    end = jnp.where(state.bracket.exact[:, 1], high, low)
    return state._replace(
        threshold=jnp.where(state.tie, state.threshold, end),
        cut=jnp.where(state.tie, 1 - end, 0).astype(jnp.int32),
    )


def search(count_rows, balance, bracket, probes, sizes, share, costs=None):
    """Narrows brackets until one end of each is exact.

    Args:
      count_rows: (probes [rows, PROBES], tie, equal) -> int32 [rows, PROBES], how many keys, or
        minus indices of keys equal to `equal` where `tie` is set, reach them.
      balance: int32 [rows, n] -> limbs [rows, n, 2], how many more that is than asked for.
      bracket: what is known at the start.
      probes: ascending keys [rows, PROBES] within the bracket, to begin with.
      sizes: int32 [rows], static.
      share: (int32 [rows], bracket) -> int32 [rows], how many of the keys equal to the threshold
        each row keeps; None: ends where brackets are one key wide.
      costs: `Costs` of the rows, or None. With them the last bracket may have no width: then what
        reaches it is kept.

    Returns:
      State.
    """

    def is_open(state):
        settled = jnp.any(state.bracket.exact, 1)
        if share is None:
            settled |= state.bracket.width <= 1
        return ~jnp.all(settled)

    # What the next turn reads leaf by leaf is computed at the end of a turn and carried: XLA would
    # compute it again for every leaf.
    def turn(state):
        probes, tie = state.probes, state.tie
        counts = count_rows(probes, tie, state.threshold - 1)
        of_ties = _wide.from_int32(counts - state.quota[:, None])
        excess = jnp.where(tie[:, None, None], of_ties, balance(counts))
        turns = state.turns + 1
        state = state._replace(bracket=_narrow(state.bracket, probes, counts, excess), turns=turns)
        if costs is not None:
            state = state._replace(bracket=costs.closed(state.bracket, ~tie))
        if share is not None:
            state = _turn_to_ties(state, sizes, share)
        even = (turns >= _PATIENCE) & (turns % 2 == 1)
        unit = None if costs is None else jnp.where(state.tie, 1, costs.highest)
        return _read_off(state._replace(probes=next_probes(state.bracket, even, unit)))

    zeros = jnp.zeros(sizes.shape, jnp.int32)
    ends = bracket.ends[:, 0]
    start = State(bracket, probes, zeros != 0, ends, zeros, zeros, jnp.zeros((), jnp.int32))
    return lax.while_loop(is_open, turn, varying_as(_read_off(start), probes))
