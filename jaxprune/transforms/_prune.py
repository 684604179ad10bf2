"""Pruning during training: masks on a schedule, around any optimizer."""

import optax

from jaxprune.masks._targets import options
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude
from jaxprune.transforms import _events
from jaxprune.transforms._build import build


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
    return build(inner, course, chosen)
