"""Mean scores of units."""

import math

import jax.numpy as jnp
from jax import lax

from jaxprune.select._search import add


def mean(scores, axes, valid=None):
    """The mean of `scores` along `axes`, in float32 or wider; of ragged ones over `valid` alone.

    Sum and number come from one reduction of two operands: XLA's CPU code for it is threaded, its
    code for a reduction of one operand ten times slower.

    Args:
      scores: float array. A NaN makes its mean NaN, which ranks lowest.
      axes: which axes to reduce.
      valid: bool, broadcastable to `scores`; None: all.
    """
    wide = jnp.promote_types(scores.dtype, jnp.float32)
    scores = scores.astype(wide)
    number = scores == scores  # also False at NaN, whose mean is NaN anyway
    if valid is not None:
        scores, number = jnp.where(valid, scores, 0), number & valid
    zero = jnp.zeros((), wide)
    total, size = lax.reduce(
        (scores, number.astype(wide)),
        (zero, zero),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        axes,
    )
    return total / jnp.maximum(size, 1)


def exact_mean(scores, axes):
    """The mean of `scores` along `axes`, the same in whatever order and on how many devices.

    Floats are rounded at every addition. So the scores of a unit become integers, as fractions of
    a power of two over the largest of them, and these are added: 30 bits of each for up to 2**15
    scores, two less for each doubling beyond.

    Args:
      scores: float array; float64 is averaged as floats. A NaN makes its mean NaN.
      axes: which axes to reduce.
    """
    if scores.dtype == jnp.float64:
        return mean(scores, axes)
    scores = scores.astype(jnp.float32)
    number = math.prod(scores.shape[axis] for axis in axes)
    half = min(15, 30 - (number - 1).bit_length())
    low, high = _extremes(scores, axes)
    largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
    exponent = lax.bitcast_convert_type(largest, jnp.int32) >> 23  # largest < 2**(exponent - 126)
    first = (2 * half + 126 - exponent) // 2  # one factor might be out of range
    second = 2 * half + 126 - exponent - first
    whole = jnp.expand_dims(_power(first), axes), jnp.expand_dims(_power(second), axes)
    integers = jnp.round(scores * whole[0] * whole[1]).astype(jnp.int32)
    upper, lower = add((integers >> half, integers & ((1 << half) - 1)), axes)
    total = upper.astype(jnp.float32) * float(1 << half) + lower.astype(jnp.float32)
    average = total / number * _power(-first) * _power(-second)
    return jnp.where(jnp.isfinite(largest), average, low + high)


def _extremes(scores, axes):
    """The lowest and the highest; NaN where one is."""
    return lax.reduce(
        (scores, scores),
        (jnp.float32(jnp.inf), jnp.float32(-jnp.inf)),
        lambda a, b: (lax.min(a[0], b[0]), lax.max(a[1], b[1])),
        axes,
    )


def _power(exponent):
    """2**exponent, exactly."""
    return lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)
