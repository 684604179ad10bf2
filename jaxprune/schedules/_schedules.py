"""Schedules of sparsity: jumps, ramps and staircases."""

import abc
import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from jaxprune._checks import check_sparsity, is_traced
from jaxprune.schedules._base import Schedule, check_int32_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ramp(Schedule):
    """From `init` at `begin` to exactly `final` from `end` on."""

    init: Any
    final: Any

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "init", check_sparsity(self.init, "init"))
        object.__setattr__(self, "final", check_sparsity(self.final, "final"))

    @abc.abstractmethod
    def curve(self, x, xp):
        """The sparsity after the fraction x of the span, 0 <= x <= 1."""

    def value(self, step, xp):
        # Clipped first: an unsigned counter must not wrap, nor a power meet a negative base.
        elapsed = xp.clip(step, self.begin, self.end) - self.begin
        low, high = xp.minimum(self.init, self.final), xp.maximum(self.init, self.final)
        curve = xp.clip(self.curve(elapsed / max(self.end - self.begin, 1), xp), low, high)
        # The ends are chosen, not computed, so that rounding cannot miss them.
        return xp.where(step >= self.end, self.final, xp.where(step > self.begin, curve, self.init))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Polynomial(Ramp):
    """What `polynomial` and `linear` make."""

    power: int | float

    def __post_init__(self):
        super().__post_init__()
        power = self.power
        if isinstance(power, bool) or not isinstance(power, numbers.Real):
            raise TypeError(f"power={power!r} is not a static number; give one such as 3.")
        if not (power > 0 and math.isfinite(power)):
            raise ValueError(f"power={power!r} must be finite and above 0; the usual one is 3.")
        # A whole power is computed by multiplication: exact where a general power is not.
        power = int(power) if power == int(power) else float(power)
        object.__setattr__(self, "power", power)

    def curve(self, x, xp):
        return self.final + (self.init - self.final) * (1 - x) ** self.power


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Ramp):
    """What `cosine` makes."""

    def curve(self, x, xp):
        return self.final + (self.init - self.final) * (1 + xp.cos(math.pi * x)) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(Ramp):
    """What `exponential` makes."""

    def curve(self, x, xp):
        return 1 - (1 - self.init) * ((1 - self.final) / (1 - self.init)) ** x


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """What `steps` makes: `values[i]` from step `at[i]` on."""

    at: tuple[int, ...]
    values: tuple[float, ...]

    def value(self, step, xp):
        past = xp.searchsorted(xp.asarray(self.at), step, side="right")
        return xp.asarray((0.0, *self.values))[past]


def constant(sparsity) -> Schedule:
    """One sparsity from the first step on.

        s(t) = sparsity

    Args:
      sparsity: fraction of zeros, 0 <= sparsity < 1; may be traced.

    Returns:
      A `Schedule` with begin = end = 0, whose only event of its own is step 0.

    Raises:
      ValueError: sparsity outside [0, 1).
      TypeError: sparsity is no scalar number.

    Example:
      >>> from jaxprune import schedules
      >>> schedules.constant(0.5)(7)
      0.5
    """
    sparsity = check_sparsity(sparsity, "sparsity")
    return Polynomial(begin=0, end=0, init=sparsity, final=sparsity, power=1)


def one_shot(final, *, step: int = 0) -> Schedule:
    """Dense until one step, sparse from that step on.

        s(t) = final if t >= step else 0

    Args:
      final: fraction of zeros, 0 <= final < 1; may be traced.
      step: the step of the jump, 0 <= step < 2**31.

    Returns:
      A `Schedule` with begin = end = step.

    Raises:
      ValueError: final outside [0, 1), or step out of range.
      TypeError: final is no scalar number; step is traced or no whole number.

    Example:
      >>> from jaxprune import schedules
      >>> jump = schedules.one_shot(0.8, step=100)
      >>> jump(99), jump(100)
      (0.0, 0.8)
    """
    step, final = check_int32_step(step, "step"), check_sparsity(final, "final")
    return Polynomial(begin=step, end=step, init=final, final=final, power=1)


def polynomial(final, *, begin: int, end: int, init=0.0, power: int | float = 3) -> Schedule:
    """Fast at first, slow near the target: the default of the field with power 3.

        s(t) = final + (init - final) * (1 - x)**power, x = (t - begin) / (end - begin)

    Args:
      final: sparsity from `end` on, 0 <= final < 1; may be traced.
      begin: first step of the ramp, 0 <= begin <= end. Before it the sparsity is 0.
      end: first step with the final sparsity, end < 2**31. With begin == end it is a jump.
      init: sparsity at `begin`, 0 <= init < 1; may be traced. Above `final` the density grows.
      power: above 0; static.

    Returns:
      A `Schedule`; `init` and `final` are met exactly, as are the bounds between them.

    Raises:
      ValueError: a sparsity outside [0, 1), begin > end, a step or power out of range.
      TypeError: a sparsity is no scalar number; a step or the power is traced or no number.

    Example:
      >>> from jaxprune import schedules
      >>> ramp = schedules.polynomial(0.8, begin=100, end=300)
      >>> ramp(99), round(ramp(200), 9), ramp(300), ramp(10**6)
      (0.0, 0.7, 0.8, 0.8)

    References:
      Zhu and Gupta, To prune, or not to prune, arXiv:1710.01878.
    """
    return Polynomial(begin=begin, end=end, init=init, final=final, power=power)


