"""Masks at random with the numbers of others: the control of a lottery ticket."""

import zlib

import jax
import jax.numpy as jnp

from jaxprune._checks import check_key, is_traced
from jaxprune._sharding import placed_as, with_auto_axes
from jaxprune._tree import flatten


def shuffle(key: jax.Array, masks):
    """Masks that keep as many weights of each leaf, at random places.

    Args:
      key: a PRNG key; each leaf has its own stream, from `key` and its path.
      masks: a pytree of bool arrays, None where a leaf is dense.

    Returns:
      A pytree as `masks`. Patterns are not kept: what is shuffled are single weights.

    Raises:
      TypeError: `key` is no key, or a leaf is not bool.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxprune
      >>> masks = {"kernel": jnp.zeros((4, 4), bool).at[0].set(True)}
      >>> int(jaxprune.masks.shuffle(jax.random.key(0), masks)["kernel"].sum())
      4
    """
    check_key(key)
    paths, leaves, structure = flatten(masks)
    shuffled = []
    for path, mask in zip(paths, leaves, strict=True):
        if getattr(mask, "dtype", None) != jnp.bool_:
            kind = getattr(mask, "dtype", repr(mask))
            raise TypeError(f"shuffle: {path} is {kind}; masks are bool arrays, True = keep.")
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        (moved,) = with_auto_axes(_permuted, own, mask, like=[mask])
        if is_traced(moved) or is_traced(mask):
            moved = placed_as(moved, mask)
        elif hasattr(mask, "sharding"):
            moved = jax.device_put(moved, mask.sharding)
        shuffled.append(moved)
    return structure.unflatten(shuffled)


def _permuted(key, mask):
    return [jax.random.permutation(key, mask.ravel()).reshape(mask.shape)]
