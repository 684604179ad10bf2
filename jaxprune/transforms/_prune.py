"""Pruning during training: masks on a schedule, around any optimizer."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxprune._sharding import varying_as
from jaxprune._tree import flatten
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._bits import as_stored, ones, resharded
from jaxprune.masks._compute import compute
from jaxprune.masks._make import place
from jaxprune.masks._targets import Options, options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude
from jaxprune.transforms import _events
from jaxprune.transforms._inner import NO_PARAMS, check_inner, is_placeholder, masked_update
from jaxprune.transforms._state import PruneState


def _at_event(is_event, recompute, masks, leaves, reads):
    """`recompute()` at an event, else `masks` as they are.

    A loop of at most one turn and not a `lax.cond`: XLA updates what a loop carries in place, while
    a conditional copies it, at every step; and under vmap a loop still does nothing between events,
    while a conditional becomes a select of both branches.
    """

    def turn(state):
        return jnp.zeros_like(state[0]), recompute()

    masks = [resharded(mask, w) for mask, w in zip(masks, leaves, strict=True)]
    masks = varying_as(masks, (leaves, reads))  # all are searched in one loop
    return lax.while_loop(lambda state: state[0], turn, (is_event, masks))[1]


def _like_old(masks, old):
    return [as_stored(mask, x) for mask, x in zip(masks, old, strict=True)]


@functools.partial(jax.jit, static_argnames=("setup", "events"))
def _refresh(setup, events, leaves, grads, masks, step, rows, counts):
    """The masks after the event at `step`, if it is one. Jitted for callers that are not."""

    def recompute():
        counted = _events.counts_at(step, events, rows, counts)
        return _like_old(compute(setup, leaves, grads, *counted, in_update=True), masks)

    reads = grads, step, rows, counts
    return _at_event(events.is_event(step), recompute, masks, leaves, reads)


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
    else:
        _check_no_grads(chosen)

    @_events.once_per_tree
    def prepare(structure, avals):
        setup, _ = resolve(structure.unflatten(avals), chosen)
        if course.values is None:
            return setup, None, None
        return setup, *_events.table(course, setup, chosen.allocate)

    def prepared(params):
        _, leaves, structure = flatten(params)
        avals = tuple(_Aval(jnp.shape(x), jnp.result_type(x)) for x in leaves)
        return (*prepare(structure, avals), leaves, structure)

    def init(params):
        if is_placeholder(params):
            setup, masks = None, params
        else:
            setup, _, _, leaves, structure = prepared(params)
            masks = place(setup, [ones(leaves[t.index]) for t in setup.targets], structure)
        return PruneState(
            prune_step=jnp.zeros((), jnp.int32),
            masks=masks,
            masks_changed=jnp.zeros((), bool),
            inner_state=optax.EmptyState() if inner is None else inner.init(params),
        )

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError(NO_PARAMS)
        setup, rows, counts, leaves, structure = prepared(params)
        step = state.prune_step
        targets = [jnp.asarray(leaves[t.index]) for t in setup.targets]
        grads = None
        if any("grad" in t.criterion.needs for t in setup.targets):
            flat = structure.flatten_up_to(updates)
            grads = [flat[t.index] for t in setup.targets]
        known = flatten_masks(state.masks)
        old = [known[t.path] for t in setup.targets]
        if course.values is None:

            def recompute():
                counts = _events.counts_traced(step, course, setup, chosen.allocate)
                return _like_old(compute(setup, targets, grads, *counts, in_update=True), old)

            new = _at_event(course.events.is_event(step), recompute, old, targets, (grads, step))
        else:
            new = _refresh(setup, course.events, targets, grads, old, step, rows, counts)
        masks = place(setup, new, structure)
        changed = jnp.asarray(course.events.is_event(step))
        updates, inner_state = masked_update(
            inner,
            masks,
            updates,
            state.inner_state,
            params,
            extra,
            revived=changed & (state.prune_step > course.events.all()[0]),
        )
        step = optax.safe_increment(step)
        return updates, PruneState(step, masks, changed, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_no_grads(chosen: Options):
    criteria = [chosen.score, *(r.score for r in chosen.rules if r.score is not None)]
    for criterion in criteria:
        if "grad" in getattr(criterion, "needs", ()):
            raise ValueError(
                "the criterion needs raw gradients, but prune(...) chained last sees updates of "
                "the optimizer; wrap the optimizer instead: prune(optimizer, ...)."
            )


class _Aval:
    """Shape and dtype of a leaf, hashable."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = tuple(shape), dtype

    def __eq__(self, other):
        return (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self):
        return hash((self.shape, self.dtype))
