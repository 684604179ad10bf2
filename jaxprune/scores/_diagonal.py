"""The diagonal of a Hessian: estimated by random signs, or exactly."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxprune._checks import check_key


def _product(loss, params, tangent):
    """Of the Hessian of `loss` with a tangent."""
    return jax.jvp(jax.grad(loss), (params,), (tangent,))[1]


@dataclasses.dataclass(frozen=True, eq=False)
class _Hutchinson:
    key: Any
    samples: int

    def __call__(self, loss, params, grads, step):
        del grads
        keys = jax.random.split(jax.random.fold_in(self.key, step), self.samples)
        leaves = jax.tree.leaves(params)

        def add(total, key):
            each = jax.random.split(key, len(leaves))
            signs = jax.tree.unflatten(
                jax.tree.structure(params),
                [
                    jax.random.rademacher(k, x.shape, x.dtype)
                    for k, x in zip(each, leaves, strict=True)
                ],
            )
            products = _product(loss, params, signs)
            term = lambda t, z, x: t + z.astype(jnp.float32) * x.astype(jnp.float32)  # noqa: E731
            return jax.tree.map(term, total, signs, products), None

        zeros = jax.tree.map(lambda x: jnp.zeros_like(x, dtype=jnp.float32), params)
        if self.samples == 1:  # XLA's convolutions are slow inside of loops on CPUs
            return add(zeros, keys[0])[0]
        total, _ = lax.scan(add, zeros, keys)
        return jax.tree.map(lambda x: x / self.samples, total)


def hutchinson(key: jax.Array, samples: int = 1):
    """The diagonal of the Hessian, estimated by Hessian-vector products with random signs.

        h = mean of z * (H z), z of +1 and -1; without bias, variance 2 * sum_{j != i} H_ij**2

    For `scores.obd(hutchinson(key))`. Signs differ from batch to batch.

    Args:
      key: a PRNG key.
      samples: how many products for each batch, at least 1, one after the other.

    Raises:
      TypeError: `key` is not a key.
      ValueError: samples < 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxprune import scores
      >>> diagonal = scores.hutchinson(jax.random.key(0), samples=4)
      >>> loss = lambda params: jnp.sum(jnp.array([1.0, 3.0]) * params["w"] ** 2)
      >>> diagonal(loss, {"w": jnp.ones(2)}, None, 0)  # no estimate where H is diagonal
      {'w': Array([2., 6.], dtype=float32)}

    References:
      Hutchinson, A stochastic estimator of the trace of the influence matrix, 1989; Yao et al.,
      ADAHESSIAN, arXiv 2006.00719.
    """
    check_key(key)
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise ValueError(f"samples={samples!r} must be a whole number of at least 1.")
    return _Hutchinson(key, samples)


def exact_diagonal(loss, params, grads, step):
    """The diagonal of the Hessian, exactly, by as many Hessian-vector products as weights.

    For `scores.obd(exact_diagonal)`, of small models on one device: a check on estimates.

    Args:
      loss: params -> scalar.
      params: any pytree of floating arrays.
      grads, step: not used.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> loss = lambda params: jnp.prod(params["w"] ** 2)
      >>> scores.exact_diagonal(loss, {"w": jnp.array([1.0, 3.0])}, None, 0)
      {'w': Array([18.,  2.], dtype=float32)}
    """
    del grads, step
    flat, unravel = ravel_pytree(params)

    def entry(i):
        basis = (jnp.arange(flat.size) == i).astype(flat.dtype)
        return ravel_pytree(_product(loss, params, unravel(basis)))[0][i]

    batch = max(1, min(flat.size, (1 << 20) // max(flat.size, 1)))
    return unravel(lax.map(entry, jnp.arange(flat.size), batch_size=batch))
