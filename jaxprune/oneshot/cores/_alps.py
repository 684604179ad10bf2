"""ALPS: the support itself is optimised, by alternating directions."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.oneshot.cores._cut import Cut, choose
from jaxprune.oneshot.cores._gram import checked, dot, eigh, loss
from jaxprune.oneshot.cores._refit import refit
from jaxprune.oneshot.cores._sparsegpt import sparsegpt

_EVERY = 3  # iterations between two looks at the support
_FACTORS = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))  # share of the support that changed -> growth


@functools.partial(jax.jit, static_argnames="cut")
def alps(
    W: jax.Array, H: jax.Array, keep, cut: Cut, *, steps=300, rho=0.03
) -> tuple[jax.Array, jax.Array]:
    """Finds which weights to keep by the alternating direction method of multipliers, and refits.

        A <- argmin of the loss + <V, A - D> + rho/2 ||A - D||^2 = (H + rho I)^-1 (H W - V + rho D)
        D <- A + V / rho with all but `keep` units at 0
        V <- V + rho (A - D)

    with inputs scaled so that diag H is 1. Every 3 iterations rho grows by 1.3, 1.2 or 1.1 where
    10 %, 0.5 % or anything of the support has changed; where nothing has, it is found.

    Args:
      W: [inputs, outputs], the transpose of the paper's.
      H: [inputs, inputs], positive definite: `damped(X^T X)`, at any scale.
      keep: how many units to keep, an integer or int32 scalar (it may be traced), clipped to what
        there is. Unused where `cut` has nm.
      cut: what a unit is. Units are ranked by the sum of squares of their scaled weights.
      steps: how many iterations at most; it may be traced. About 50 are taken.
      rho: the first, above 0; it may be traced. A lower one takes longer and finds a better
        support. The paper has 0.1; from 0.03 on down little is gained.

    Returns:
      (Ŵ, mask): the pruned weights in the dtype of W, and bool [inputs, outputs], True = keep;
      never worse than `sparsegpt`, from whose answer it starts. One eigendecomposition of H gives
      the inverses for all rho (it takes as long as about 12 products with H), an iteration takes
      two products with H.

    Raises:
      TypeError: dtypes do not fit, or `keep` is no integer.
      ValueError: shapes or `cut` do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> W = jnp.array([[1.0], [1.0], [1.25]])
      >>> H = jnp.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
      >>> pruned, mask = cores.alps(W, H, 2, cores.Cut())
      >>> [f"{w:.3f}" for w in pruned[:, 0]]  # of two inputs that say much the same, one is enough
      ['0.000', '1.500', '1.250']

    References:
      Meng et al., ALPS: improved optimization for highly sparse one-shot pruning for large
      language models, arXiv 2406.07831.
    """
    dtype = jnp.asarray(W).dtype
    W, H = checked(W, H=H)
    first, mask = sparsegpt(W, H, keep, cut)
    scale = jnp.sqrt(jnp.diagonal(H))[:, None]
    values, Q = eigh(H / scale / scale.T)
    values = jnp.maximum(values, 0)[:, None]
    goal = dot(H, W) / scale

    def going(state):
        step, *_, changed = state
        return (step < steps) & (changed > 0)

    def one(state):
        step, D, V, rho, mask, _ = state

        def iterate(_, x):
            D, V, _ = x
            A = dot(Q, dot(Q.T, goal - V + rho * D) / (values + rho))
            moved = A + V / rho
            now = choose(jnp.square(moved), keep, cut)
            D = jnp.where(now, moved, 0)
            return D, V + rho * (A - D), now

        D, V, now = lax.fori_loop(0, _EVERY, iterate, (D, V, mask))
        changed = jnp.sum(now != mask, dtype=jnp.int32)
        share = changed / jnp.maximum(jnp.sum(now, dtype=jnp.int32), 1)
        factor = jnp.select([share >= least for least, _ in _FACTORS], [f for _, f in _FACTORS])
        return step + _EVERY, D, V, rho * factor.astype(W.dtype), now, changed

    rho = jnp.asarray(rho, W.dtype)
    state = (0, first * scale, jnp.zeros_like(W), rho, mask, jnp.int32(1))
    _, D, _, _, found, _ = lax.while_loop(going, one, state)
    best = refit(W, H, found, start=D / scale)
    better = loss(best - W, H) < loss(first - W, H)
    return jnp.where(better, best, first).astype(dtype), jnp.where(better, found, mask)
