"""Masks on a schedule around an optimizer: what pruning and sparse training have in common."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprune._sharding import placed_as
from jaxprune._tree import flatten
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._bits import as_stored, from_bits, ones, resharded, to_bits
from jaxprune.masks._compute import Given, compute, params_needed
from jaxprune.masks._exchange import drawn, exchange
from jaxprune.masks._fan_in import check_enough, check_matrices, fan_in_exchange, fan_in_start
from jaxprune.masks._make import place
from jaxprune.masks._setup import Options
from jaxprune.masks._targets import resolve
from jaxprune.masks._tied import check_untied
from jaxprune.scores import Criterion
from jaxprune.transforms import _events
from jaxprune.transforms._criteria import (
    ScoreState,
    alive,
    all_finite,
    check_criteria,
    finish_event,
    kinds_of,
    loss_of,
    needed,
    once,
    probed,
    recalled,
    remember,
    stand_ins,
    start,
    stored,
    uses_grads,
)
from jaxprune.transforms._inner import (
    NO_PARAMS,
    as_array,
    check_inner,
    is_placeholder,
    masked_update,
)
from jaxprune.transforms._regrow import Regrow, stay_counts, stay_table
from jaxprune.transforms._state import PruneState


def _at_event(is_event, recompute, masks, leaves, given, probe=None):
    """`recompute` at an event, else `masks` as they are; and whether the event has to wait.

    It waits for the next update if gradients that criteria read are not finite: scores of NaN rank
    nothing, and would damage the masks.
    """
    masks = [resharded(mask, w) for mask, w in zip(masks, leaves, strict=True)]
    if given.grads is None:
        return once(is_event, recompute, masks, (leaves, given)), None

    def turn(carry, read):
        leaves, given = read
        given = given if probe is None else given._replace(grads=probe())
        finite = all_finite(given.grads)
        new = recompute(carry[0], (leaves, given))
        return [jnp.where(finite, x, y) for x, y in zip(new, carry[0], strict=True)], ~finite

    return once(is_event, turn, (masks, jnp.zeros((), bool)), (leaves, given))


class _Table(NamedTuple):
    """What is kept at each event, and how much of it stays where weights move."""

    rows: Any  # for each event the number of its counts
    counts: Any
    stay: Any  # limbs [events, groups, 2], or None

    def at(self, events, step):
        """The counts of the event at a step, and what stays."""
        stay = None if self.stay is None else jnp.asarray(self.stay)[events.index(step)]
        return _events.counts_at(step, events, self.rows, self.counts), stay


class _Moves(NamedTuple):
    """How weights move, as far as a compiled program depends on it."""

    grow: Criterion | None
    fan_in: float | None


def _recomputed(setup, moves, leaves, given, old, counts, stay):
    """The masks of an event, as the state has them."""
    if moves.grow is None:
        given = given._replace(alive=alive(setup, old, leaves))
        masks = compute(setup, leaves, given, *counts, in_update=True)
    else:
        here = [from_bits(mask, w) for mask, w in zip(old, leaves, strict=True)]
        arguments = setup, moves.grow, leaves, given, here, stay, counts
        if moves.fan_in is None:
            masks = exchange(*arguments)
        else:
            masks = fan_in_exchange(*arguments, moves.fan_in)
    return [as_stored(mask, x) for mask, x in zip(masks, old, strict=True)]


@functools.partial(jax.jit, static_argnames=("setup", "moves", "events"))
def _refresh(setup, moves, events, leaves, given, masks, is_event, table):
    """The masks after the event at a step, if it is one. Jitted for callers that are not."""

    def recompute(old, read):
        leaves, given = read
        return _recomputed(setup, moves, leaves, given, old, *table.at(events, given.step))

    return _at_event(is_event, recompute, masks, leaves, given)


def build(
    inner, course: _events.Course, chosen: Options, regrow: Regrow | None = None
) -> optax.GradientTransformationExtraArgs:
    """The transform of `prune`, and with `regrow` of sparse training.

    Args:
      inner: an optimizer or None.
      course: the events, and the sparsity at each.
      chosen: how to prune.
      regrow: how events move weights; masks are made in `init` then. None: no weight but what a
        criterion revives.
    """
    if inner is not None:
        check_inner(inner)
        inner = optax.with_extra_args_support(inner)
    if regrow is not None:
        check_untied(chosen.pattern, "an exchange of weights")
    moves = _Moves(None, None) if regrow is None else _Moves(regrow.grow, regrow.fan_in)
    check_criteria(chosen, inner, moves.grow)
    kinds, reads_grads = kinds_of(chosen), uses_grads(chosen, moves.grow)
    events = course.events

    @_events.once_per_tree
    def prepare(structure, avals):
        setup, _ = resolve(structure.unflatten(avals), chosen)
        if moves.fan_in is not None:
            check_matrices(setup)
        if course.values is None:
            return setup, None
        rows, counts = _events.table(course, setup, chosen.allocate)
        if moves.fan_in is not None:
            check_enough(setup, counts.num_keep)
        stay = None if regrow is None else stay_table(regrow, rows, counts.num_keep)
        return setup, _Table(rows, counts, stay)

    def prepared(params):
        paths, leaves, structure = flatten(params)
        return (*prepare(structure, _events.avals(leaves)), paths, leaves, structure)

    def traced_counts(setup, step):
        counts = _events.counts_traced(step, course, setup, chosen.allocate)
        if regrow is None:
            return counts, None
        return counts, stay_counts(regrow, events.index(step), counts.num_keep)

    def first_masks(setup, targets):
        if regrow is None:
            return [ones(w) for w in targets]
        counts = course.first_counts(setup, chosen.allocate)
        arrays = [as_array(w) for w in targets]
        draw = drawn if moves.fan_in is None else fan_in_start
        masks = draw(setup, regrow.start, arrays, counts)
        return [to_bits(placed_as(m, w)) for m, w in zip(masks, arrays, strict=True)]

    def init(params):
        if is_placeholder(params):
            masks, memory = params, stand_ins(kinds, params)
        else:
            setup, *_, leaves, structure = prepared(params)
            targets = [leaves[t.index] for t in setup.targets]
            masks = place(setup, first_masks(setup, targets), structure)
            memory = stored(setup, kinds, start(setup, targets), structure)
        waiting = jnp.zeros((), bool)
        return PruneState(
            prune_step=jnp.zeros((), jnp.int32),
            masks=masks,
            masks_changed=jnp.zeros((), bool),
            score_state=ScoreState(waiting, memory) if reads_grads else (),
            inner_state=optax.EmptyState() if inner is None else inner.init(params),
        )

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError(NO_PARAMS)
        setup, table, paths, leaves, structure = prepared(params)
        step = state.prune_step
        targets = [jnp.asarray(leaves[t.index]) for t in setup.targets]
        is_event = jnp.asarray(events.is_event(step))
        given, memory = Given(params_needed(setup, paths, leaves, moves.grow), step=step), []
        if reads_grads:
            is_event |= state.score_state.waiting
            grads = structure.flatten_up_to(updates)
            read = needed(setup, grads, moves.grow)
            memory = recalled(setup, kinds, state.score_state.memory, structure)
            memory = remember(setup, events, targets, read, memory, step, is_event)
            given = given._replace(grads=read, memory=memory)
        probe = None
        if any(t.criterion.probe is not None for t in setup.targets):
            loss = loss_of(extra, params)
            probe = functools.partial(
                probed, setup, paths, leaves, structure, grads, read, step, loss
            )
        known = flatten_masks(state.masks)
        old = [known[t.path] for t in setup.targets]
        if table is None or probe is not None:  # what a jitted function cannot be given

            def recompute(old, read):
                leaves, given = read
                counts = traced_counts(setup, step) if table is None else table.at(events, step)
                return _recomputed(setup, moves, leaves, given, old, *counts)

            new, waiting = _at_event(is_event, recompute, old, targets, given, probe)
        else:
            new, waiting = _refresh(setup, moves, events, targets, given, old, is_event, table)
        masks = place(setup, new, structure)
        changed = is_event if waiting is None else is_event & ~waiting
        # The first event of pruning revives nothing: all was there.
        revived = changed if regrow is not None else changed & (step > events.begin)
        updates, inner_state = masked_update(
            inner, masks, updates, state.inner_state, params, extra, revived=revived
        )
        score_state = state.score_state
        if waiting is not None:
            flat = structure.flatten_up_to(updates)
            emitted = [flat[t.index] for t in setup.targets]
            memory, emitted = finish_event(setup, changed, targets, new, memory, emitted)
            new_at = {t.index: u for t, u in zip(setup.targets, emitted, strict=True)}
            updates = structure.unflatten([new_at.get(i, u) for i, u in enumerate(flat)])
            score_state = ScoreState(waiting, stored(setup, kinds, memory, structure))
        step = optax.safe_increment(step)
        return updates, PruneState(step, masks, changed, score_state, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)
