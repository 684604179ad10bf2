"""Mean scores of units."""

import jax.numpy as jnp
from jax import lax


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
