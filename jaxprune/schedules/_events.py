"""Which steps are events: the steps at which masks are recomputed."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprune._checks import check_sparsity, check_step, is_traced
from jaxprune.schedules._base import Schedule, as_steps, check_int32_step
from jaxprune.schedules._schedules import constant

_SPAN = "jaxprune.every(n, begin=..., end=...)"


@dataclasses.dataclass(frozen=True)
class Every:
    """What `every` makes: an event every `n` steps; a bound of None is the schedule's own."""

    n: int
    begin: int | None = None
    end: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "n", check_step(self.n, "n", minimum=1))
        for name in ("begin", "end"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_int32_step(getattr(self, name), name))
        if self.begin is not None and self.end is not None and self.begin > self.end:
            raise ValueError(
                f"begin={self.begin} comes after end={self.end}; events need begin <= end."
            )


def every(n: int, *, begin: int | None = None, end: int | None = None) -> Every:
    """An event every n steps, counted from `begin`, and one at `end`.

        {t : begin <= t <= end, (t - begin) % n == 0} and {end}

    Args:
      n: steps between events, n >= 1. Beyond the span only begin and end are events.
      begin: first event, in [0, 2**31); None takes it from the schedule.
      end: last event, begin <= end < 2**31, also when it is no multiple of n; None as above.

    Returns:
      An `Every`, for the argument `when`.

    Raises:
      ValueError: n < 1, begin > end, or a step out of range.
      TypeError: an argument that is traced or no whole number.

    Example:
      >>> from jaxprune import schedules
      >>> ramp = schedules.linear(0.5, begin=10, end=25)
      >>> schedules.resolve_events(schedules.every(10), ramp).all()
      array([10, 20, 25])
    """
    return Every(n, begin, end)


