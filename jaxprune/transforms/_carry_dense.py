"""Dense weights trained through masks that are made again and again."""

import functools

import jax
import jax.numpy as jnp
import optax

from jaxprune._checks import check_step, is_traced
from jaxprune._sharding import placed_as
from jaxprune._tree import flatten
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._bits import as_stored, from_bits, ones, resharded, to_bits
from jaxprune.masks._compute import Given, compute, params_needed
from jaxprune.masks._make import place
from jaxprune.masks._targets import resolve
from jaxprune.schedules import Schedule
from jaxprune.transforms import _events
from jaxprune.transforms._criteria import criteria_of, once
from jaxprune.transforms._inner import (
    NO_PARAMS,
    as_array,
    check_inner,
    is_placeholder,
    mask_state,
    zero_where_pruned,
)
from jaxprune.transforms._state import StraightThroughState


class Level:
    """One sparsity of all leaves, at any step."""

    def __init__(self, sparsity, chosen):
        if callable(sparsity) and not isinstance(sparsity, Schedule):
            raise TypeError(
                f"sparsity={sparsity!r} does not say when it begins and ends; give a schedule of "
                "jaxprune.schedules, such as jaxprune.polynomial, or a number."
            )
        self.course, self.chosen = _events.course(sparsity, None), chosen

        @_events.once_per_tree
        def prepare(structure, avals):
            setup, _ = resolve(structure.unflatten(avals), chosen)
            if self.course.values is None:
                return setup, None
            return setup, _events.table(self.course, setup, chosen.allocate)

        self._prepare = prepare

    def setup(self, params):
        """What is pruned, and the table of counts or None."""
        _, leaves, structure = flatten(params)
        return self._prepare(structure, _events.avals(leaves))

    def first(self, setup, leaves):
        """The masks of step 0."""
        value, _ = self.course.first_and_last()
        if not is_traced(value) and value == 0:
            return [ones(w) for w in leaves]
        counts = self.course.first_counts(setup, self.chosen.allocate)
        masks = compute(setup, leaves, Given(), *counts)
        return [to_bits(placed_as(m, w)) for m, w in zip(masks, leaves, strict=True)]


def carry_dense(inner, every, levels, penalized):
    """A transform that trains all weights, or those of the last level.

    Args:
      inner: an optimizer.
      every: how many updates a mask serves.
      levels: the sparsity of the forward pass, and that of what is updated if not all is.
      penalized: `(masks, g, w, step) -> g`, masks of one leaf, one for each level.
    """
    check_inner(inner)
    inner = optax.with_extra_args_support(inner)
    every = check_step(every, "every", minimum=1)
    for criterion in criteria_of(levels[0].chosen):
        if criterion.needs_grads:
            raise ValueError(
                "score: the criterion reads gradients, but masks are made of the params after an "
                "update; give one of weights alone, such as jaxprune.scores.magnitude."
            )

    def init(params):
        state = inner.init(params)
        zero, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
        if is_placeholder(params):
            trees = [params] * len(levels)
            return _state(zero, trees, no, state)
        _, leaves, structure = flatten(params)
        made = []
        for level in levels:
            setup, _ = level.setup(params)
            targets = [as_array(leaves[t.index]) for t in setup.targets]
            made.append(place(setup, level.first(setup, targets), structure))
        return _state(zero, made, no, state)

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError(NO_PARAMS)
        step = state.through_step
        trees = [state.masks, state.backward_masks][: len(levels)]
        known = [flatten_masks(tree) for tree in trees]
        paths, leaves, structure = flatten(params)
        flat = structure.flatten_up_to(updates)
        masks = [
            {p: _read(bits[p], w) for p, w in zip(paths, leaves, strict=True)} for bits in known
        ]
        if len(levels) > 1:  # what is used is updated, also while a schedule is below the second
            masks[1] = {p: None if m is None else m | masks[0][p] for p, m in masks[1].items()}
        for i, (path, g, w) in enumerate(zip(paths, flat, leaves, strict=True)):
            own = [m[path] for m in masks]
            if own[0] is not None and g is not None:
                flat[i] = penalized(own, g, w, step)
        inner_state = state.inner_state
        if len(levels) > 1:
            inner_state = mask_state(inner_state, masks[-1])
        updates, inner_state = inner.update(structure.unflatten(flat), inner_state, params, **extra)
        if len(levels) > 1:
            flat = structure.flatten_up_to(updates)
            chosen = [(u, masks[-1][path]) for u, path in zip(flat, paths, strict=True)]
            flat = [u if m is None or u is None else zero_where_pruned(m, u) for u, m in chosen]
            updates = structure.unflatten(flat)
        _, after, _ = flatten(optax.apply_updates(params, updates))
        due, made = _due(levels[0].course.events, every, step + 1), []
        for level, bits in zip(levels, known, strict=True):
            setup, table = level.setup(params)
            new = _refreshed(level, setup, table, paths, after, bits, step + 1, due)
            made.append(place(setup, new, structure))
        step = optax.safe_increment(step)
        return updates, _state(step, made, due, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _state(step, masks, changed, inner_state):
    forward, backward = (*masks, ())[:2]
    return StraightThroughState(step, forward, backward, changed, inner_state)


def _read(bits, w):
    return None if bits is None else from_bits(bits, w)


def _due(events, every, step):
    """Whether masks are made again for the forward pass at a step."""
    regular = (step - events.begin) % every == 0
    return (step >= events.begin) & (regular | jnp.asarray(events.is_event(step)))


def _refreshed(level, setup, table, paths, after, known, step, due):
    """Masks for the forward pass at `step`: where they are due, those of the params by then."""
    targets = [jnp.asarray(after[t.index]) for t in setup.targets]
    old = [resharded(known[t.path], w) for t, w in zip(setup.targets, targets, strict=True)]
    given, events = Given(params_needed(setup, paths, after), step=step), level.course.events
    if table is not None:
        return _refresh(setup, events, targets, given, old, due, table)

    def counts():
        return _events.counts_traced(step, level.course, setup, level.chosen.allocate)

    return _recomputed(setup, targets, given, old, due, counts)


@functools.partial(jax.jit, static_argnames=("setup", "events"))
def _refresh(setup, events, targets, given, old, due, table):
    """The same from a table of counts. Jitted for callers that are not."""

    def counts():
        return _events.counts_at(given.step, events, *table)

    return _recomputed(setup, targets, given, old, due, counts)


def _recomputed(setup, targets, given, old, due, counts):
    def turn(masks, read):
        new = compute(setup, *read, *counts(), in_update=True)
        return [as_stored(mask, x) for mask, x in zip(new, masks, strict=True)]

    return once(due, turn, old, (targets, given))
