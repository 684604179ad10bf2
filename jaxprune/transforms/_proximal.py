"""Penalties as projections of updates: exact zeros, whatever the optimizer."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprune._checks import is_traced
from jaxprune._sharding import with_auto_axes
from jaxprune._tree import flatten
from jaxprune.masks._apply import match
from jaxprune.masks._targets import options, resolve
from jaxprune.masks._tied import check_untied
from jaxprune.patterns import Channel, Unstructured
from jaxprune.scores import magnitude
from jaxprune.transforms._inner import NO_PARAMS, is_placeholder


class ProximalState(NamedTuple):
    """State of `proximal_l1`, `group_lasso` and `growing_l2`.

    Attributes:
      proximal_step: how many updates have been made, int32.
    """

    proximal_step: Any


def _project(strength, choose):
    """The transform that leads chosen leaves to a projection of p + u.

    Args:
      strength: a number or a schedule.
      choose: params -> the number of each chosen leaf among all, and its projection, a function
        of p + u in float32 or wider and the strength.
    """
    _check_strength(strength)

    def init(params):
        if not is_placeholder(params):
            choose(params)
        return ProximalState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra):
        del extra
        if params is None:
            raise ValueError(NO_PARAMS)
        _, leaves, structure = flatten(params)
        flat = structure.flatten_up_to(updates)
        step = state.proximal_step
        value = strength(step) if callable(strength) else strength
        value = jnp.maximum(jnp.asarray(value), 0)
        for i, project in choose(params):
            flat[i] = _projected(leaves[i], flat[i], project, value)
        return structure.unflatten(flat), ProximalState(optax.safe_increment(step))

    return optax.GradientTransformationExtraArgs(init, update)


def _projected(w, u, project, strength):
    """The update that leads to the projection: exactly where that is 0 or changes nothing."""
    u = jnp.zeros_like(w) if u is None else u.astype(w.dtype)
    wide = jnp.promote_types(w.dtype, jnp.float32)
    before = (w + u).astype(wide)
    after = project(before, strength.astype(wide)).astype(wide)
    moved = (after - w.astype(wide)).astype(w.dtype)
    return jnp.where(after == 0, -w, jnp.where(after == before, u, moved))


def _check_strength(strength):
    if callable(strength) or is_traced(strength):
        return
    if isinstance(strength, bool | str) or np.ndim(strength) or not 0 <= float(strength) < np.inf:
        raise ValueError(
            f"strength={strength!r} must be a number from 0, or a schedule of such numbers."
        )


def _prunable(rules, pattern):
    chosen = options(magnitude, pattern, "leaf", None, rules, None, None)

    def targets(params):
        return resolve(params, chosen)[0].targets

    return targets


def proximal_l1(strength, *, rules=()) -> optax.GradientTransformationExtraArgs:
    """L1 as a proximal step behind an optimizer: the soft threshold.

        w <- sign(w + u) * max(|w + u| - strength, 0)

    Weights become exactly 0, which a term |w| in a loss never does. Chain it last, and take
    `strength` = learning rate * penalty: `optax.chain(optax.sgd(lr), proximal_l1(lr * 1e-4))`.
    Behind an adaptive optimizer it is the same threshold for every weight, as decay is in adamw.

    Args:
      strength: what an update takes off each weight, from 0, or a schedule of that.
      rules: `Rule`s by path; dense leaves are left alone, by default as in `prune`.

    Returns:
      An optax transform; its state is a `ProximalState`.

    Raises:
      ValueError: the strength is negative; nothing is prunable; params are missing in an update.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = optax.chain(optax.sgd(1.0), jaxprune.proximal_l1(0.5))
      >>> params = {"kernel": jnp.array([[0.25, -2.0], [1.0, 0.5]])}
      >>> updates, _ = tx.update({"kernel": jnp.zeros((2, 2))}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["kernel"]
      Array([[ 0. , -1.5],
             [ 0.5,  0. ]], dtype=float32)

    References:
      Parikh and Boyd, Proximal algorithms, 2014.
    """
    targets = _prunable(rules, Unstructured())

    def soft(w, strength):
        return jnp.sign(w) * jnp.maximum(jnp.abs(w) - strength, 0)

    return _project(strength, lambda params: [(t.index, soft) for t in targets(params)])


def group_lasso(
    strength,
    *,
    pattern=Channel(),  # noqa: B008
    rules=(),
) -> optax.GradientTransformationExtraArgs:
    """Group lasso as a proximal step behind an optimizer: whole channels or blocks become 0.

        w_G <- w_G * max(1 - strength * sqrt(|G|) / ||w_G||, 0), of w + u, for each unit G

    Args:
      strength: from 0, or a schedule; learning rate * penalty, as in `proximal_l1`. A unit is
        removed where the root mean square of its weights is not above it.
      pattern: what the units are: `Channel`, `Block`, `Heads`.
      rules: `Rule`s by path, which may give leaves other patterns; dense leaves are left alone.

    Returns:
      An optax transform; its state is a `ProximalState`.

    Raises:
      ValueError: the strength is negative; the pattern has single weights for units or does not
        fit a leaf; nothing is prunable; params are missing in an update.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = optax.chain(optax.sgd(1.0), jaxprune.group_lasso(1.0))
      >>> params = {"kernel": jnp.array([[0.5, 2.0], [0.5, 2.0]])}
      >>> updates, _ = tx.update({"kernel": jnp.zeros((2, 2))}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["kernel"]
      Array([[0., 1.],
             [0., 1.]], dtype=float32)

    References:
      Yuan and Lin, 2006; Wen et al., Learning structured sparsity, arXiv 1608.03665.
    """
    check_untied(pattern, "group_lasso")
    targets = _prunable(rules, pattern)

    def choose(params):
        for t in targets(params):
            if t.units == t.size or t.pattern.first_units(t.shape) is not None:
                raise ValueError(
                    f"pattern={t.pattern} of {t.path} has single weights for units; give Channel, "
                    "Block or Heads, or use proximal_l1."
                )
            yield t.index, functools.partial(_shrink, t.pattern)

    return _project(strength, lambda params: list(choose(params)))


@functools.partial(jax.jit, static_argnums=0)
def _shrink(pattern, w, strength):
    """The leaf after a proximal step of the norms of its units."""
    (shrunk,) = with_auto_axes(functools.partial(_shrunk, pattern), w, strength, like=[w])
    return shrunk


def _shrunk(pattern, w, strength):
    root = jnp.sqrt(pattern.sums(jnp.square(w)) / _sizes(pattern, w.shape))
    left = jnp.where(root > strength, 1 - strength / jnp.where(root > 0, root, 1), 0)
    factor = jnp.where(strength > 0, left, 1)
    return [w * pattern.expand(factor, w.shape)]


@functools.lru_cache(maxsize=256)
def _sizes(pattern, shape):
    """How many weights each unit has; computed once, since XLA takes long to fold it."""
    with jax.ensure_compile_time_eval():
        return np.asarray(pattern.sums(jnp.ones(shape, jnp.float32)))


def growing_l2(masks, strength) -> optax.GradientTransformationExtraArgs:
    """Growing regularisation behind an optimizer: weights that will go are pulled to 0 first.

        w <- (w + u) / (1 + strength(t))   where the mask is False

    It is the proximal step of strength / 2 * w**2. Choose the masks by `masks.make`, let the
    strength grow until the weights are small, then `keep` the masks.

    Args:
      masks: bool arrays in the tree of the params, True = left alone. They are part of the
        program, not of the state.
      strength: from 0, usually a schedule that grows, such as `lambda t: 1e-4 * t`.

    Returns:
      An optax transform; its state is a `ProximalState`.

    Raises:
      ValueError: the strength is negative, masks do not fit, or params are missing in an update.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> masks = {"kernel": jnp.array([[True, False]])}
      >>> tx = optax.chain(optax.sgd(1.0), jaxprune.growing_l2(masks, 1.0))
      >>> params = {"kernel": jnp.array([[4.0, 2.0]])}
      >>> updates, _ = tx.update({"kernel": jnp.zeros((1, 2))}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["kernel"]
      Array([[4., 1.]], dtype=float32)

    References:
      Wang et al., Neural pruning via growing regularization, arXiv 2012.09243.
    """

    def choose(params):
        if all(mask is None for _, _, mask in match(params, masks)):
            raise ValueError("masks holds no mask: there is nothing to pull to 0.")
        return [
            (i, functools.partial(pull, jnp.asarray(mask)))
            for i, (_, _, mask) in enumerate(match(params, masks))
            if mask is not None
        ]

    def pull(mask, w, strength):
        return jnp.where(mask, w, w / (1 + strength))

    return _project(strength, choose)
