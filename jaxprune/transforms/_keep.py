"""Train on with masks that stay as they are."""

import jax
import jax.numpy as jnp
import optax

from jaxprune.masks._apply import match
from jaxprune.masks._bits import to_bits
from jaxprune.transforms._inner import NO_PARAMS, check_inner, is_placeholder, masked_update
from jaxprune.transforms._state import KeepState


def keep(
    inner: optax.GradientTransformation | None, masks
) -> optax.GradientTransformationExtraArgs:
    """Trains on with given masks.

        u = where(mask, inner(where(mask, g, 0)), -w)

    After every `optax.apply_updates` each pruned weight is exactly 0. The masks become part of the
    state, so a checkpoint of the state resumes them.

    Args:
      inner: an optax optimizer; it sees gradients of active weights only, and its moments of
        pruned weights are 0. None chains last, behind an optimizer, whose moments are out of reach.
      masks: bool arrays in the tree of the params, None where a leaf is dense: from
        `masks.make`, `masks.from_zeros` or `get_masks`.

    Returns:
      An optax transform; its `init` checks that the masks fit.

    Raises:
      TypeError: `inner` is no transform, or a mask is not bool.
      ValueError: masks and params differ in structure or shape; params are missing in an update.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> params = {"kernel": jnp.array([[0.0, 2.0], [3.0, 0.0]])}
      >>> tx = jaxprune.keep(optax.sgd(1.0), jaxprune.masks.from_zeros(params))
      >>> grads = {"kernel": jnp.ones((2, 2))}
      >>> updates, _ = tx.update(grads, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["kernel"]
      Array([[0., 1.],
             [2., 0.]], dtype=float32)
    """
    if not jax.tree.leaves(masks):
        raise ValueError("masks holds no mask: there is nothing to keep.")

    def own(params):
        # Copies: a donated state must not take the caller's masks with it.
        return [
            None if m is None else jnp.array(to_bits(jnp.asarray(m)), copy=True)
            for _, _, m in match(params, masks)
        ]

    return hold(inner, own)


def hold(inner, masks_of) -> optax.GradientTransformationExtraArgs:
    """Trains with masks that `masks_of(params)` gives in `init`: bits for each leaf, or None."""
    if inner is not None:
        check_inner(inner)
        inner = optax.with_extra_args_support(inner)

    def init(params):
        state = optax.EmptyState() if inner is None else inner.init(params)
        if is_placeholder(params):
            return KeepState(params, state)
        return KeepState(jax.tree.unflatten(jax.tree.structure(params), masks_of(params)), state)

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError(NO_PARAMS)
        updates, inner_state = masked_update(
            inner, state.masks, updates, state.inner_state, params, extra
        )
        return updates, KeepState(state.masks, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)
