"""Masks as an optimizer state holds them: eight rows to a byte, where rows come in eights.

A state that is read at every step has to be small: a bool mask is an eighth of what plain momentum
moves per weight, its bits a sixty-fourth. Rows, and not columns, share a byte, so that unpacking
is a shift per row and stays vectorised along the last axis, inside the update's own loop.
"""

import jax
import jax.numpy as jnp
from jax import lax


def to_bits(mask: jax.Array) -> jax.Array:
    """uint8 with axis -2 an eighth as long, or the mask itself where eight does not divide it."""
    if mask.ndim < 2 or mask.shape[-2] % 8:
        return mask
    rows = mask.reshape(*mask.shape[:-2], mask.shape[-2] // 8, 8, mask.shape[-1])
    bits = jnp.zeros((), jnp.uint8)
    for i in range(8):  # written out: a reduction over so short an axis is slow on CPUs
        bits = bits | (rows[..., i, :].astype(jnp.uint8) << (7 - i))
    return bits


def from_bits(bits: jax.Array) -> jax.Array:
    """The mask that `to_bits` packed."""
    if bits.dtype == jnp.bool_:
        return bits
    shape = (*bits.shape[:-1], 8, bits.shape[-1])
    shift = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 2)
    tested = (jnp.expand_dims(bits, -2).astype(jnp.int32) << shift) & 128
    return (tested != 0).reshape(*bits.shape[:-2], bits.shape[-2] * 8, bits.shape[-1])


def ones(leaf) -> jax.Array:
    """The bits of a mask that keeps all of a leaf, placed as the leaf is."""
    return to_bits(jnp.ones_like(leaf, dtype=bool))
