"""Masks as bits, for storage."""

import functools
import math

import jax
import jax.numpy as jnp

from jaxprune import axes
from jaxprune._sharding import cut_if_divisible, with_auto_axes
from jaxprune._tree import flatten


def pack(masks, *, axis: int = 0):
    """Masks as bits: eight to a byte along an axis, for storage.

    Packing runs along one axis and leaves the others as they are, so a mask that is sharded along
    another axis keeps its sharding.

    Args:
      masks: a pytree of bool arrays.
      axis: which axis of each array to shorten to ceil(n / 8); scalars get one axis of length 1.

    Returns:
      A pytree of uint8 arrays; the first of eight is the highest bit.

    Raises:
      TypeError: a leaf is not bool.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.masks.pack(jnp.array([True, False, True]))
      Array([160], dtype=uint8)
    """
    paths, leaves, structure = flatten(masks)
    packed = []
    for path, mask in zip(paths, leaves, strict=True):
        if getattr(mask, "dtype", None) != jnp.bool_:
            kind = getattr(mask, "dtype", repr(mask))
            raise TypeError(f"pack: {path} is {kind}; masks are bool arrays, True = keep.")
        mask = jnp.atleast_1d(mask)
        short = axes.normalize(axis, mask.ndim, f"pack: {path}")
        packed.append(_along(jnp.packbits, mask, short, math.ceil(mask.shape[short] / 8)))
    return jax.tree.unflatten(structure, packed)


def unpack(packed, like, *, axis: int = 0):
    """The masks that `pack` packed.

    Args:
      packed: what `pack` returned.
      like: a pytree of the same structure whose leaves have the shapes of the masks: params will
        do, with None where a mask is None.
      axis: the axis that was given to `pack`.

    Returns:
      A pytree of bool arrays.

    Raises:
      ValueError: a leaf cannot come from a mask of the shape given.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> mask = jnp.array([True, False, True])
      >>> jaxprune.masks.unpack(jaxprune.masks.pack(mask), mask)
      Array([ True, False,  True], dtype=bool)
    """
    paths, leaves, structure = flatten(packed)
    shapes = structure.flatten_up_to(_only_where(packed, like))
    masks = []
    for path, bits, leaf in zip(paths, leaves, shapes, strict=True):
        shape = jnp.shape(leaf)
        full = shape or (1,)
        short = axes.normalize(axis, len(full), f"unpack: {path}")
        cut = list(full)
        cut[short] = math.ceil(full[short] / 8)
        if bits.dtype != jnp.uint8 or bits.shape != tuple(cut):
            raise ValueError(
                f"unpack: {path or 'the leaf'} is {bits.dtype}{list(bits.shape)}; a mask of shape "
                f"{shape} packs along axis {axis} to uint8{cut}."
            )
        if bits.size == 0:
            masks.append(jnp.zeros(shape, bool))
            continue
        whole = functools.partial(jnp.unpackbits, count=full[short])
        masks.append(_along(whole, bits, short, full[short]).astype(bool).reshape(shape))
    return jax.tree.unflatten(structure, masks)


def _along(function, x, axis, length):
    """A function along an axis, which has `length` then."""
    (result,) = with_auto_axes(
        lambda x: [function(x, axis=axis)],
        x,
        like=[x],
        fit=lambda sharding: cut_if_divisible(sharding, axis, length),
    )
    return result


def _only_where(packed, like):
    """`like` with None where `packed` has None."""
    return jax.tree.map(
        lambda bits, leaf: None if bits is None else leaf,
        packed,
        like,
        is_leaf=lambda x: x is None,
    )
