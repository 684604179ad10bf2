"""Straight-through, SR-STE and Top-KAST."""

import jax.numpy as jnp
import numpy as np
import optax

from jaxprune._checks import check_sparsity, is_traced
from jaxprune.masks._targets import options
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude
from jaxprune.transforms._carry_dense import Level, carry_dense
from jaxprune.transforms._inner import zero_where_pruned


def straight_through(
    inner: optax.GradientTransformation,
    *,
    sparsity,
    every: int = 1,
    decay: float = 0.0,
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
) -> optax.GradientTransformationExtraArgs:
    """Trains dense weights through a sparse forward pass: STE, and with `decay` SR-STE.

        g <- g + decay * where(mask, 0, w);   masks of the params after each update

    Use it with `sparse_view`. A pruned weight goes on to learn and may come back with its value.

    Args:
      inner: an optax optimizer. It trains all weights.
      sparsity: fraction of zeros in the forward pass, 0 <= s < 1, or a schedule of
        `jaxprune.schedules`; may be traced.
      every: masks are made again after so many updates.
      decay: how strongly weights that are pruned at the moment are pulled to 0, from 0; SR-STE
        has 2e-4.
      score: the criterion; it must not read gradients.
      pattern, scope, allocate, rules, min_sparsity, max_sparsity: as in `prune`.

    Returns:
      An optax transform; its state is a `StraightThroughState`, which `get_masks` reads.

    Raises:
      TypeError, ValueError: as in `prune`; a criterion that reads gradients.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = jaxprune.straight_through(
      ...     optax.sgd(0.1), sparsity=0.5, pattern=jaxprune.NM(2, 4), decay=2e-4
      ... )
      >>> params = {"kernel": jnp.arange(1.0, 9.0).reshape(4, 2)}
      >>> state = tx.init(params)
      >>> masks = jaxprune.get_masks(state)
      >>> loss = lambda params: jaxprune.sparse_view(params, masks)["kernel"].sum()
      >>> updates, state = tx.update(jax.grad(loss)(params), state, params)
      >>> int((optax.apply_updates(params, updates)["kernel"] != 0).sum())
      8

    References:
      Zhou et al., Learning N:M fine-grained structured sparse neural networks from scratch, arXiv
      2102.04010.
    """
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity)
    _check_decay(decay)

    def penalized(masks, g, w, step):
        del step
        if not is_traced(decay) and decay == 0:
            return g
        pull = jnp.where(masks[0], jnp.zeros((), w.dtype), w).astype(g.dtype)
        return g + jnp.asarray(decay, g.dtype) * pull

    return carry_dense(inner, every, [Level(sparsity, chosen)], penalized)


def top_kast(
    inner: optax.GradientTransformation,
    *,
    sparsity,
    backward_sparsity,
    every: int = 1,
    decay: float = 1e-4,
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
) -> optax.GradientTransformationExtraArgs:
    """Top-KAST: the forward pass uses the largest weights, updates reach a superset of them.

        A: the highest 1 - sparsity, of the forward pass;  B: the highest 1 - backward_sparsity
        g <- g + decay * w                     in A
        g <- g + decay * w / (1 - sparsity)    in B, but not in A
        u <- 0                                 elsewhere; moments are 0 there

    Use it with `sparse_view`. Weights outside of B keep their values and wait.

    Args:
      inner: an optax optimizer.
      sparsity: fraction of zeros in the forward pass, 0 <= s < 1, or a schedule of
        `jaxprune.schedules`.
      backward_sparsity: fraction of weights without update, at most `sparsity`.
      every: masks are made again after so many updates; the paper finds 100 as good as 1.
      decay: of the weights in B, from 0.
      score: the criterion; it must not read gradients.
      pattern, scope, allocate, rules, min_sparsity, max_sparsity: as in `prune`, for both
        sparsities; but no leaf has a sparsity of its own.

    Returns:
      An optax transform; its state is a `StraightThroughState`, which `get_masks` reads: A.

    Raises:
      TypeError, ValueError: as in `straight_through`; `backward_sparsity` above `sparsity`.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = jaxprune.top_kast(optax.sgd(0.1), sparsity=0.75, backward_sparsity=0.5)
      >>> state = tx.init({"kernel": jnp.arange(16.0).reshape(4, 4)})
      >>> int(jaxprune.get_masks(state)["kernel"].sum())
      4

    References:
      Jayakumar et al., Top-KAST: top-k always sparse training, arXiv 2106.03517.
    """
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity)
    _check_decay(decay)
    backward_sparsity = check_sparsity(backward_sparsity, "backward_sparsity")
    own = next((rule for rule in chosen.rules if rule.sparsity is not None), None)
    if own is not None:
        raise ValueError(
            f"{own}: a sparsity of its own would be that of both the forward pass and updates; "
            "leave it out, or leave the leaf dense."
        )
    levels = [Level(sparsity, chosen), Level(backward_sparsity, chosen)]
    forward, backward = (level.course for level in levels)
    if forward.values and backward.values and backward.values[-1] > forward.values[-1]:
        raise ValueError(
            f"backward_sparsity={backward.values[-1]:g} is above sparsity={forward.values[-1]:g}: "
            "what is updated holds what is used."
        )

    def penalized(masks, g, w, step):
        density = jnp.maximum(1 - jnp.asarray(forward.schedule(step), jnp.float32), 1e-6)
        pull = jnp.where(masks[0], 1, 1 / density) * decay * w.astype(jnp.float32)
        return zero_where_pruned(masks[1], g + pull.astype(g.dtype))

    return carry_dense(inner, every, levels, penalized)


def _check_decay(decay):
    """A number from 0; it may be traced."""
    if is_traced(decay):
        return
    if isinstance(decay, bool | str) or np.ndim(decay) or not 0 <= float(decay) < np.inf:
        raise ValueError(f"decay={decay!r} must be a number from 0, such as 2e-4.")