def linear(final, *, begin: int, end: int, init=0.0) -> Schedule:
    """The same number of weights at every step.

        s(t) = init + (final - init) * x, x = (t - begin) / (end - begin)

    Args:
      final: sparsity from `end` on, 0 <= final < 1; may be traced.
      begin: first step of the ramp, 0 <= begin <= end. Before it the sparsity is 0.
      end: first step with the final sparsity, end < 2**31. With begin == end it is a jump.
      init: sparsity at `begin`, 0 <= init < 1; may be traced.

    Returns:
      A `Schedule`; `polynomial` with power 1.

    Raises:
      ValueError: a sparsity outside [0, 1), begin > end, or a step out of range.
      TypeError: a sparsity is no scalar number; a step is traced or no whole number.

    Example:
      >>> from jaxprune import schedules
      >>> schedules.linear(0.5, begin=0, end=4)(1)
      0.125
    """
    return Polynomial(begin=begin, end=end, init=init, final=final, power=1)


def cosine(final, *, begin: int, end: int, init=0.0) -> Schedule:
    """Slow at both ends, fast between them: half a cosine.

        s(t) = final + (init - final) * (1 + cos(pi x)) / 2, x = (t - begin) / (end - begin)

    Args:
      final: sparsity from `end` on, 0 <= final < 1; may be traced.
      begin: first step of the ramp, 0 <= begin <= end. Before it the sparsity is 0.
      end: first step with the final sparsity, end < 2**31. With begin == end it is a jump.
      init: sparsity at `begin`, 0 <= init < 1; may be traced.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: a sparsity outside [0, 1), begin > end, or a step out of range.
      TypeError: a sparsity is no scalar number; a step is traced or no whole number.

    Example:
      >>> from jaxprune import schedules
      >>> round(schedules.cosine(0.8, begin=0, end=100)(50), 9)
      0.4
    """
    return Cosine(begin=begin, end=end, init=init, final=final)


def exponential(final, *, begin: int, end: int, init=0.0) -> Schedule:
    """The density falls by the same factor at every step.

        s(t) = 1 - (1 - init) * ((1 - final) / (1 - init))**x, x = (t - begin) / (end - begin)

    Args:
      final: sparsity from `end` on, 0 <= final < 1; may be traced.
      begin: first step of the ramp, 0 <= begin <= end. Before it the sparsity is 0.
      end: first step with the final sparsity, end < 2**31. With begin == end it is a jump.
      init: sparsity at `begin`, 0 <= init < 1; may be traced.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: a sparsity outside [0, 1), begin > end, or a step out of range.
      TypeError: a sparsity is no scalar number; a step is traced or no whole number.

    Example:
      >>> from jaxprune import schedules
      >>> halving = schedules.exponential(0.875, begin=0, end=3)  # half of what remains, thrice
      >>> [round(halving(t), 9) for t in range(4)]
      [0.0, 0.5, 0.75, 0.875]
    """
    return Exponential(begin=begin, end=end, init=init, final=final)


def steps(mapping: Mapping[int, Any] | Iterable[tuple[int, Any]]) -> Schedule:
    """A staircase: each sparsity holds from its step until the next one.

        s(t) = the value of the latest key k <= t, or 0 before the first key

    Args:
      mapping: {step: sparsity}, or pairs of them, in any order; steps in [0, 2**31), each once,
        and sparsities in [0, 1). Static.

    Returns:
      A `Schedule` from the first key to the last; the keys are its events, `at`.

    Raises:
      ValueError: no pair, a step twice, or a number out of range.
      TypeError: not pairs of a whole number and a number, or one of them is traced.

    Example:
      >>> from jaxprune import schedules
      >>> stairs = schedules.steps({100: 0.2, 200: 0.4, 300: 0.6})
      >>> (stairs(99), stairs(250), stairs(300)), stairs.at
      ((0.0, 0.4, 0.6), (100, 200, 300))
    """
    remedy = "give {step: sparsity} or pairs (step, sparsity), such as {100: 0.2, 200: 0.4}"
    try:
        pairs = [(k, v) for k, v in (mapping.items() if isinstance(mapping, Mapping) else mapping)]
    except (TypeError, ValueError) as error:
        raise TypeError(f"mapping={mapping!r} holds no pairs; {remedy}.") from error
    if not pairs:
        raise ValueError(f"mapping={mapping!r} is empty; {remedy}.")
    values: dict[int, float] = {}
    for key, sparsity in pairs:
        step = check_int32_step(key, "step")
        if step in values:
            raise ValueError(f"mapping holds step={step} twice; give each step once.")
        if is_traced(sparsity):
            raise TypeError(
                f"mapping[{step}] is traced, but the stairs must be static; pass a Python float, "
                f"or use polynomial, whose sparsities may be traced."
            )
        values[step] = check_sparsity(sparsity, f"mapping[{step}]")
    at = tuple(sorted(values))
    return Steps(begin=at[0], end=at[-1], at=at, values=tuple(values[step] for step in at))
