"""SparseGPT without an inverse: one pass over the inputs of a layer."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.oneshot.cores._cut import Cut, checked_keep, choose
from jaxprune.oneshot.cores._gram import checked, cholesky, dot

_SPAN = 512  # inputs that share the large products with those before them; or one block
_CHUNK = 16  # inputs of a block that are gone through one by one between two products


@functools.partial(jax.jit, static_argnames=("cut", "block"))
def sparsegpt(
    W: jax.Array, H: jax.Array, keep, cut: Cut, *, block: int = 128, dead=None
) -> tuple[jax.Array, jax.Array]:
    """Prunes input by input, and moves the weights of later inputs to make up.

        H^-1 = U^T U, U upper triangular        scores of a block: w_j^2 / U_jj^2
        input j: e = (w_j - ŵ_j) / U_jj, then for all later inputs i: w_i <- w_i - U_ji e

    Args:
      W: [inputs, outputs], the transpose of the paper's.
      H: [inputs, inputs], positive definite: `damped(X^T X)`, at any scale.
      keep: how many units to keep, an integer or int32 scalar (it may be traced), clipped to what
        there is. Unused where `cut` has nm.
      cut: what a unit is. Blocks are chosen by the sum of their scores.
      block: how many inputs are chosen among at once, rounded down to a multiple of the inputs
        of a unit (at least one unit). Each block keeps its share of `keep`, rounded down
        cumulatively: the total is exact. N of m are chosen when their turn comes, whatever `block`.
      dead: bool [inputs], inputs that are always 0; their weights are the first to go. None: no
        input is known to be.

    Returns:
      (Ŵ, mask): the pruned weights in the dtype of W, and bool [inputs, outputs], True = keep.
      Where H is not positive definite, Ŵ is NaN; the number of True is exact also then.

    Raises:
      TypeError: dtypes do not fit, or `keep` is no integer.
      ValueError: shapes, `cut` or `block` do not fit.

    With H = R R^T, R upper triangular, U = R^-1 and the loss is ||R^T (Ŵ - W)||^2. Its row i

        R_ii (ŵ_i - W_i) + sum_{j < i} R_ji (ŵ_j - W_j)

    depends on no later input, so the best value of an input that is kept is that which makes its
    row 0, and this is what the paper's updates have made of w_i when its turn comes. So R is
    enough, the Cholesky factor of H with its inputs in reverse order: no inverse of H is formed,
    and products of R with the changes so far take the place of pushes onto all later weights.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> W = jnp.array([[1.0], [2.0]])
      >>> H = jnp.array([[1.0, 0.5], [0.5, 1.0]])
      >>> pruned, mask = cores.sparsegpt(W, H, 1, cores.Cut())
      >>> [f"{w:.3f}" for w in pruned[:, 0]]  # 2 + 0.5 * 1
      ['0.000', '2.500']

    References:
      Frantar and Alistarh, SparseGPT: massive language models can be accurately pruned in one
      shot, arXiv 2301.00774.
    """
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise ValueError(f"block={block!r} must be a whole number of at least 1.")
    dtype = jnp.asarray(W).dtype
    W, H = checked(W, H=H)
    inputs = len(W)
    along, _ = cut.grid(W.shape)
    dead = jnp.zeros(inputs, bool) if dead is None else jnp.asarray(dead, bool)
    if dead.shape != (inputs,):
        raise ValueError(f"dead has shape {dead.shape} for {inputs} inputs; give a bool for each.")
    block = min(max(block // cut.height, 1) * cut.height, inputs)
    length = min(-(-_SPAN // block), -(-inputs // block)) * block
    keep = checked_keep(keep, cut, W.shape)
    L = cholesky(H[::-1, ::-1])

    def span(start, size, state):
        change, mask = state
        first = start + jnp.arange(0, length, block)
        cuts = jnp.minimum(jnp.stack([first, first + block]) // cut.rows, along)
        shares = jnp.diff(_share(keep, cuts, along), axis=0)[0]
        rows = functools.partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=size)
        pull = _pull(L, change, start, size, length)
        R = _part(L, start, size, start, size)
        found = _span(rows(W), R, pull, rows(dead), shares, block, cut)
        put = functools.partial(lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
        return put(change, found[0]), put(mask, found[1])

    whole, rest = divmod(inputs, length)
    state = jnp.zeros_like(W), jnp.zeros(W.shape, bool)
    if whole:
        state = lax.fori_loop(0, whole, lambda i, x: span(i * length, length, x), state)
    change, mask = span(whole * length, rest, state) if rest else state
    return jnp.where(mask, W + change, 0).astype(dtype), mask


def _part(L, j, js, i, i_s):
    """R[j : j + js, i : i + i_s], of which the factor L has the inputs in reverse order."""
    n = len(L)
    return lax.dynamic_slice(L, (n - j - js, n - i - i_s), (js, i_s))[::-1, ::-1]


def _pull(L, change, start, size, length):
    """What the changes before say about a span of inputs i: sum_j R_ji (ŵ_j - W_j)."""

    def add(k, pull):
        before = lax.dynamic_slice_in_dim(change, k * length, length, 0)
        return pull + dot(_part(L, k * length, length, start, size).T, before)

    zeros = jnp.zeros((size, change.shape[1]), change.dtype)
    return zeros if length > len(L) else lax.fori_loop(0, start // length, add, zeros)


def _share(keep, units, along):
    """floor(keep * units / along), in 32 bits."""
    keep, units, along = (jnp.asarray(x).astype(jnp.uint32) for x in (keep, units, along))
    each, more = keep // along, keep % along
    return (each * units + more * units // along).astype(jnp.int32)


def _span(W, R, pull, dead, shares, size, cut):
    """(changes, mask) of blocks of `size` inputs, of which the last may be shorter.

    Args:
      W, pull: [inputs, outputs].
      R: [inputs, inputs], among these inputs.
      dead: bool [inputs].
      shares: [blocks], how many units each keeps.
    """
    number, inputs = len(shares), len(W)
    lacking = number * size - inputs
    if lacking:  # inputs that depend on no others, and rank below all
        W, pull = (jnp.pad(x, ((0, lacking), (0, 0))) for x in (W, pull))
        R = jax.scipy.linalg.block_diag(R, jnp.eye(lacking, dtype=R.dtype))
        dead = jnp.pad(dead, (0, lacking))
    there = jnp.arange(len(W)) < inputs
    R_blocks = R.reshape(len(W), number, size).swapaxes(0, 1)
    U = jax.vmap(lambda r, i: _inverse(lax.dynamic_slice_in_dim(r, i * size, size, 0)))(
        R_blocks, jnp.arange(number)
    )
    squares = jnp.where(dead, 0, 1 / jnp.square(jnp.diagonal(U, axis1=1, axis2=2)).reshape(-1))
    squares = jnp.where(there, squares, jnp.nan)[:, None]

    def one(change, x):
        i, W, R, U, pull, squares, share = x
        current = W - dot(U.T, pull + dot(R.T, change))
        final, mask = _block(current, U, squares, share, cut)
        return lax.dynamic_update_slice_in_dim(change, final - W, i * size, 0), mask

    apart = lambda x: x.reshape(number, size, *x.shape[1:])  # noqa: E731
    xs = (jnp.arange(number), apart(W), R_blocks, U, apart(pull), apart(squares), shares)
    change, mask = lax.scan(one, jnp.zeros_like(W), xs)
    return change[:inputs], mask.reshape(W.shape)[:inputs]


def _inverse(R):
    """Of an upper triangular matrix, column by column.

    A library's solve would do, but of several matrices on CPUs some versions of XLA wait for it for
    ever.
    """

    def one(i, U):
        r = lax.dynamic_slice_in_dim(R, i, 1, 1)
        own = lax.dynamic_slice_in_dim(r, i, 1, 0)
        here = (jnp.arange(len(R)) == i)[:, None]
        column = jnp.where(here, 1, -dot(U, r)) / own
        return lax.dynamic_update_slice_in_dim(U, column, i, 1)

    return lax.fori_loop(0, len(R), one, jnp.zeros_like(R))


def _block(W, U, squares, share, cut):
    """(pruned, mask) of one block: the paper's inner loop, a chunk of inputs at a time."""
    size = len(W)
    chunk = math.gcd(size, _CHUNK) if cut.nm is None else cut.height
    apart = lambda x: x.reshape(-1, chunk, *x.shape[1:])  # noqa: E731
    mask = None if cut.nm else choose(jnp.square(W) * squares, share, cut)

    def one(errors, x):
        i, W, U, squares, mask = x
        W = W - dot(U.T, errors)
        if mask is None:
            mask = choose(jnp.square(W) * squares, None, cut)
        mine = lax.dynamic_slice_in_dim(U, i * chunk, chunk, 0)
        mine, final = _chunk(W, mine, mask)
        return lax.dynamic_update_slice_in_dim(errors, mine, i * chunk, 0), (final, mask)

    U_chunks = U.reshape(size, -1, chunk).swapaxes(0, 1)
    mask = None if mask is None else apart(mask)
    xs = (jnp.arange(size // chunk), apart(W), U_chunks, apart(squares), mask)
    _, (final, mask) = lax.scan(one, jnp.zeros_like(W), xs)
    return final.reshape(W.shape), mask.reshape(W.shape)


def _chunk(W, U, mask):
    """(errors, pruned) of a few inputs."""

    def one(i, carry):
        errors, final = carry
        u = lax.dynamic_slice_in_dim(U, i, 1, 1)
        w = lax.dynamic_slice_in_dim(W, i, 1, 0) - dot(u.T, errors)
        kept = lax.dynamic_slice_in_dim(mask, i, 1, 0)
        own = lax.dynamic_slice_in_dim(u, i, 1, 0)
        put = functools.partial(lax.dynamic_update_slice_in_dim, start_index=i, axis=0)
        return put(errors, jnp.where(kept, 0, w / own)), put(final, jnp.where(kept, w, 0))

    return lax.fori_loop(0, len(W), one, (jnp.zeros_like(W), W))
