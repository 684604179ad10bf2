"""When masks change and to how many weights: a table made on the host, read in the program."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import schedules
from jaxprune._checks import check_sparsity, is_traced
from jaxprune.masks._counts import Counts, count
from jaxprune.masks._make import check_reachable, progress_of

_MOST_ENTRIES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Course:
    """The events of a run and the sparsity at each.

    Attributes:
      schedule: step -> sparsity.
      events: which steps are events.
      values: the sparsity at each event as Python floats, or None where it is traced.
    """

    schedule: Any
    events: schedules.Events
    values: tuple[float, ...] | None

    def first_and_last(self) -> tuple[Any, Any]:
        """The sparsity at step 0 and at the end."""
        with jax.ensure_compile_time_eval():
            both = self.schedule(0), self.schedule(self.events.end)
        return check_sparsity(both[0], "sparsity"), check_sparsity(both[1], "sparsity")

    def first_counts(self, setup, allocate) -> Counts:
        """How many are kept at step 0."""
        first, final = self.first_and_last()
        return count(setup, allocate, first, progress=progress_of(first, final), step=0)


def course(sparsity, when) -> Course:
    """Checks `sparsity` and `when`, and evaluates the schedule at every event.

    Raises:
      TypeError, ValueError: a value is no sparsity, or the events are not given.
    """
    if not callable(sparsity):
        sparsity = schedules.constant(check_sparsity(sparsity, "sparsity"))
    events = schedules.resolve_events(when, sparsity)
    with jax.ensure_compile_time_eval():
        values = [sparsity(int(step)) for step in events.all()]
    checked = [
        check_sparsity(value, "sparsity", where=f"step {step}")
        for step, value in zip(events.all(), values, strict=True)
    ]
    traced = any(map(is_traced, checked))
    return Course(sparsity, events, None if traced else tuple(checked))


def table(course: Course, setup, allocate) -> tuple[np.ndarray, Counts]:
    """For a course that is not traced: for each event a row number, and the counts of each row.

    Raises:
      ValueError: there are too many different events for a table.
    """
    values = course.values
    assert values is not None
    targets = setup.ranking.targets
    own = any(callable(t.sparsity) for t in targets)
    steps = course.events.all().tolist()
    keys = list(zip(values, steps, strict=True)) if own else [(v, None) for v in values]
    rows = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    if len(rows) * len(targets) > _MOST_ENTRIES:
        raise ValueError(
            f"{len(rows)} events with a sparsity of their own for {len(targets)} leaves are "
            "too many; space them out with when=jaxprune.every(n, ...)."
        )
    for target in targets:
        check_reachable(target, values[-1], steps[-1])
    counts = [
        count(setup, allocate, v, progress=progress_of(v, values[-1]), step=step)
        for v, step in rows
    ]
    stacked = Counts(*(None if c[0] is None else np.stack(c) for c in zip(*counts, strict=True)))
    return np.array([rows[key] for key in keys], np.int32), stacked


def counts_at(step, events: schedules.Events, rows, counts: Counts) -> Counts:
    """The counts of the event at `step`, from the table."""
    row = jnp.asarray(rows)[events.index(step)]
    return jax.tree.map(lambda x: jnp.asarray(x)[row], counts)


def counts_traced(step, course: Course, setup, allocate) -> Counts:
    """The counts at `step` where the sparsity is known only at run time."""
    value = course.schedule(step)
    final = course.schedule(course.events.end)
    return count(setup, allocate, value, progress=progress_of(value, final), step=step)


def once_per_tree(function):
    """Remembers what `function(structure, avals)` gave: tracing a step again costs nothing."""
    return functools.lru_cache(maxsize=8)(function)


def avals(leaves) -> tuple:
    """Shapes and dtypes of leaves, for a function that is called once per tree."""
    return tuple(_Aval(jnp.shape(x), jnp.result_type(x)) for x in leaves)


class _Aval:
    """Shape and dtype of a leaf, hashable."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = tuple(shape), dtype

    def __eq__(self, other):
        return (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self):
        return hash((self.shape, self.dtype))
