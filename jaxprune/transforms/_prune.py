"""Pruning during training: masks on a schedule, around any optimizer."""

import functools

import jax
import jax.numpy as jnp
import optax

from jaxprune._tree import flatten
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._bits import as_stored, ones, resharded
from jaxprune.masks._compute import Given, compute, params_needed
from jaxprune.masks._make import place
from jaxprune.masks._targets import options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude
from jaxprune.transforms import _events
from jaxprune.transforms._criteria import (
    ScoreState,
    alive,
    all_finite,
    check_criteria,
    criteria_of,
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
)
from jaxprune.transforms._inner import NO_PARAMS, check_inner, is_placeholder, masked_update
from jaxprune.transforms._state import PruneState


def _at_event(is_event, recompute, masks, leaves, given, reads):
    """`recompute()` at an event, else `masks` as they are; and whether the event has to wait.

    It waits for the next update if gradients that criteria read are not finite: scores of NaN rank
    nothing, and would damage the masks.
    """
    masks = [resharded(mask, w) for mask, w in zip(masks, leaves, strict=True)]
    if given.grads is None:
        return once(is_event, lambda _: recompute(given), masks, (leaves, reads)), None

    def turn(carry):
        ready = given._replace(grads=given.grads()) if callable(given.grads) else given
        finite = all_finite(ready.grads)
        new = recompute(ready)
        return [jnp.where(finite, x, y) for x, y in zip(new, carry[0], strict=True)], ~finite

    carry = masks, jnp.zeros((), bool)
    return once(is_event, turn, carry, (leaves, reads))


def _like_old(masks, old):
    return [as_stored(mask, x) for mask, x in zip(masks, old, strict=True)]


@functools.partial(jax.jit, static_argnames=("setup", "events"))
def _refresh(setup, events, leaves, given, masks, step, is_event, rows, counts):
    """The masks after the event at `step`, if it is one. Jitted for callers that are not."""

    def recompute(given):
        counted = _events.counts_at(step, events, rows, counts)
        return _like_old(compute(setup, leaves, given, *counted, in_update=True), masks)

    reads = given, step, rows, counts
    return _at_event(is_event, recompute, masks, leaves, given, reads)


