"""Mean scores of units, the same in whatever order and on how many devices they are added."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune.select import _wide
from jaxprune.select._search import add

_BITS = 30  # of each score, below the largest of its unit
_MOST = 1 << 24  # scores to add before limbs are carried


@functools.partial(jax.jit, static_argnames="axes", inline=True)  # one program, without jit too
def mean(scores, axes, number=None):
    """The mean of `scores` along `axes`, in float32.

    Floats are rounded at every addition, so that a sum depends on the order. So the scores of a
    unit become integers, as fractions of a power of two over the largest of them; these are added
    digit by digit, in as many digits as it takes for int32 to hold their sums.

    Args:
      scores: float array. A NaN makes its mean NaN, which ranks lowest.
      axes: which axes to reduce, ascending.
      number: what to divide their sum by, float32, broadcastable to the result: where some are
        padding of 0, how many there are without it. None: how many there are.
    """
    scores = scores.astype(jnp.float32)
    low, high = _extremes(scores, axes)
    largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
    largest = jnp.where(jnp.isfinite(largest), largest, low + high)  # then it is the mean
    exponent = lax.bitcast_convert_type(largest, jnp.int32) >> 23  # largest < 2**(exponent - 126)
    first = (_BITS + 126 - exponent) // 2  # one factor might be out of range
    second = _BITS + 126 - exponent - first
    scale = [jnp.expand_dims(_power(e), axes) for e in (first, second)]
    integers = (scores * scale[0] * scale[1]).astype(jnp.int32)
    total = _sum(integers, axes)
    if number is None:
        number = float(math.prod(scores.shape[axis] for axis in axes))
    average = total / number * _power(-first) * _power(-second)
    return jnp.where(jnp.isfinite(largest), average, largest)


def total(scores, axes):
    """The sum of `scores` along `axes`, in float32, as the mean is made."""
    return mean(scores, axes, 1.0)


def _sum(integers, axes):
    """The sums as float32, of integers that have up to _BITS bits and a sign."""
    now: list[int] = []
    later, number = list(axes), 1
    while later and (not now or number * integers.shape[later[-1]] <= _MOST):
        number *= integers.shape[later[-1]]
        now.insert(0, later.pop())
    width = max(1, min(_BITS // 2, _BITS - max(number - 1, 0).bit_length()))
    shifts = range(0, _BITS, width)
    digits = [(integers >> s) & ((1 << width) - 1) for s in shifts[:-1]]
    sums = add((*digits, integers >> shifts[-1]), tuple(now))  # the last has the sign
    sums = [_sum_limbs(x, later) if later else x.astype(jnp.float32) for x in sums]
    return sum(x * float(1 << s) for x, s in zip(reversed(sums), reversed(shifts), strict=True))


def _sum_limbs(counts, axes):
    """Sums of int32 past int32, as float32."""
    moved = jnp.moveaxis(_wide.from_int32(counts), axes, range(len(axes)))
    return _wide.to_float(_wide.total(moved.reshape(-1, *moved.shape[len(axes) :])))


def _extremes(scores, axes):
    """The lowest and the highest; NaN where one is."""
    return lax.platform_dependent(
        scores,
        cpu=lambda x: lax.reduce((x, x), _ENDS, lambda a, b: _wider(a, b), axes),
        default=lambda x: (jnp.min(x, axes), jnp.max(x, axes)),
    )


_ENDS = np.float32(np.inf), np.float32(-np.inf)


def _wider(a, b):
    return lax.min(a[0], b[0]), lax.max(a[1], b[1])


def _power(exponent):
    """2**exponent, exactly."""
    return lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)
