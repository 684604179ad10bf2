"""The search by counting: thresholds that exactly as many keys reach as are asked for.

A turn counts in one read how many keys reach each of PROBES thresholds. Of many keys the next
probes interpolate on the counts, and after a few turns every other one divides the brackets evenly,
so that the number of turns is bounded whatever the keys are; of few keys every turn divides them
evenly. Where a threshold is found and only some of the keys equal to it are to be kept, the same
loop goes on among those, with minus the index for a key.
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
    """Where the threshold of each row lies, [low, high), and what reaches these two keys.

    An end is an array [rows, 2 + limbs] of the dtype of keys: the key; how many keys of the row
    reach it; and in limbs how many more keys reach it, of all that are ranked together, than are
    asked for (with costs: twice what those cost too much, less 1): not negative at `low`, not
    positive at `high`. Rows that are ranked together have the same keys.
    """

    low: jax.Array
    high: jax.Array

    @classmethod
    def of(cls, keys, counts, excess):
        """Of both keys and counts [rows, 2], and limbs [rows, 2, 1 or 2]."""
        return cls(*jnp.unstack(ends(keys, counts, excess), axis=1))

    @property
    def keys(self):
        """The keys of both ends, [rows, 2]."""
        return jnp.stack([end[:, 0] for end in self], axis=1)

    @property
    def counts(self):
        """How many keys of each row reach them, int32 [rows, 2]."""
        return jnp.stack([end[:, 1] for end in self], axis=1).astype(jnp.int32)

    @property
    def limbs(self):
        """How many limbs the excess has."""
        return self.low.shape[1] - 2

    @property
    def exact(self):
        """Whether `low`, and whether `high` keeps exactly what is asked for: two bool [rows]."""
        return tuple(_wide.equal(end[:, 2:], 0) for end in self)

    @property
    def width(self):
        """High - low as unsigned: the range of keys does not fit the signed type."""
        unsigned = jnp.dtype(f"uint{8 * self.low.dtype.itemsize}")
        return lax.bitcast_convert_type((self.high - self.low)[:, 0], unsigned)

    @property
    def spare(self):
        """How many keys of each row lie in it, int32 [rows]."""
        return (self.low - self.high)[:, 1].astype(jnp.int32)

    @property
    def missing(self):
        """How many more keys than reach the higher end are to be kept (with costs: the rest)."""
        return _wide.negative(self.high[:, 2:].astype(jnp.int32))


def ends(keys, counts, excess):
    """Ends of brackets, [..., 2 + limbs], of keys and counts [...] and limbs [..., limbs]."""
    columns = keys[..., None], counts[..., None], excess
    return jnp.concatenate([x.astype(keys.dtype) for x in columns], axis=-1)


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
      is_open: bool, whether some row is not settled; True before the first turn.
    """

    bracket: Bracket
    probes: jax.Array
    tie: jax.Array
    threshold: jax.Array
    cut: jax.Array
    quota: jax.Array
    turns: jax.Array
    is_open: jax.Array


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


def _narrow(bracket, inner):
    """The bracket between the last probe that keeps enough and the first that does not.

    Args:
      bracket: what is known.
      inner: the probes as ends, [rows, PROBES, 2 + limbs].
    """
    enough = jnp.sum(inner[..., 2] >= 0, axis=1, dtype=jnp.int32)
    every = jnp.concatenate([bracket.low[:, None], inner, bracket.high[:, None]], axis=1)
    last = (np.arange(PROBES + 1, dtype=np.int32)[None] == enough[:, None])[..., None]
    pairs = every[:, :-1], every[:, 1:]
    return Bracket(*(jnp.sum(jnp.where(last, x, 0), 1, dtype=x.dtype) for x in pairs))


def divide_evenly(bracket):
    """Ascending probes that divide the bracket into parts of about one width.

    Returns:
      Keys [rows, PROBES], above the lower end where the bracket has any width.
    """
    width = bracket.width[:, None]
    order = np.arange(1, PROBES + 1, dtype=width.dtype)[None]
    offset = width // (PROBES + 1) * order + jnp.minimum(width % (PROBES + 1), order)
    return advance(bracket.low[:, :1], offset)


def interpolate(bracket, unit=None):
    """Ascending probes in the bracket, about where the counts say that the threshold is.

    Args:
      bracket: where it is known to be.
      unit: what one key adds to the excess of each row at most, float32 [rows]; None: 1.

    Returns:
      Keys [rows, PROBES].
    """
    over, missing = _wide.to_float(bracket.low[:, 2:]), _wide.to_float(bracket.missing)
    if unit is not None:
        over, missing = over / unit, missing / unit
    between = jnp.maximum(over + missing, 1)
    position = over / between
    deviation = jnp.sqrt(between * position * (1 - position)) + 0.5
    guess = position[:, None] + _SPREAD[None] * (deviation / between)[:, None]
    where = jnp.clip(guess, 0, 1)
    # Largest float32 below the unsigned range: the product must not wrap.
    width = bracket.width
    most = np.float32(np.nextafter(np.float32(2.0 ** (8 * width.dtype.itemsize)), np.float32(0)))
    offset = jnp.minimum(where * width.astype(jnp.float32)[:, None], most).astype(width.dtype)
    order = np.arange(1, PROBES + 1, dtype=width.dtype)[None]
    inner = jnp.where(width > PROBES, width - PROBES, 1)[:, None] + order - 1
    offset = jnp.clip(offset, order, inner)  # distinct, and strictly inside the bracket
    return advance(bracket.low[:, :1], jnp.minimum(offset, width[:, None]))


