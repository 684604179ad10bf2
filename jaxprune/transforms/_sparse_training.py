"""Sparse from the first step on: static masks, SET, RigL."""

import jax
import optax

from jaxprune import allocate as _allocate
from jaxprune import scores
from jaxprune._checks import check_key, check_sparsity
from jaxprune._sharding import placed_as
from jaxprune._tree import flatten
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._bits import to_bits
from jaxprune.masks._exchange import check_grow
from jaxprune.masks._make import make_given
from jaxprune.masks._targets import options
from jaxprune.patterns import Unstructured
from jaxprune.scores import as_criterion
from jaxprune.transforms import _events
from jaxprune.transforms._build import build
from jaxprune.transforms._criteria import uses_grads
from jaxprune.transforms._inner import as_array
from jaxprune.transforms._keep import hold
from jaxprune.transforms._regrow import Regrow, check_share, fractions_of


def _shared(scope, allocate):
    """ERK where leaves share by an allocation."""
    return _allocate.erdos_renyi_kernel if allocate is None and scope == "leaf" else allocate


def _moving(inner, sparsity, when, fraction, grow, start, chosen, fan_in=None):
    course = _events.course(sparsity, when)
    grow, start = as_criterion(grow), as_criterion(start)
    check_grow(grow)
    fractions = fractions_of(fraction, course.events)
    return build(inner, course, chosen, Regrow(grow, fractions, start, fan_in))


def rigl(
    inner: optax.GradientTransformation,
    *,
    sparsity,
    key: jax.Array,
    when,
    fraction=0.3,
    grow=scores.gradient,
    score=scores.magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
) -> optax.GradientTransformationExtraArgs:
    """RigL: sparse from start to end; weights move to where gradients are large.

        init:        masks at random, round(size * (1 - s(0))) of each leaf
        at an event: of the n kept, round(n * f(t)) with the lowest score are dropped, and others
                     with the highest `grow` become active, so that round(size * (1 - s(t))) are
        f(t) = fraction / 2 * (1 + cos(pi * (t - begin) / (end - begin)))

    The number of active weights is exact at every step, and constant where the sparsity is. What
    grows starts from 0 with moments of 0; what is dropped and grows again in the same event stays
    as it is. With a schedule of sparsity and `scope="global"` this is gradual pruning with
    regrowth (GraNet); N:M, blocks and channels move as units.

    The params are the caller's, and `init` cannot prune them. So that the first forward pass is
    sparse as well, write `params = apply_masks(params, get_masks(state))` before it. Without that
    line, what grows in the very first update, if it is an event, has the value that it had.

    Args:
      inner: an optax optimizer, as in `prune`.
      sparsity: fraction of zeros among the prunable weights, 0 <= s < 1, or a schedule.
      key: a PRNG key, for the masks to start from.
      when: which updates are events: `every(100, begin=..., end=...)`, usually until three
        quarters of the run; or explicit steps.
      fraction: of what is kept, how much the first event exchanges, 0 to 1; or a function from a
        step, a Python int, to that.
      grow: the criterion of what grows; it may read the gradient and "step", but not remember.
      score: the criterion of what stays; it must not probe the loss.
      pattern, scope, rules, min_sparsity, max_sparsity: as in `prune`.
      allocate: as in `prune`; None is `allocate.erdos_renyi_kernel` for `scope="leaf"`.

    Returns:
      An optax transform; its state is a `PruneState`, as that of `prune`. An event with a gradient
      that is not finite waits for the next update.

    Raises:
      TypeError, ValueError: as in `prune`; a fraction outside of 0 to 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = jaxprune.rigl(
      ...     optax.sgd(0.1), sparsity=0.5, key=jax.random.key(0), when=jaxprune.every(2, end=6)
      ... )
      >>> params = {"kernel": jnp.ones((4, 4))}
      >>> state = tx.init(params)
      >>> params = jaxprune.apply_masks(params, jaxprune.get_masks(state))
      >>> updates, state = tx.update({"kernel": jnp.ones((4, 4))}, state, params)
      >>> int((optax.apply_updates(params, updates)["kernel"] != 0).sum())
      8

    References:
      Evci et al., Rigging the lottery, arXiv 1911.11134; Liu et al., Sparse training via boosting
      pruning plasticity with neuroregeneration, arXiv 2106.10404.
    """
    allocate = _shared(scope, allocate)
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity)
    return _moving(inner, sparsity, when, fraction, grow, scores.random(key), chosen)


