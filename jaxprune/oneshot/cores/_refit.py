"""Least squares on a mask: the best values of the weights that are kept."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.oneshot.cores._gram import checked, dot


@jax.jit
def refit(
    W: jax.Array, H: jax.Array, mask: jax.Array, *, start=None, steps=100, tol=1e-4
) -> jax.Array:
    """The kept weights that come closest to the dense outputs, of each output by itself.

        argmin over Ŵ with Ŵ = 0 where pruned:  tr((Ŵ - W)^T H (Ŵ - W))

    Each output solves its normal equations (H (W - Ŵ))_kept = 0 by conjugate gradients,
    preconditioned with diag H; all outputs together, so that a step is one product with H.

    Args:
      W: [inputs, outputs], dense weights; the transpose of the papers'.
      H: [inputs, inputs], positive definite: `damped(X^T X)`, at any scale.
      mask: bool [inputs, outputs], True = keep.
      start: [inputs, outputs], where to start, read where kept. None: W.
      steps: how many steps at most, at least 0; it may be traced.
      tol: an output is done when its residual is less than this fraction of what it is with all
        weights 0, in the norm of 1 / diag H; it may be traced.

    Returns:
      Ŵ in the dtype of W, exactly 0 where pruned. An output that would end worse than it started
      stays where it was.

    Raises:
      TypeError: dtypes do not fit.
      ValueError: shapes do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> W = jnp.array([[1.0], [2.0]])
      >>> H = jnp.array([[1.0, 0.5], [0.5, 1.0]])
      >>> pruned = cores.refit(W, H, jnp.array([[False], [True]]))
      >>> [f"{w:.3f}" for w in pruned[:, 0]]
      ['0.000', '2.500']

    References:
      Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems, 1952; Meng
      et al., ALPS, arXiv 2406.07831, which refits so.
    """
    dtype = jnp.asarray(W).dtype
    W, H = checked(W, H=H)
    mask = jnp.asarray(mask, bool)
    start = W if start is None else jnp.asarray(start, W.dtype)
    for name, x in (("mask", mask), ("start", start)):
        if x.shape != W.shape:
            raise ValueError(f"{name} has shape {x.shape} for W of shape {W.shape}.")
    inverse = 1 / jnp.diagonal(H)[:, None]
    start = jnp.where(mask, start, 0)
    enough = jnp.square(jnp.asarray(tol, W.dtype)) * _inner(jnp.where(mask, dot(H, W), 0), inverse)

    def going(carry):
        step, *_, size = carry
        return (step < steps) & jnp.any(size > enough)

    def one(carry):
        step, x, r, p, size = carry
        q = jnp.where(mask, dot(H, p), 0)
        more = size > enough  # what is done does not move
        length = jnp.where(more, size / jnp.sum(p * q, 0, keepdims=True), 0)
        x, r = x + length * p, r - length * q
        now = _inner(r, inverse)
        p = inverse * r + jnp.where(more, now / size, 0) * p
        return step + 1, x, r, p, now

    pull = dot(H, W - start)
    r = jnp.where(mask, pull, 0)
    first = (0, start, r, inverse * r, _inner(r, inverse))
    x = lax.while_loop(going, one, first)[1]
    before = jnp.sum((W - start) * pull, 0, keepdims=True)
    after = jnp.sum((W - x) * dot(H, W - x), 0, keepdims=True)
    return jnp.where(after < before, x, start).astype(dtype)


def _inner(r, inverse):
    """The squared norm of each output's residual, [1, outputs]."""
    return jnp.sum(jnp.square(r) * inverse, 0, keepdims=True)
