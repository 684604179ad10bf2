"""A sparse forward pass of dense weights."""

import jax
import jax.numpy as jnp

from jaxprune.masks._apply import match


@jax.custom_jvp
def _through(w, mask):
    return jnp.where(mask, w, jnp.zeros((), w.dtype))


@_through.defjvp
def _through_jvp(primals, tangents):
    return _through(*primals), tangents[0]


def sparse_view(params, masks):
    """Params as a sparse forward pass sees them; gradients go straight through to all weights.

        forward: where(mask, w, 0)        backward: the identity

    Write `loss(sparse_view(params, get_masks(state)), batch)` where `loss(params, batch)` stood.
    What is trained stays dense; the sparse params to keep in the end are
    `apply_masks(params, get_masks(state))`.

    Args:
      params: any pytree.
      masks: bool arrays in the tree of `params`; None leaves a leaf as it is.

    Returns:
      A pytree as `params`.

    Raises:
      TypeError, ValueError: as in `apply_masks`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxprune
      >>> masks = {"w": jnp.array([True, False])}
      >>> loss = lambda params: (jaxprune.sparse_view(params, masks)["w"] * 3).sum()
      >>> jax.value_and_grad(loss)({"w": jnp.ones(2)})
      (Array(3., dtype=float32), {'w': Array([3., 3.], dtype=float32)})

    References:
      Bengio et al., Estimating or propagating gradients through stochastic neurons, arXiv
      1308.3432.
    """
    matched = match(params, masks)
    leaves = [w if m is None else _through(jnp.asarray(w), m) for _, w, m in matched]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)
