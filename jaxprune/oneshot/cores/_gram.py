"""Gram matrices of a layer's inputs: what they say about pruned weights."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)

# Of stacked layers, one matrix after the other: on CPUs several factorisations of stacks in one
# program can wait for each other for ever.


@jax.custom_batching.sequential_vmap
def cholesky(H):
    """The lower triangular factor L with H = L L^T."""
    return lax.linalg.cholesky(H, symmetrize_input=False)


@jax.custom_batching.sequential_vmap
def solve(H, B):
    """H^-1 B for positive definite H."""
    L = lax.linalg.cholesky(H, symmetrize_input=False)
    return jax.scipy.linalg.cho_solve((L, True), B)


@jax.custom_batching.sequential_vmap
def eigh(H):
    """(eigenvalues, eigenvectors) of symmetric H."""
    return tuple(jnp.linalg.eigh(H, symmetrize_input=False))


def checked(W, **squares):
    """W and Gram matrices as they are computed with: float32, or float64 where one of them is.

    Raises:
      TypeError: one of them is not of floats.
      ValueError: their shapes do not belong together.
    """
    arrays = {"W": jnp.asarray(W)} | {name: jnp.asarray(x) for name, x in squares.items()}
    for name, x in arrays.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{name} has dtype {x.dtype}; give floats, such as float32.")
    shape = arrays["W"].shape
    if len(shape) != 2:
        raise ValueError(
            f"W has shape {shape}; give [inputs, outputs], and use jax.vmap for stacked layers."
        )
    for name, x in list(arrays.items())[1:]:
        if x.shape != (shape[0], shape[0]):
            raise ValueError(
                f"{name} has shape {x.shape} for W of shape {shape}; it must be [inputs, inputs], "
                f"{[shape[0], shape[0]]}. W is [inputs, outputs], as Flax kernels are."
            )
    dtype = jnp.result_type(jnp.float32, *(x.dtype for x in arrays.values()))
    return [x.astype(dtype) for x in arrays.values()]


def damped(H: jax.Array, damp: float = 0.01) -> jax.Array:
    """H + damp * mean(diag H) * I: positive definite, also where inputs are fewer than tokens.

    Args:
      H: [inputs, inputs], X^T X at any scale.
      damp: above 0, relative to the mean square of an input; it may be traced.

    Returns:
      H, damped, in its dtype. All-zero H stays zero.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> cores.damped(jnp.array([[1.0, 2.0], [2.0, 4.0]]), 0.2).tolist()  # mean of 1 and 4: 2.5
      [[1.5, 2.0], [2.0, 4.5]]

    References:
      Frantar and Alistarh, SparseGPT, arXiv 2301.00774, where damp is 0.01.
    """
    H = jnp.asarray(H)
    more = jnp.asarray(damp, H.dtype) * jnp.diagonal(H).mean()
    return jnp.where(jnp.eye(len(H), dtype=bool), H + more, H)


def target(W: jax.Array, G: jax.Array, C: jax.Array, damp: float = 0.01) -> jax.Array:
    """The weights that give a layer's dense outputs from the inputs that a pruned network has.

        W* = argmin ||X_d W - X_p W*||^2 + lam ||W* - W||^2 = (G + lam I)^-1 (C W + lam W)
        G = X_p^T X_p,  C = X_p^T X_d,  lam = damp * mean(diag G)

    X_d [tokens, inputs] are the inputs of the layer in the dense network, X_p in the pruned one.
    The objective is quadratic, with the matrix G + lam I and its minimum at W*, so at any other
    weights Ŵ it is a constant more than

        tr((Ŵ - W*)^T (G + lam I) (Ŵ - W*))

    which is the loss that every core minimises for weights W* and a Gram matrix `damped(G, damp)`.
    So each of them becomes asymmetric by handing it these two in place of W and H.

    Args:
      W: [inputs, outputs], dense weights.
      G, C: [inputs, inputs], at one scale.
      damp: above 0, as in `damped`; it may be traced.

    Returns:
      W* [inputs, outputs] in float32 (float64 where one of the arrays is), also for bfloat16 W:
      cores start from it, and what they return is rounded once.

    Raises:
      TypeError, ValueError: dtypes or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> X_d = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
      >>> X_p = X_d * jnp.array([[0.5, 1.0]])  # pruning before has halved the first input
      >>> W = jnp.array([[1.0], [1.0]])
      >>> [f"{w:.3f}" for w in cores.target(W, X_p.T @ X_p, X_p.T @ X_d, damp=1e-6)[:, 0]]
      ['2.000', '1.000']

    References:
      Frantar and Alistarh, SparseGPT, arXiv 2301.00774, whose later layers see what pruned ones
      give, without the term C.
    """
    W, G, C = checked(W, G=G, C=C)
    lam = jnp.asarray(damp, W.dtype) * jnp.diagonal(G).mean()
    return solve(damped(G, damp), dot(C, W) + lam * W)


def loss(D: jax.Array, H: jax.Array) -> jax.Array:
    """How much a change of weights changes a layer's outputs: ||X D||_F^2 = tr(D^T H D).

    Args:
      D: [inputs, outputs], pruned weights - dense weights.
      H: [inputs, inputs], X^T X.

    Returns:
      A scalar, at least 0, in float32 (float64 where one of the arrays is).

    Raises:
      TypeError, ValueError: dtypes or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.oneshot import cores
      >>> float(cores.loss(jnp.array([[1.0], [2.0]]), jnp.array([[2.0, 1.0], [1.0, 2.0]])))
      14.0
    """
    D, H = checked(D, H=H)
    return jnp.maximum(jnp.vdot(D, dot(H, D), precision=lax.Precision.HIGHEST), 0)
