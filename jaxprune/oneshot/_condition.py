"""The condition of a positive definite matrix, by a few power iterations."""

import jax
import jax.numpy as jnp
from jax import lax

_TURNS = 12


@jax.custom_batching.sequential_vmap  # on CPU, factors of a batch can wait for each other forever
def condition(H: jax.Array) -> jax.Array:
    """Largest over smallest eigenvalue of H, positive definite [n, n]; a little less than that.

    The largest by power iterations with H, the smallest with H^-1, from a vector of mixed signs.
    """
    factor = jax.scipy.linalg.cho_factor(H, lower=True)
    start = jnp.cos(jnp.arange(len(H), dtype=H.dtype) ** 2)

    def power(apply):
        x, size = start, jnp.ones((), H.dtype)
        for _ in range(_TURNS):
            x = x / jnp.linalg.norm(x)
            y = apply(x)
            x, size = y, jnp.vdot(x, y, precision=lax.Precision.HIGHEST)
        return size

    largest = power(lambda x: jnp.matmul(H, x, precision=lax.Precision.HIGHEST))
    return largest * power(lambda x: jax.scipy.linalg.cho_solve(factor, x))
