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
        def turn(_, carry):
            x = carry[0] / jnp.linalg.norm(carry[0])
            y = apply(x)
            return y, jnp.vdot(x, y, precision=lax.Precision.HIGHEST)

        return lax.fori_loop(0, _TURNS, turn, (start, jnp.ones((), H.dtype)))[1]

    largest = power(lambda x: jnp.matmul(H, x, precision=lax.Precision.HIGHEST))
    return largest * power(lambda x: jax.scipy.linalg.cho_solve(factor, x))
