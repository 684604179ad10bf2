"""Integers past 2**31 without x64: two int32 limbs on the last axis, [high, low].

`value = high * 2**BITS + low` with `0 <= low < 2**BITS`. Sums of up to 2**(31 - BITS) counts need
one carry only, and totals reach 2**(31 + BITS).
"""

import jax.numpy as jnp
import numpy as np

BITS = 20


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


def total(counts, bits: int = BITS):
    """Sum of int32 counts over the first axis, as limbs."""
    chunk = 1 << (30 - bits)
    limbs = from_int32(counts, bits)
    while limbs.shape[0] > chunk:  # carry before a low limb can overflow
        spare = -limbs.shape[0] % chunk
        limbs = jnp.pad(limbs, [(0, spare)] + [(0, 0)] * (limbs.ndim - 1))
        limbs = carry(limbs.reshape(-1, chunk, *limbs.shape[1:]).sum(1, dtype=jnp.int32), bits)
    return carry(limbs.sum(0, dtype=jnp.int32), bits)


def at_least(a, b, bits: int = BITS):
    """A >= b."""
    return subtract(a, b, bits)[..., 0] >= 0


def equal(a, b):
    """A == b."""
    return jnp.all(a == b, axis=-1)


def to_float(wide, bits: int = BITS):
    """The nearest float32, near enough; exact below 2**24."""
    return wide[..., 0].astype(jnp.float32) * float(1 << bits) + wide[..., 1].astype(jnp.float32)
