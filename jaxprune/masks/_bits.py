"""Masks as an optimizer state holds them: eight rows to a byte, where rows come in eights.

A state that is read at every step has to be small: a bool mask is an eighth of what plain momentum
moves per weight, its bits a sixty-fourth. Rows, and not columns, share a byte, so that unpacking
is a shift per row and stays vectorised along the last axis, inside the update's own loop.

On TPU masks stay bool. Memory there is laid out in tiles of the last two axes, and a row taken out
of a byte changes tiles: XLA's compiler for it then stores the unpacked bits, and where it has
transposed a leaf it copies all that meets them, at every step.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune._sharding import cut_if_divisible, explicit, with_auto_axes


def to_bits(mask: jax.Array) -> jax.Array:
    """uint8 with axis -2 an eighth as long, or the mask itself: on TPU, or if 8 does not divide."""
    return mask if mask.ndim < 2 or mask.shape[-2] % 8 or _platform() == "tpu" else _packed(mask)


def resharded(bits: jax.Array, w) -> jax.Array:
    """Bits or a mask; where types carry mesh axes, placed as those of `w` are made."""
    sharding = explicit(w)
    if sharding is None:
        return bits
    if bits.dtype != jnp.bool_:
        sharding = _of_bits(sharding, jnp.shape(w))
    return bits if explicit(bits) == sharding else jax.sharding.reshard(bits, sharding)


def as_stored(mask: jax.Array, old: jax.Array) -> jax.Array:
    """A mask in the form in which the state has the old one, wherever that state was made."""
    return mask if old.dtype == jnp.bool_ else _packed(mask)


def _platform() -> str:
    """For which a program is traced: that of the mesh, which need not be here, or the default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


# Without jit, as `init` and `get_masks` are mostly called, each is one program, not one for every
# operation.
_program = functools.partial(jax.jit, inline=True)


def _packed(mask):
    (bits,) = with_auto_axes(_pack, mask, like=[mask], fit=lambda s: _of_bits(s, mask.shape))
    return bits


@_program
def _pack(mask):
    rows = mask.reshape(*mask.shape[:-2], mask.shape[-2] // 8, 8, mask.shape[-1])
    bits = jnp.zeros((), jnp.uint8)
    for i in range(8):  # written out: a reduction over so short an axis is slow on CPUs
        bits = bits | (rows[..., i, :].astype(jnp.uint8) << (7 - i))
    return [bits]


def _of_bits(sharding, shape):
    """The sharding of bits; rows that devices do not hold in eights lie on all of them."""
    return cut_if_divisible(sharding, len(shape) - 2, shape[-2] // 8)


def from_bits(bits: jax.Array, like=None) -> jax.Array:
    """The mask that `to_bits` packed; where types carry mesh axes, placed as `like`."""
    if bits.dtype == jnp.bool_:
        return bits
    (mask,) = with_auto_axes(_unpack, bits, like=[bits if like is None else like])
    return mask


@_program
def _unpack(bits):
    shape = (*bits.shape[:-1], 8, bits.shape[-1])
    shift = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 2)
    tested = (jnp.expand_dims(bits, -2).astype(jnp.int32) << shift) & 128
    return [(tested != 0).reshape(*bits.shape[:-2], bits.shape[-2] * 8, bits.shape[-1])]


def ones(leaf) -> jax.Array:
    """The bits of a mask that keeps all of a leaf, placed as the leaf is."""
    return to_bits(jnp.ones_like(leaf, dtype=bool))
