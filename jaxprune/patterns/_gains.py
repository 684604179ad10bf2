"""What two groups of N:M would keep more if their channels were divided anew."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_SPLITS = 5  # up to this m all C(2m, m) / 2 splits are tried; m = 6 would have 462


def divisions(m: int) -> np.ndarray:
    """Ways to divide the 2m channels of two groups anew, apart from how they are.

    Returns:
      int [ways, 2m]: positions among the 2m, one group after the other. All splits where m is at
      most 5; beyond, the m * m exchanges of one channel for another.
    """
    both = range(2 * m)
    if m <= _SPLITS:
        first = [(0, *others) for others in itertools.combinations(both[1:], m - 1)]
        split = [(*a, *(i for i in both if i not in a)) for a in first]
        return np.array(split[1:])
    ways = np.tile(np.arange(2 * m), (m, m, 1))
    i, j = np.mgrid[:m, :m]
    ways[i, j, i], ways[i, j, m + j] = m + j, i
    return ways.reshape(m * m, 2 * m)


@functools.partial(jax.jit, static_argnames=("n", "m"))
def best(rows: jax.Array, channels: jax.Array, *, n: int, m: int) -> tuple[jax.Array, jax.Array]:
    """The best of `divisions(m)` for each pair of groups.

    Args:
      rows: magnitudes, float32 [channels, rows].
      channels: int32 [steps, pairs, 2m], the channels of each pair; one step at a time is held.
      n, m: the pattern.

    Returns:
      float32 and int32 [steps, pairs]: how much more is kept, and by which division.
    """
    gains = _of_splits if m <= _SPLITS else _of_exchanges

    def step(pairs):
        gain = gains([rows[pairs[:, i]] for i in range(2 * m)], n, m)
        return jnp.max(gain, 1), jnp.argmax(gain, 1).astype(jnp.int32)

    return lax.map(step, channels)


def _of_splits(columns, n, m):
    """[pairs, ways] from 2m columns [pairs, rows]: sums for subsets are shared by the splits."""

    @functools.cache
    def top(subset):
        """The sums of the 0, 1, ... n highest of a subset: those of its halves, combined."""
        if len(subset) == 1:
            return [0.0, columns[subset[0]]]
        a, b = top(subset[: len(subset) // 2]), top(subset[len(subset) // 2 :])
        pairs = [
            [(a[i], b[k - i]) for i in range(len(a)) if 0 <= k - i < len(b)] for k in range(n + 1)
        ]
        return [functools.reduce(jnp.maximum, [x + y for x, y in pair]) for pair in pairs if pair]

    def kept(way):
        return top(tuple(way[:m].tolist()))[n] + top(tuple(way[m:].tolist()))[n]

    now = kept(np.arange(2 * m))
    return jnp.stack([jnp.sum(kept(way) - now, 1) for way in divisions(m)], 1)


def _of_exchanges(columns, n, m):
    """[pairs, ways]: a channel leaves a group for the next in rank, and another comes if higher."""

    def leave(group):
        """What is kept less when a channel leaves, and the lowest that is kept then."""
        nth, after = _ranks(group, n)[n - 1 :]
        group, nth, after = jnp.stack(group, 1), nth[:, None], after[:, None]
        return jnp.where(group >= nth, after - group, 0), jnp.where(group >= nth, after, nth), group

    (less_a, lowest_a, a), (less_b, lowest_b, b) = leave(columns[:m]), leave(columns[m:])
    gain_a = less_a[:, :, None] + jnp.maximum(b[:, None] - lowest_a[:, :, None], 0)
    gain_b = less_b[:, None] + jnp.maximum(a[:, :, None] - lowest_b[:, None], 0)
    return jnp.sum(gain_a + gain_b, -1).reshape(len(a), m * m)


def _ranks(group, n):
    """The n + 1 highest of a group, row by row."""
    highest = [jnp.zeros_like(group[0])] * (n + 1)
    for x in group:
        for i, y in enumerate(highest):
            highest[i], x = jnp.maximum(x, y), jnp.minimum(x, y)
    return highest
