"""Masks baked into params: a plain tree of arrays that holds exact zeros and nothing else."""

import sys
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxprune._tree import _wrappers, flatten
from jaxprune.masks._apply import apply, stands_for_leaf
from jaxprune.masks._pack import unpack


def finalize(params, masks=None, *, dtype=None):
    """Params for inference: masks baked in, wrappers of Flax gone, and cast where asked.

        where(mask, w, 0), then the dtype: a pruned weight is +0.0, whatever stood there

    Dicts, lists, tuples, and modules of Equinox stay what they are. A `FrozenDict` and an
    `nnx.State` become dicts; boxes such as `nn.Partitioned`, and an `nnx.Variable`, become the
    array in them.

    Args:
      params: any pytree. Of an NNX model, its state: `nnx.state(model, nnx.Param)`.
      masks: as `masks.apply` takes them, or as `masks.pack` packed them along axis 0; None, for a
        leaf or as a whole, leaves what is there.
      dtype: of floating leaves; None keeps theirs. Integers, bools, keys and what is no array stay.

    Returns:
      A pytree of arrays. Under jit it is traced like any function of arrays.

    Raises:
      TypeError: dtype is not floating, a mask is not bool, or params is a module of NNX.
      ValueError: the trees or the shapes of params and masks differ.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"kernel": jnp.array([jnp.nan, 2.0]), "step": jnp.array(3)}
      >>> masks = {"kernel": jnp.array([False, True]), "step": None}
      >>> jaxprune.finalize(params, masks, dtype=jnp.bfloat16)
      {'kernel': Array([0, 2], dtype=bfloat16), 'step': Array(3, dtype=int32, weak_type=True)}
    """
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"finalize: dtype={dtype!r} must be floating, such as jnp.bfloat16.")
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(params, nnx.Module):
        raise TypeError(
            f"finalize: params is the module {type(params).__name__}; pass its state, "
            "nnx.state(model, nnx.Param)."
        )
    if masks is not None:
        params = apply(params, _as_bools(masks, params))
    return _plain(params, dtype, _wrappers())


def _as_bools(masks, params):
    """The masks, unpacked where they are bytes."""
    paths, leaves, _ = flatten(params)
    shapes = dict(zip(paths, leaves, strict=True))
    paths, found, structure = flatten(masks, is_leaf=stands_for_leaf)
    return structure.unflatten(
        unpack({p: m}, {p: shapes[p]})[p]
        if getattr(m, "dtype", None) == jnp.uint8 and p in shapes
        else m
        for p, m in zip(paths, found, strict=True)
    )


def _plain(tree, dtype, wrappers):
    """The tree without wrappers, floating leaves cast."""

    def opens(node):
        other = isinstance(node, Mapping) and not isinstance(node, dict)
        return other or isinstance(node, wrappers)

    def plain(node):
        if isinstance(node, wrappers):
            (value,) = jax.tree.leaves(node, is_leaf=lambda x: x is not node)
            return _plain(value, dtype, wrappers)
        if opens(node):
            return {key: _plain(value, dtype, wrappers) for key, value in node.items()}
        floats = hasattr(node, "dtype") and jnp.issubdtype(node.dtype, jnp.floating)
        return node.astype(dtype) if floats and dtype is not None else node

    return jax.tree.map(plain, tree, is_leaf=opens)
