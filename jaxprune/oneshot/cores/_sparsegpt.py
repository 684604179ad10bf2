"""SparseGPT without an inverse: one pass over the inputs of a layer."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.oneshot.cores._cut import Cut, choose
from jaxprune.oneshot.cores._gram import checked, dot

_SUPER = 4  # blocks that share the one large product with all inputs before them
_CHUNK = 16  # inputs of a block that are gone through one by one between two products


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
      >>> pruned.round(4).tolist()  # 2 + 0.5 * 1
      [[0.0], [2.5]]

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
    L = lax.linalg.cholesky(H[::-1, ::-1], symmetrize_input=False)
    R = functools.partial(_flipped, L)
    block = min(max(block // cut.height, 1) * cut.height, inputs)
    keep = jnp.clip(jnp.asarray(keep), 0, cut.num_units(W.shape))

    change, masks = jnp.zeros_like(W), []
    for start, stop, size in _supers(inputs, block):
        rows = slice(start, stop)
        begin = jnp.arange(start, stop, size, dtype=jnp.uint32) // cut.rows
        before = lambda unit: _share(keep, unit, along)  # noqa: E731
        shares = before(begin + size // cut.rows) - before(begin)
        pull = dot(R(slice(0, start), rows).T, change[:start])
        mine, mask = _super(W[rows], R(rows, rows), pull, dead[rows], shares, size, cut)
        change = lax.dynamic_update_slice_in_dim(change, mine, start, 0)
        masks.append(mask)
    mask = jnp.concatenate(masks)
    return jnp.where(mask, W + change, 0).astype(dtype), mask


def _flipped(L, rows, columns):
    """R[rows, columns], of which the factor L has the inputs in reverse order."""
    n = len(L)
    return L[n - rows.stop : n - rows.start, n - columns.stop : n - columns.start][::-1, ::-1]


def _supers(inputs, block):
    """(start, stop, size of its blocks) of several blocks at a time, and of the rest."""
    whole = inputs // block * block
    cuts = [*range(0, whole, _SUPER * block), whole]
    yield from ((a, b, block) for a, b in itertools.pairwise(cuts))
    if whole < inputs:
        yield whole, inputs, inputs - whole


def _share(keep, units, along):
    """floor(keep * units / along), in 32 bits."""
    keep, along = keep.astype(jnp.uint32), jnp.uint32(along)
    each, more = keep // along, keep % along
    return (each * units + more * units // along).astype(jnp.int32)


def _super(W, R, pull, dead, shares, size, cut):
    """(changes, mask) of several blocks of `size` inputs.

    Args:
      W, pull: [inputs, outputs]; pull is what the changes before say: sum_j R_ji (ŵ_j - W_j).
      R: [inputs, inputs], among these inputs.
      dead: bool [inputs].
      shares: [blocks], how many units each keeps.
    """
    number = len(W) // size
    R_blocks = R.reshape(len(W), number, size).swapaxes(0, 1)
    R_own = jax.vmap(lambda r, i: lax.dynamic_slice_in_dim(r, i * size, size, 0))(
        R_blocks, jnp.arange(number)
    )
    eye = jnp.broadcast_to(jnp.eye(size, dtype=W.dtype), R_own.shape)
    U = lax.linalg.triangular_solve(R_own, eye, left_side=True)

    def one(change, x):
        i, W, R, U, pull, dead, share = x
        current = W - dot(U.T, pull + dot(R.T, change))
        final, mask = _block(current, U, dead, share, cut)
        return lax.dynamic_update_slice_in_dim(change, final - W, i * size, 0), mask

    apart = lambda x: x.reshape(number, size, *x.shape[1:])  # noqa: E731
    xs = (jnp.arange(number), apart(W), R_blocks, U, apart(pull), apart(dead), shares)
    change, mask = lax.scan(one, jnp.zeros_like(W), xs)
    return change, mask.reshape(W.shape)


def _block(W, U, dead, share, cut):
    """(pruned, mask) of one block: the paper's inner loop, a chunk of inputs at a time."""
    size = len(W)
    chunk = math.gcd(size, _CHUNK) if cut.nm is None else cut.height
    apart = lambda x: x.reshape(-1, chunk, *x.shape[1:])  # noqa: E731
    squares = jnp.where(dead, 0, 1 / jnp.square(jnp.diagonal(U)))[:, None]
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
