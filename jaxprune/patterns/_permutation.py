"""An order of the input channels in which N:M keeps more of the magnitude."""

import contextlib
import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import axes
from jaxprune._checks import check_key, is_traced
from jaxprune._table import tqdm
from jaxprune.patterns import _gains
from jaxprune.patterns._nm import NM

_AT_ONCE = 1 << 15  # pairs times rows that are compared at once: they stay in a core's cache


@dataclasses.dataclass(frozen=True, eq=False)
class Permutation:
    """An order of the channels along a pattern's axis, and the magnitude kept before and after.

    Attributes:
      order: int32 [channels]; `jnp.take(w, order, axis=pattern.axis)` is the array to prune. The
        channels of a group are in ascending order, and so are the groups by their first channels.
      before, after: sums of |w| that the pattern keeps, in the order given and in the one found.
      total: sum of |w|.
    """

    order: np.ndarray
    before: float
    after: float
    total: float

    @property
    def inverse(self) -> np.ndarray:
        """int32 [channels], the order that undoes this one."""
        return np.argsort(self.order).astype(np.int32)

    @property
    def regained(self) -> float:
        """The share of the magnitude lost before that is kept after; 0 where nothing was lost."""
        lost = self.total - self.before
        return (self.after - self.before) / lost if lost > 0 else 0.0


def permutation(
    w: jax.typing.ArrayLike | Sequence[jax.typing.ArrayLike],
    pattern: NM,
    *,
    escapes: int = 0,
    key: jax.Array | None = None,
    sweeps: float | None = None,
    progress: bool = False,
) -> Permutation:
    """Searches an order of the channels in which N:M keeps more of the magnitude.

    Which channels share a group of m is an accident of their numbers. The magnitude kept is

        sum over groups and rows of the n largest |w| of the group's m channels in that row

    where a row is one index into all other axes. From the order given, the search takes two groups
    at a time and divides their 2m channels anew: of all C(2m, m) / 2 splits (35 for 2:4) it takes
    the best, if that keeps more. For m > 5, of the m * m exchanges of two channels. Groups that
    changed are compared with all others again, until no pair of groups gains. An escape then
    rotates three random channels, goes on from there, and goes back unless it ends higher.

    It runs on the host and the default device, outside jit, and gives the same order each time.
    The order is of these arrays alone: what produces the channels must have its outputs in the
    same order, or the layer must read permuted inputs. Time grows with the square of the channels
    times the rows: on two CPU cores 512 x 512 takes seconds, 2048 x 2048 minutes, and a quarter of
    a minute with sweeps=0.25.

    Args:
      w: float array, or several that share the channels, such as the query, key and value kernels
        that read one input: they get a common order. Of a kernel (height, width, in, out), each
        position is rows of its own. |w| counts, as float32; for a criterion other than magnitude
        pass its scores, none negative.
      pattern: n, m and the axis along which the channels lie, in each array.
      escapes: how many escapes from local optima. For 256 channels a hundred regain 3 to 10 % more.
      key: PRNG key that draws the escapes; needed if there are any.
      sweeps: how many pairs of groups to compare at most, escapes included, as a multiple of all
        pairs. None: until no pair gains, about 4. The first 0.25 bring most of the gain.
      progress: show a bar, by tqdm.

    Returns:
      The best order found; `after` >= `before` always. The order is 0, 1, 2, ... if none is better.
      A NaN counts as 0, as it ranks lowest; an infinite weight as the largest finite one.

    Raises:
      TypeError: `w` is traced or not float, `pattern` is not NM, or `escapes`, `sweeps` are no
        numbers.
      ValueError: no array; m does not divide the axis; the arrays differ in channels; escapes or
        sweeps are negative or not finite; escapes without a key.
      ImportError: tqdm is not installed, with `progress`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import NM, patterns
      >>> w = jnp.array([9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 1.0, 1.0])[:, None]
      >>> found = patterns.permutation(w, NM(2, 4))
      >>> found.before, found.after, found.total
      (19.0, 30.0, 34.0)
      >>> found.order
      array([0, 1, 4, 5, 2, 3, 6, 7], dtype=int32)
      >>> jnp.take(w, found.order, axis=-2)[:, 0]
      Array([9., 8., 1., 1., 7., 6., 1., 1.], dtype=float32)

    References:
      Pool and Yu, Channel permutations for N:M sparsity, NeurIPS 2021.
      Mishra et al., Accelerating sparse deep neural networks, arXiv 2104.08378.
    """
    rows = _rows(w, pattern)
    _check_effort(escapes, key, sweeps)
    search = _Search.begin(rows, pattern.n, pattern.m)
    before = search.kept()
    most = math.inf if sweeps is None else math.ceil(sweeps * len(search.pairs))
    keys = () if key is None else (jax.random.fold_in(key, i) for i in range(escapes))
    with _bar(progress) as bar:
        most -= search.settle(most, bar)
        for each in keys:
            if most <= 0:
                break
            most -= search.escape(each, most, bar)
    groups = search.groups[np.argsort(search.groups[:, 0])]
    order = groups.reshape(-1).astype(np.int32)
    return Permutation(order, before, search.kept(), float(rows.sum(dtype=np.float64)))


