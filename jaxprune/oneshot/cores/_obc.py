"""Optimal brain compression: weights are removed one by one, the cheapest first."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.oneshot.cores._cut import Cut, checked_keep
from jaxprune.oneshot.cores._gram import checked, dot, solve
from jaxprune.oneshot.cores._refit import refit
from jaxprune.select import top_k_mask

_AT_ONCE = 1 << 24  # numbers that the outputs remember which are pruned side by side
_PART = 64  # removals that are read back at once


@functools.partial(jax.jit, static_argnames="cut")
def obc(W: jax.Array, H: jax.Array, keep, cut: Cut) -> tuple[jax.Array, jax.Array]:
    """Removes from each output, again and again, the weight that is missed least (ExactOBS).

        p = argmin w_p^2 / C_pp           C = H^-1, of the inputs that are left
        w <- w - w_p / C_pp * C_p,        C <- C - C_p C_p^T / C_pp

    Each output goes on until none of its weights is left. What its loss grew by with each, made
    monotone by a running maximum, ranks the weights of all outputs against each other; the `keep`
    highest stay, and are solved for as `refit` does.

    Args:
      W: [inputs, outputs], the transpose of the paper's.
      H: [inputs, inputs], positive definite: `damped(X^T X)`, at any scale.
      keep: how many weights to keep, an integer or int32 scalar (it may be traced), clipped to
        what there is. Unused where `cut` has nm.
      cut: single weights, or nm: a group of m that has lost m - n loses no more.

    Returns:
      (Ŵ, mask): the pruned weights in the dtype of W, and bool [inputs, outputs], True = keep.
      It takes inputs^3 / 2 multiplications and inputs^2 numbers for each output, of which as many
      run side by side as fit in 64 MiB. On two CPU cores an output of 1,024 inputs takes 0.2 s:
      for layers of about 1,000 inputs and fewer.

    Raises:
      TypeError: dtypes do not fit, or `keep` is no integer.
      ValueError: shapes or `cut` do not fit, or `cut` has blocks.

    The changes of C are not made: the vectors C_p / sqrt(C_pp) are remembered, and a row of C is
    what H^-1 says less their products, as in a Cholesky factorisation with pivots.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> W = jnp.array([[1.0], [2.0]])
      >>> H = jnp.array([[1.0, 0.5], [0.5, 1.0]])
      >>> pruned, mask = cores.obc(W, H, 1, cores.Cut())
      >>> [f"{w:.3f}" for w in pruned[:, 0]]
      ['0.000', '2.500']

    References:
      Frantar, Singh and Alistarh, Optimal brain compression, arXiv 2208.11580.
    """
    dtype = jnp.asarray(W).dtype
    W, H = checked(W, H=H)
    if (cut.rows, cut.columns) != (1, 1):
        raise ValueError(
            f"obc: {cut!r} has blocks; obc removes single weights. Use sparsegpt or alps."
        )
    inputs, outputs = W.shape
    keep = checked_keep(keep, cut, W.shape)
    n, m = (0, inputs) if cut.nm is None else cut.nm
    removals = inputs // m * (m - n)
    C = solve(H, jnp.eye(inputs, dtype=H.dtype))
    side = max(1, min(outputs, _AT_ONCE // max(inputs * removals, 1)))
    run = functools.partial(_remove_all, C=C, n=n, m=m, removals=removals)
    growth, turn = lax.map(run, W.T, batch_size=side)
    if cut.nm is None:
        # From the last removal to the first, so that of equal ones the later stay.
        ranks = lax.cummax(growth[:, :inputs], axis=1)[:, ::-1].T
        kept = top_k_mask(ranks, keep).sum(0, dtype=jnp.int32)
        mask = (turn >= inputs - kept[:, None]).T
    else:
        mask = (turn >= removals).T
    return refit(W, H, mask, steps=2 * inputs, tol=1e-6).astype(dtype), mask


def _remove_all(w, C, n, m, removals):
    """Of one output: what each removal costs, padded, and the turn of each weight, [inputs].

    Weights that are never removed have the turn after the last.
    """
    inputs = len(w)
    parts = max(1, -(-removals // _PART))
    part = functools.partial(lax.dynamic_slice_in_dim, slice_size=_PART)

    def one(t, state):
        w, d, turn, past, growth = state
        left = turn == removals
        free = left.reshape(-1, m).sum(1, dtype=jnp.int32) > n
        free = left & jnp.repeat(free, m)
        cost = jnp.where(free, jnp.square(w) / d, jnp.inf)
        p = jnp.argmin(cost)

        def less(k, row):
            some = part(past, k * _PART)
            return row - dot(some[:, p], some)

        row = lax.fori_loop(0, t // _PART + 1, less, C[p])
        v = jnp.where(left, row, 0) / jnp.sqrt(d[p])
        w = w - v * (w[p] / jnp.sqrt(d[p]))
        turn = turn.at[p].set(t)
        d = jnp.where(turn == removals, d - jnp.square(v), 1)
        return w, d, turn, past.at[t].set(v), growth.at[t].set(cost[p])

    start = (
        w,
        jnp.diagonal(C),
        jnp.full((inputs,), removals, jnp.int32),
        jnp.zeros((parts * _PART, inputs), w.dtype),
        jnp.zeros((parts * _PART,), w.dtype),
    )
    _, _, turn, _, growth = lax.fori_loop(0, removals, one, start)
    return growth, turn
