"""Integers past 2**31 without x64: two int32 limbs on the last axis, [high, low].

`value = high * 2**BITS + low` with `0 <= low < 2**BITS`, up to 2**(31 + BITS). Up to 2**(31 - BITS)
of them can be added before low limbs have to be carried.
"""

import jax.numpy as jnp
import numpy as np

BITS = 16


def constant(values, bits: int = BITS) -> np.ndarray:
    """Python integers (any nesting) as limbs."""
    values = np.asarray(values, dtype=np.int64)
    return np.stack([values >> bits, values & ((1 << bits) - 1)], axis=-1).astype(np.int32)


def from_int32(values, bits: int = BITS):
    """int32 counts as limbs."""
    return jnp.stack([values >> bits, values & ((1 << bits) - 1)], axis=-1)


def to_int32(wide, bits: int = BITS):
    """Limbs as int32; the caller knows that the value fits."""
    return (wide[..., 0] << bits) + wide[..., 1]


def carry(wide, bits: int = BITS):
    """Moves what the low limb holds beyond its range, also if negative, into the high limb."""
    high, low = wide[..., 0], wide[..., 1]
    return jnp.stack([high + (low >> bits), low & ((1 << bits) - 1)], axis=-1)


def subtract(a, b, bits: int = BITS):
    """A - b; a negative difference has a negative high limb."""
    return carry(a - b, bits)


def negative(a, bits: int = BITS):
    """-a."""
    return carry(-a, bits)


def total(wide, bits: int = BITS):
    """Sum over the first axis."""
    chunk = 1 << (30 - bits)
    while wide.shape[0] > chunk:  # carry before a low limb can overflow
        spare = -wide.shape[0] % chunk
        wide = jnp.pad(wide, [(0, spare)] + [(0, 0)] * (wide.ndim - 1))
        wide = carry(wide.reshape(-1, chunk, *wide.shape[1:]).sum(1, dtype=jnp.int32), bits)
    return carry(wide.sum(0, dtype=jnp.int32), bits)


def totals_before(wide, bits: int = BITS):
    """Sums of all that lie before, along the first axis; for up to 2**(31 - bits) of them."""
    return carry(jnp.cumsum(wide, axis=0, dtype=jnp.int32) - wide, bits)


def at_least(a, b, bits: int = BITS):
    """A >= b."""
    return subtract(a, b, bits)[..., 0] >= 0


def equal(a, b):
    """A == b."""
    return jnp.all(a == b, axis=-1)


def clip(a, low, high, bits: int = BITS):
    """`a` within [low, high]."""
    a = jnp.where(at_least(a, low, bits)[..., None], a, low)
    return jnp.where(at_least(high, a, bits)[..., None], a, high)


def to_float(wide, bits: int = BITS):
    """The nearest float32, near enough; exact below 2**24."""
    return wide[..., 0].astype(jnp.float32) * float(1 << bits) + wide[..., 1].astype(jnp.float32)