@dataclasses.dataclass(frozen=True)
class _Search:
    """Groups of channels and what is known of them; its arrays change in place."""

    rows: np.ndarray  # float32 [channels, rows], magnitudes
    scaled: jax.Array  # the same on the device, times a power of two against overflow
    n: int
    m: int
    groups: np.ndarray  # [groups, m] channels, ascending in each
    keeps: np.ndarray  # float64 [groups]
    pairs: np.ndarray  # [pairs, 2] groups; one after the other they are disjoint, mostly
    stale: np.ndarray  # bool [pairs]: not compared since one of the two changed

    @classmethod
    def begin(cls, rows, n, m):
        """The channels in their order, with nothing compared."""
        _, exponent = np.frexp(rows.max(initial=0))
        scaled = jnp.asarray(np.ldexp(rows, 64 - exponent))
        number = len(rows) // m
        first, turn = np.mgrid[:number, :number].reshape(2, -1)[::-1]
        second = (turn - first) % number  # in a turn every group meets one other at most
        pairs = np.stack([first, second], 1)[first < second]
        groups, stale = np.arange(len(rows)).reshape(number, m), np.ones(len(pairs), bool)
        search = cls(rows, scaled, n, m, groups, np.zeros(number), pairs, stale)
        search.keeps[:] = [search.of(group) for group in groups]
        return search

    def kept(self):
        """The magnitude kept, rounded once: never lower after a step that gains."""
        return math.fsum(self.keeps)

    def of(self, group):
        """The magnitude that one group keeps."""
        ranked = np.partition(self.rows[group], self.m - self.n, axis=0)
        return ranked[self.m - self.n :].sum(dtype=np.float64)

    def settle(self, most, bar):
        """Divides channels anew until no pair gains, or `most` were compared; how many were."""
        compared, turn = 0, 0
        while self.stale.any() and compared < most:
            waiting = np.flatnonzero(self.stale)
            waiting = np.roll(waiting, -np.searchsorted(waiting, turn))
            chosen = waiting[: min(len(self.groups) // 2, most - compared)]
            self.stale[chosen] = False
            self._divide(chosen, *self._best(chosen))
            compared, turn = compared + len(chosen), chosen[-1] + 1
            if bar is not None:
                bar.update(len(chosen))
        return compared

    def _best(self, chosen):
        """How much each of these pairs gains, and its channels divided that way."""
        number = len(self.groups) // 2  # always so many: one compiled program
        together = min(number, max(1, _AT_ONCE // max(1, self.rows.shape[1])))
        padded = np.resize(chosen, -(-number // together) * together)
        channels = self.groups[self.pairs[padded]].reshape(-1, 2 * self.m)
        steps = jnp.asarray(channels.reshape(-1, together, 2 * self.m), jnp.int32)
        gain, way = (np.ravel(x) for x in _gains.best(self.scaled, steps, n=self.n, m=self.m))
        divided = np.take_along_axis(channels, _gains.divisions(self.m)[way], 1)
        divided = np.sort(divided.reshape(-1, 2, self.m), axis=2)
        return gain[: len(chosen)], divided[: len(chosen)]

    def _divide(self, chosen, gain, divided):
        """Takes the divisions that gain in float64 too, highest first, each group once."""
        changed = np.zeros(len(self.groups), bool)
        for i in np.argsort(-gain, kind="stable")[: np.count_nonzero(gain > 0)]:
            pair = self.pairs[chosen[i]]
            if changed[pair].any():
                self.stale[chosen[i]] = True
                continue
            keeps = [self.of(group) for group in divided[i]]
            if sum(keeps) > self.keeps[pair].sum():
                self.groups[pair], self.keeps[pair], changed[pair] = divided[i], keeps, True
        self.stale[changed[self.pairs].any(1)] = True

    def escape(self, key, most, bar):
        """Rotates three random channels and settles; goes back unless that keeps more."""
        groups, keeps, kept = self.groups.copy(), self.keeps.copy(), self.kept()
        places = np.asarray(jax.random.permutation(key, len(self.rows)))[:3]
        self.groups.reshape(-1)[places] = groups.reshape(-1)[np.roll(places, 1)]
        touched = np.isin(np.arange(len(groups)), places // self.m)
        self.groups.sort(axis=1)
        self.keeps[touched] = [self.of(group) for group in self.groups[touched]]
        self.stale[touched[self.pairs].any(1)] = True
        compared = self.settle(most, bar)
        if self.kept() <= kept:
            self.groups[:], self.keeps[:] = groups, keeps
            self.stale[:] = False
        return compared


def _rows(w, pattern):
    """|w| as float32 [channels, rows] of all arrays, every value finite."""
    if not isinstance(pattern, NM):
        raise TypeError(f"pattern={pattern!r}: only groups of N:M gain by another order; pass NM.")
    several = isinstance(w, list | tuple)
    named = {f"w[{i}]": each for i, each in enumerate(w)} if several else {"w": w}
    if not named:
        raise ValueError("w holds no array; pass one array, or several that share an axis.")
    parts = {name: _channels_first(each, name, pattern) for name, each in named.items()}
    lengths = {name: len(part) for name, part in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"w: the arrays have {lengths} channels along axis {pattern.axis}; arrays with a "
            "common order have equally many."
        )
    rows = np.concatenate(list(parts.values()), axis=1)
    finite = np.isfinite(rows)
    largest = np.max(rows, where=finite, initial=0)
    return np.where(finite, rows, np.where(np.isnan(rows), np.float32(0), largest))


def _channels_first(array, name, pattern):
    if is_traced(array):
        raise TypeError(f"{name} is traced, but the search runs on the host; call it outside jit.")
    array = np.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be a float array, not {array.dtype}.")
    axis = axes.normalize(pattern.axis, array.ndim, f"{pattern!r} for {name}")
    if array.shape[axis] % pattern.m:
        raise ValueError(
            f"{pattern!r} for {name}: axis {axis} of shape {array.shape} is not divisible by "
            f"{pattern.m}, in whatever order; choose another axis or pattern, or leave it dense."
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite
        rows = np.moveaxis(np.abs(array.astype(np.float32)), axis, 0)
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def _check_effort(escapes, key, sweeps):
    if isinstance(escapes, bool) or not isinstance(escapes, int):
        raise TypeError(f"escapes={escapes!r} must be a whole number.")
    if escapes < 0:
        raise ValueError(f"escapes={escapes} must be at least 0.")
    if escapes and key is None:
        raise ValueError(f"escapes={escapes} are drawn at random; pass key=jax.random.key(seed).")
    if key is not None:
        check_key(key)
    if sweeps is None:
        return
    if isinstance(sweeps, bool) or not isinstance(sweeps, int | float):
        raise TypeError(f"sweeps={sweeps!r} must be a number, or None for no bound.")
    if not 0 <= sweeps < math.inf:
        raise ValueError(f"sweeps={sweeps} must be finite and at least 0; None is no bound.")


def _bar(progress):
    """A bar that counts pairs, or None."""
    if not progress:
        return contextlib.nullcontext()
    return tqdm("progress=True")(desc="permutation", unit=" pairs")
