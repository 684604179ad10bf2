"""A function of dense params as one of params with blocks."""

import functools

import jax

from jaxprune._program import trace, with_keywords
from jaxprune._tree import flatten
from jaxprune.sparse._block_ell import BlockELL
from jaxprune.sparse._run import Notes, run_to_arrays
from jaxprune.sparse._views import whole


def sparse_apply(apply):
    """A function that takes params with `BlockELL` leaves, as `to_blocks` makes them.

        sparse_apply(apply)(to_blocks(params), *args) = apply(params, *args), up to rounding

    It traces `apply` with dense shapes and runs the program with the products of blocks in place of
    those of dense weights: where a leaf meets data in a `dot_general` that contracts all its inputs
    (or all its outputs), also behind casts, transpositions, reshapes between whole axes, calls,
    `jax.checkpoint`, and in `lax.scan` over stacked layers or with shared ones. Whatever else is
    done with such a leaf is done with the dense array, made there and then: exact, not faster, and
    a warning says so.

    Wrap it in `jax.jit`: without, each call traces anew. It can be differentiated by the blocks and
    by the data, forward and backward, and mapped by `vmap`. Take gradients of
    `sparse_apply(loss)`, not of `loss` inside: those would be dense. Functions with gradients of
    their own (`custom_jvp`, `custom_vjp`) keep them.

    A row of activations with NaN or infinity gives NaN in the columns whose blocks meet it, where
    the dense product gives NaN in all columns.

    Args:
      apply: `apply(params, *args, **kwargs)` -> any pytree. Leaves of args that are no arrays, such
        as flags, are handed over as they are.

    Returns:
      A function with the same arguments and results.

    Raises:
      TypeError: apply is not callable.

    Example:
      >>> import jax
      >>> import jaxprune
      >>> from jaxprune import sparse
      >>> params = {"w": jax.random.normal(jax.random.key(0), (256, 256))}
      >>> masks = jaxprune.masks.make(params, 0.9, pattern=jaxprune.Block((64, 64)))
      >>> blocks = sparse.to_blocks(params, masks)
      >>> loss = lambda params, x: ((x @ params["w"]) ** 2).mean()
      >>> jax.grad(sparse.sparse_apply(loss))(blocks, jax.numpy.ones((8, 256)))
      {'w': BlockELL((256, 256), float32, blocks of 64x64, 2 of 16 stored)}
    """
    if not callable(apply):
        raise TypeError(f"sparse_apply: apply={apply!r} is not callable.")

    @functools.wraps(apply, updated=())
    def call(params, *args, **kwargs):
        paths, leaves, structure = flatten(params, is_leaf=lambda x: isinstance(x, BlockELL))
        described = [
            jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, BlockELL) else x for x in leaves
        ]
        traced = trace(with_keywords(apply), structure.unflatten(described), (args, kwargs))
        values = [
            whole(x, path) if isinstance(x, BlockELL) else x
            for path, x in zip(paths, leaves, strict=True)
        ]
        values += jax.tree.leaves((args, kwargs))
        notes = Notes()
        arrays = run_to_arrays(traced.jaxpr, [values[i] for i in traced.places], notes)
        notes.warn()
        return traced.rebuilt(arrays)

    return call
