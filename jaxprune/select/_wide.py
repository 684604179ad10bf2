"""Integers past 2**31 without x64: two int32 limbs on the last axis, [high, low].

`value = high * 2**BITS + low` with `0 <= low < 2**BITS`, up to 2**(31 + BITS). Up to 2**(31 - BITS)
of them can be added before low limbs have to be carried.

Where all that can come up fits an int32, one limb does: [value]. What computes with limbs takes as
many as its arguments have, but for `to_int64`, `times` and `most_times`, which take two.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

BITS = 16


def constant(values, bits: int = BITS) -> np.ndarray:
    """Python integers (any nesting) as limbs."""
    values = np.asarray(values, dtype=np.int64)
    return np.stack([values >> bits, values & ((1 << bits) - 1)], axis=-1).astype(np.int32)


def to_int64(wide, bits: int = BITS) -> np.ndarray:
    """Limbs that are known, on the host, as the integers that `constant` made them of."""
    return (wide[..., 0].astype(np.int64) << bits) + wide[..., 1]


def from_int32(values, bits: int = BITS, limbs: int = 2):
    """int32 counts as limbs."""
    if limbs == 1:
        return values[..., None]
    return jnp.stack([values >> bits, values & ((1 << bits) - 1)], axis=-1)


def to_int32(wide, bits: int = BITS):
    """Limbs as int32; the caller knows that the value fits."""
    if wide.shape[-1] == 1:
        return wide[..., 0]
    return (wide[..., 0] << bits) + wide[..., 1]


def carry(wide, bits: int = BITS):
    """Moves what the low limb holds beyond its range, also if negative, into the high limb."""
    if wide.shape[-1] == 1:
        return wide
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
    if a.shape[-1] == 1:
        return jnp.minimum(jnp.maximum(a, low), high)
    a = jnp.where(at_least(a, low, bits)[..., None], a, low)
    return jnp.where(at_least(high, a, bits)[..., None], a, high)


def to_float(wide, bits: int = BITS):
    """The nearest float32, near enough; exact below 2**24."""
    if wide.shape[-1] == 1:
        return wide[..., 0].astype(jnp.float32)
    return wide[..., 0].astype(jnp.float32) * float(1 << bits) + wide[..., 1].astype(jnp.float32)


def times(a, factors, bits: int = BITS):
    """A * factors, exact where the product is within +-2**(31 + bits).

    Args:
      a: limbs of any sign; `bits` is at most 16, so that a product of two low limbs has 32 bits.
      factors: static integers from 0, of the rank of the values.
    """
    factors = np.asarray(factors, dtype=np.int64)
    high, low = a[..., 0], a[..., 1]

    def factor(values):  # high limbs are exact modulo 2**32, as int32 multiplies
        return (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)

    lowest = low * factor(factors & ((1 << bits) - 1))
    above = lax.shift_right_logical(lowest, jnp.full_like(lowest, bits))
    high = high * factor(factors) + low * factor(factors >> bits) + above
    return jnp.stack([high, lowest & ((1 << bits) - 1)], axis=-1)


_DIGIT = 6  # bits of a quotient that are found at once


def most_times(limit, factors, most, bits: int = BITS):
    """The largest n in [0, most] with n * factors <= limit; 0 where there is none.

    Args:
      limit: limbs [rows, 2] of any sign.
      factors: static integers [rows] from 0; `times(most, factors)` is in its range.
      most: limbs [rows, 2] from 0, below 2**(30 + bits).
    """
    limit, most, factors = limit[:, None], most[:, None], np.asarray(factors)[:, None]
    number = jnp.zeros_like(most)
    for shift in reversed(range(0, 30 + bits, _DIGIT)):
        digits = np.arange(1 << min(_DIGIT, 30 + bits - shift), dtype=np.int64)
        tried = number + constant(digits << shift, bits)[None]  # nothing to carry
        fits = at_least(most, tried, bits) & at_least(limit, times(tried, factors, bits), bits)
        digit = jnp.maximum(jnp.sum(fits, axis=1, dtype=jnp.int32) - 1, 0)
        number += digit[:, None, None] * constant(1 << shift, bits)[None, None]
        number = carry(number, bits)
    return number[:, 0]