def prune(
    inner: optax.GradientTransformation | None = None,
    *,
    sparsity,
    when=None,
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
    cost=None,
) -> optax.GradientTransformationExtraArgs:
    """Prunes during training: one line in the optimizer.

        at an event: masks = the highest scores of params, round(size * (1 - s(step))) of them
        always:      u = where(mask, inner(where(mask, g, 0)), -w)

    After every `optax.apply_updates` each pruned weight is exactly 0 in its own dtype. Between
    events a step costs one fused select; at an event scores are counted, never sorted. A weight
    that a later mask revives starts from 0, with moments of 0.

    An update that is added cannot bring an infinite or NaN weight to 0; `apply_masks` does.

    Args:
      inner: an optax optimizer. It sees gradients of active weights only, so clipping and moments
        do too, and its moments of pruned weights are 0. None chains last,
        `optax.chain(optimizer, prune(sparsity=...))`: then the moments are out of reach.
      sparsity: fraction of zeros among the prunable weights, 0 <= s < 1: a float (pruned once, at
        the first update), a schedule of `jaxprune.schedules`, or any optax schedule. It may be
        traced: one program, and one vmap, serve a sweep; it is clipped to [0, 1] then, and NaN
        prunes nothing. Of a float32 the shortest decimal that
        denotes it is meant, unless it is traced.
      when: which updates are events, counted from 0: `every(n, begin=..., end=...)` or explicit
        steps. None: about a hundred between the schedule's begin and end. The last event is
        always the end. Inside `optax.MultiSteps`, updates are counted, not micro-steps.
      score: the criterion, a function of one leaf or a `scores.Criterion`.
      pattern: which weights live or die together.
      scope: what is ranked against what: "leaf", "global", or a function from a path to a label.
      allocate: how leaves that are ranked by themselves share the sparsity: a function such as
        `allocate.erdos_renyi`, or a mapping from paths (regular expressions) to sparsities.
      rules: `Rule`s by path; the first match decides.
      min_sparsity, max_sparsity: bounds for every leaf, so that a ranking cannot empty one;
        `min_sparsity` grows with the schedule. Where the sparsity is traced, bounds win over the
        count if both cannot be.
      cost: what each leaf costs when dense, such as its multiply-adds: a mapping from paths to
        numbers. Then `sparsity` is the fraction of the cost that is removed, as in `masks.make`.

    Returns:
      An optax transform with extra args, which go to `inner`. Its state is a `PruneState`;
      `get_masks` and `masks_changed` read it wherever it is wrapped.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind or out of range, at once; or it does
        not fit the tree, at `init`; the message names it and the leaf. Params are missing in an
        update.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = jaxprune.prune(optax.adamw(1e-3), sparsity=0.75)
      >>> params = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]])}
      >>> grads = {"kernel": jnp.zeros((2, 2))}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> (optax.apply_updates(params, updates)["kernel"] != 0).tolist()
      [[False, True], [False, False]]

    References:
      Zhu and Gupta, To prune, or not to prune, arXiv 1710.01878.
    """
    course = _events.course(sparsity, when)
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity, cost)
    if inner is not None:
        check_inner(inner)
        inner = optax.with_extra_args_support(inner)
    check_criteria(chosen, inner)
    kinds = kinds_of(chosen)
    uses_grads = any(criterion.needs_grads for criterion in criteria_of(chosen))

    @_events.once_per_tree
    def prepare(structure, avals):
        setup, _ = resolve(structure.unflatten(avals), chosen)
        if course.values is None:
            return setup, None, None
        return setup, *_events.table(course, setup, chosen.allocate)

    def prepared(params):
        paths, leaves, structure = flatten(params)
        avals = tuple(_Aval(jnp.shape(x), jnp.result_type(x)) for x in leaves)
        return (*prepare(structure, avals), paths, leaves, structure)

    def init(params):
        if is_placeholder(params):
            masks, memory = params, stand_ins(kinds, params)
        else:
            setup, _, _, _, leaves, structure = prepared(params)
            targets = [leaves[t.index] for t in setup.targets]
            masks = place(setup, [ones(w) for w in targets], structure)
            memory = stored(setup, kinds, start(setup, targets), structure)
        waiting = jnp.zeros((), bool)
        return PruneState(
            prune_step=jnp.zeros((), jnp.int32),
            masks=masks,
            masks_changed=jnp.zeros((), bool),
            score_state=ScoreState(waiting, memory) if uses_grads else (),
            inner_state=optax.EmptyState() if inner is None else inner.init(params),
        )

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError(NO_PARAMS)
        setup, rows, counts, paths, leaves, structure = prepared(params)
        step, events = state.prune_step, course.events
        targets = [jnp.asarray(leaves[t.index]) for t in setup.targets]
        is_event = jnp.asarray(events.is_event(step))
        given, memory = Given(params_needed(setup, paths, leaves)), []
        if uses_grads:
            is_event |= state.score_state.waiting
            grads = structure.flatten_up_to(updates)
            read = needed(setup, grads)
            memory = recalled(setup, kinds, state.score_state.memory, structure)
            memory = remember(setup, events, targets, read, memory, step, is_event)
            given = given._replace(grads=read, memory=memory)
        known = flatten_masks(state.masks)
        old = [known[t.path] for t in setup.targets]
        if any(t.criterion.signed for t in setup.targets):
            given = given._replace(alive=alive(setup, old, targets))
        if any(t.criterion.probe is not None for t in setup.targets):
            loss = loss_of(extra, params)

            def probe():
                return probed(setup, paths, leaves, structure, grads, read, step, loss)

            given = given._replace(grads=probe)
        if course.values is None or callable(given.grads):

            def recompute(given):
                if course.values is None:
                    counted = _events.counts_traced(step, course, setup, chosen.allocate)
                else:
                    counted = _events.counts_at(step, events, rows, counts)
                return _like_old(compute(setup, targets, given, *counted, in_update=True), old)

            new, waiting = _at_event(is_event, recompute, old, targets, given, (updates, step))
        else:
            new, waiting = _refresh(
                setup, events, targets, given, old, step, is_event, rows, counts
            )
        masks = place(setup, new, structure)
        changed = is_event if waiting is None else is_event & ~waiting
        updates, inner_state = masked_update(
            inner,
            masks,
            updates,
            state.inner_state,
            params,
            extra,
            revived=changed & (step > events.all()[0]),
        )
        score_state = state.score_state
        if waiting is not None:
            flat = structure.flatten_up_to(updates)
            emitted = [flat[t.index] for t in setup.targets]
            memory, emitted = finish_event(setup, changed, targets, new, memory, emitted)
            for target, u in zip(setup.targets, emitted, strict=True):
                flat[target.index] = u
            updates = structure.unflatten(flat)
            score_state = ScoreState(waiting, stored(setup, kinds, memory, structure))
        step = optax.safe_increment(step)
        return updates, PruneState(step, masks, changed, score_state, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


class _Aval:
    """Shape and dtype of a leaf, hashable."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = tuple(shape), dtype

    def __eq__(self, other):
        return (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self):
        return hash((self.shape, self.dtype))