def _turn_to_ties(state, sizes, share):
    """Where a threshold is one key wide and not exact: which of the keys equal to it to keep."""
    bracket = state.bracket
    at_low, at_high = bracket.exact
    found = ~(state.tie | at_low | at_high) & (bracket.width <= 1)
    spare = bracket.spare
    quota = jnp.where(found, share(spare, bracket), state.quota)
    keys = jnp.asarray(np.stack([1 - sizes, np.ones_like(sizes)], axis=1), bracket.low.dtype)
    counts = jnp.stack([spare, jnp.zeros_like(spare)], axis=1)  # minus indices: all, and none
    excess = _wide.from_int32(counts - quota[:, None], limbs=bracket.limbs)
    ties = Bracket.of(keys, counts, excess)
    return state._replace(
        bracket=jax.tree.map(lambda new, old: jnp.where(found[:, None], new, old), ties, bracket),
        tie=state.tie | found,
        threshold=jnp.where(found, bracket.high[:, 0], state.threshold),
        quota=quota,
    )


def _read_off(state):
    """Thresholds and cuts as the brackets have them: what reaches an end that is exact."""
    _, high_is_exact = state.bracket.exact
    key = jnp.where(high_is_exact, state.bracket.high[:, 0], state.bracket.low[:, 0])
    return state._replace(
        threshold=jnp.where(state.tie, state.threshold, key),
        cut=jnp.where(state.tie, 1 - key, 0).astype(jnp.int32),
    )


def search(
    count_rows, balance, bracket, probes, sizes, share, costs=None, *, interpolated: bool = True
):
    """Narrows brackets until one end of each is exact.

    Args:
      count_rows: (probes [rows, PROBES], tie, equal) -> int32 [rows, PROBES], how many keys, or
        minus indices of keys equal to `equal` where `tie` is set, reach them.
      balance: int32 [rows, n] -> limbs [rows, n, 1 or 2], how many more that is than asked for.
      bracket: what is known at the start.
      probes: ascending keys [rows, PROBES] within the bracket, to begin with.
      sizes: int32 [rows], static.
      share: (int32 [rows], bracket) -> int32 [rows], how many of the keys equal to the threshold
        each row keeps; None: ends where brackets are one key wide.
      costs: `Costs` of the rows, or None. With them the last bracket may have no width: then what
        reaches it is kept.
      interpolated: whether probes stand where the counts say. Otherwise they always divide the
        bracket evenly: a smaller program, of up to 13 turns for float32 and 25 for float64, and
        as many more as divide the indices where ties are cut, 6 for 2**15.

    Returns:
      State.
    """

    def some_open(state):
        at_low, at_high = state.bracket.exact
        settled = at_low | at_high
        if share is None:
            settled |= state.bracket.width <= 1
        return ~jnp.all(settled)

    def next_probes(state):
        evenly = divide_evenly(state.bracket)
        if not interpolated:
            return evenly
        unit = None if costs is None else jnp.where(state.tie, 1, costs.highest)
        even = (state.turns >= _PATIENCE) & (state.turns % 2 == 1)
        return jnp.where(even, evenly, interpolate(state.bracket, unit))

    # What is read leaf by leaf, in the next turn or after the last, is computed at the end of a
    # turn and carried: XLA would compute it again for every leaf. So there is one turn at least.
    def turn(state):
        probes, tie = state.probes, state.tie
        counts = count_rows(probes, tie, state.threshold - 1)
        excess = balance(counts)
        of_ties = _wide.from_int32(counts - state.quota[:, None], limbs=excess.shape[-1])
        inner = ends(probes, counts, jnp.where(tie[:, None, None], of_ties, excess))
        state = state._replace(bracket=_narrow(state.bracket, inner), turns=state.turns + 1)
        if costs is not None:
            state = state._replace(bracket=costs.closed(state.bracket, ~tie))
        if share is not None:
            state = _turn_to_ties(state, sizes, share)
        return _read_off(state._replace(probes=next_probes(state), is_open=some_open(state)))

    none, turns = jnp.zeros(sizes.shape, jnp.int32), jnp.zeros((), jnp.int32)
    key = jnp.zeros_like(probes[:, 0])
    start = State(bracket, probes, none != 0, key, none, none, turns, jnp.ones((), bool))
    return lax.while_loop(lambda state: state.is_open, turn, varying_as(start, start))