@dataclasses.dataclass(frozen=True)
class Events:
    """The steps at which masks are recomputed; static and hashable.

    Args:
      begin: the first event.
      end: the last event.
      n: steps between events, counted from begin; unused where the steps are explicit.
      steps: the events themselves, sorted and unique, or None where they are arithmetic.

    Example:
      >>> from jaxprune import schedules
      >>> events = schedules.Events(1500, 1900, n=1000)
      >>> len(events), events.all(), events.index(1899)
      (2, array([1500, 1900]), 0)
    """

    begin: int
    end: int
    n: int = 1
    steps: tuple[int, ...] | None = None

    def __post_init__(self):
        # A step counter is an int32, and beyond its span only begin and end are events.
        object.__setattr__(self, "n", min(self.n, 2**31 - 1))

    def is_event(self, step):
        """Whether a step is an event: bool, of the step's shape; traced or not."""
        xp, step = as_steps(step)
        if self.steps is not None:
            steps = xp.asarray(self.steps)
            event = steps[xp.maximum(self._past(step, xp) - 1, 0)] == step
        else:
            # Clipped first: an unsigned counter must not wrap.
            inside = xp.clip(step, self.begin, self.end)
            event = ((inside - self.begin) % self.n == 0) & (inside == step) | (step == self.end)
        return event if event.ndim or xp is jnp else bool(event)

    def index(self, step):
        """The number of the latest event at or before a step, int32; -1 before the first."""
        xp, step = as_steps(step)
        if self.steps is not None:
            index = self._past(step, xp) - 1
        else:
            index = (xp.clip(step, self.begin, self.end) - self.begin) // self.n
            index = xp.where(step >= self.end, len(self) - 1, index)
            index = xp.where(step < self.begin, -1, index)
        index = index.astype(np.int32)
        return index if index.ndim or xp is jnp else int(index)

    def _past(self, step, xp):
        """How many of the explicit events have come."""
        return xp.searchsorted(xp.asarray(self.steps), step, side="right")

    def all(self) -> np.ndarray:
        """All event steps, ascending; on the host."""
        if self.steps is not None:
            return np.array(self.steps)
        return np.append(np.arange(self.begin, self.end, self.n), self.end)

    def __len__(self) -> int:
        if self.steps is not None:
            return len(self.steps)
        return -(-(self.end - self.begin) // self.n) + 1


def resolve_events(
    when: Every | Iterable[int] | None, schedule: Schedule | Callable[[Any], Any] | float
) -> Events:
    """The events of a run, from what the caller asked for and what the schedule needs.

    Without `when`: the schedule's own events; the one step of a jump; else about a hundred,
    n = max(1, round((end - begin) / 100)).

    Args:
      when: None, `every(...)`, or steps in any order.
      schedule: a `Schedule`, any callable step -> sparsity, or a constant sparsity.

    Returns:
      `Events`; the last one is no earlier than the end of the schedule.

    Raises:
      ValueError: no events; a span that nothing gives; or a last event before the schedule's
        end, since the target would not be reached.
      TypeError: a `when` that is traced, a number, a string or a callable.

    Example:
      >>> from jaxprune import schedules
      >>> ramp = schedules.polynomial(0.9, begin=0, end=1000)
      >>> len(schedules.resolve_events(None, ramp))
      101
      >>> schedules.resolve_events([1000, 500, 500], ramp).steps
      (500, 1000)
    """
    if not callable(schedule):
        schedule = constant(check_sparsity(schedule, "sparsity"))
    if when is None:
        events = _default(schedule)
    elif isinstance(when, Every):
        events = _spanned(when, schedule)
    else:
        events = _explicit(when)
    if isinstance(schedule, Schedule) and events.end < schedule.end:
        raise ValueError(
            f"the last event, step {events.end}, comes before the schedule's end={schedule.end}, "
            f"so its final sparsity would not be reached; add an event at or after {schedule.end}."
        )
    return events


def _default(schedule) -> Events:
    if not isinstance(schedule, Schedule):
        raise ValueError(
            f"when=None, but the schedule {schedule!r} does not say when it begins and ends; "
            f"pass when={_SPAN}."
        )
    if schedule.at is not None:
        return _explicit(schedule.at)
    span = schedule.end - schedule.begin
    return Events(schedule.begin, schedule.end, n=max(1, round(span / 100)))


def _spanned(when: Every, schedule) -> Events:
    begin, end = when.begin, when.end
    if begin is None or end is None:
        if not isinstance(schedule, Schedule):
            raise ValueError(
                f"when={when!r} leaves begin or end to the schedule, but {schedule!r} has none; "
                f"pass when={_SPAN}."
            )
        if end is None and schedule.begin == schedule.end:
            # One event is not what `every` asks for, and a constant has no end to offer.
            raise ValueError(
                f"when={when!r} leaves the end to the schedule, which jumps at step "
                f"{schedule.end} and has no span; pass when={_SPAN}, or leave out `when` for "
                f"one event."
            )
        begin = schedule.begin if begin is None else begin
        end = schedule.end if end is None else end
    if begin > end:
        raise ValueError(
            f"when={when!r} with this schedule gives begin={begin} after end={end}; "
            f"pass when={_SPAN} with begin <= end."
        )
    return Events(begin, end, n=when.n)


def _explicit(when) -> Events:
    remedy = f"pass None, {_SPAN}, or steps such as [100, 200]"
    if is_traced(when):
        raise TypeError(
            f"when is traced, but events must be known when the program is built; {remedy}."
        )
    if isinstance(when, str | bytes) or callable(when):
        raise TypeError(f"when={when!r} does not say which steps are events; {remedy}.")
    try:
        values = list(when)
    except TypeError as error:
        raise TypeError(f"when={when!r} holds no steps; {remedy}.") from error
    if not values:
        raise ValueError(f"when={when!r} holds no steps; {remedy}.")
    steps = tuple(sorted({check_int32_step(value, f"when[{i}]") for i, value in enumerate(values)}))
    return Events(steps[0], steps[-1], steps=steps)