def set_(
    inner: optax.GradientTransformation,
    *,
    sparsity,
    key: jax.Array,
    when,
    fraction=0.3,
    score=scores.magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
) -> optax.GradientTransformationExtraArgs:
    """SET: sparse from start to end; the smallest weights make room for others at random.

    As `rigl`, and with its arguments, but what grows is drawn anew at every event, and no gradient
    is looked at. The paper draws new weights at random, exchanges the same share throughout, and
    drops the smallest positive and the largest negative weights; here what grows starts from 0,
    the share decays unless `fraction` is a function, and magnitudes decide.

    Args:
      inner: an optax optimizer, or None to chain last.
      sparsity, when, fraction, score, pattern, scope, allocate, rules, min_sparsity, max_sparsity:
        as in `rigl`.
      key: a PRNG key, for the masks to start from and for what grows.

    Returns:
      An optax transform; its state is a `PruneState`.

    Raises:
      TypeError, ValueError: as in `rigl`.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = jaxprune.set_(
      ...     optax.sgd(0.1), sparsity=0.5, key=jax.random.key(0), when=jaxprune.every(2, end=6)
      ... )
      >>> masks = jaxprune.get_masks(tx.init({"kernel": jnp.ones((4, 4))}))
      >>> int(masks["kernel"].sum())
      8

    References:
      Mocanu et al., Scalable training of artificial neural networks with adaptive sparse
      connectivity inspired by network science, arXiv 1707.04780.
    """
    allocate = _shared(scope, allocate)
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity)
    check_key(key)
    first, later = jax.random.split(key)
    grow = scores.random(later, each_event=True)
    return _moving(inner, sparsity, when, fraction, grow, scores.random(first), chosen)


def srigl(
    inner: optax.GradientTransformation,
    *,
    sparsity,
    key: jax.Array,
    when,
    fraction=0.3,
    min_salient: float = 0.3,
    score=scores.magnitude,
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
) -> optax.GradientTransformationExtraArgs:
    """SRigL: RigL in which neurons that live have a constant fan-in, and others are removed.

        at an event: salient = what RigL would keep and grow in the leaf
        a neuron lives if it has salient inputs for min_salient of its fan-in
        fan-in of those that live = the number of weights of the leaf // how many live
        of each stays what stays, then its largest gradients grow

    Neurons are the last axis, as of Flax kernels; their inputs all other axes. A constant fan-in is
    a dense matrix of values and one of indices; what is ablated can be cut out. Fan-ins are rounded
    down, and no more than all inputs, so a leaf never keeps more weights than the sparsity leaves,
    and mostly a few less. An ablated neuron lives again if its gradients become salient.

    Args:
      inner, sparsity, key, when, fraction, score, rules, min_sparsity, max_sparsity: as in `rigl`;
        no rule gives a pattern.
      min_salient: from 0, where no neuron is ablated, to 1. The paper has 0.3 for convolutional
        networks and 0.95 for transformers.
      allocate: as in `rigl`.

    Returns:
      An optax transform; its state is a `PruneState`.

    Raises:
      TypeError, ValueError: as in `rigl`; a leaf with fewer than two axes, or that keeps fewer
        weights than it has neurons.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = jaxprune.srigl(
      ...     optax.sgd(0.1), sparsity=0.5, key=jax.random.key(0), when=jaxprune.every(2, end=6)
      ... )
      >>> jaxprune.get_masks(tx.init({"kernel": jnp.ones((8, 4))}))["kernel"].sum(0)
      Array([4, 4, 4, 4], dtype=int32)

    References:
      Lasby et al., Dynamic sparse training with structured sparsity, arXiv 2305.02299.
    """
    allocate = _shared("leaf", allocate)
    chosen = options(score, Unstructured(), "leaf", allocate, rules, min_sparsity, max_sparsity)
    share = check_share(min_salient)
    start = scores.random(key)
    return _moving(inner, sparsity, when, fraction, scores.gradient, start, chosen, share)


def static(
    inner: optax.GradientTransformation | None = None,
    *,
    sparsity,
    score,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
) -> optax.GradientTransformationExtraArgs:
    """Static sparse training: masks are made once, in `init`, and stay.

    The baseline that every method that moves weights has to beat. With masks that exist already
    use `keep`.

    Args:
      inner: an optax optimizer, or None to chain last.
      sparsity: fraction of zeros among the prunable weights, 0 <= s < 1.
      score: the criterion, usually `scores.random(key)`; it cannot read gradients.
      pattern, scope, allocate, rules, min_sparsity, max_sparsity: as in `rigl`.

    Returns:
      An optax transform; its state is a `KeepState`.

    Raises:
      TypeError, ValueError: as in `masks.make`.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxprune
      >>> score = jaxprune.scores.random(jax.random.key(0))
      >>> tx = jaxprune.static(optax.sgd(0.1), sparsity=0.5, score=score)
      >>> int(jaxprune.get_masks(tx.init({"kernel": jnp.ones((4, 4))}))["kernel"].sum())
      8

    References:
      Liu et al., The unreasonable effectiveness of random pruning, arXiv 2202.02643.
    """
    allocate = _shared(scope, allocate)
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity)
    sparsity = check_sparsity(sparsity, "sparsity")
    if uses_grads(chosen):
        raise ValueError(
            "score: the criterion reads gradients, and masks are made in init, without any; make "
            "them by prune_params(loss=..., batches=...) and use keep."
        )

    def masks_of(params):
        _, leaves, structure = flatten(params)
        arrays = structure.unflatten([as_array(x) for x in leaves])
        masks = flatten_masks(make_given(arrays, sparsity, chosen, None, None))
        return [
            None if masks[path] is None else to_bits(placed_as(masks[path], w))
            for path, w in zip(flatten(params)[0], flatten(arrays)[1], strict=True)
        ]

    return hold(inner, masks_of)
