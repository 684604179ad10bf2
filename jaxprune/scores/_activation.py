"""Statistics of activations, channel by channel, for `given`."""

import jax
import jax.numpy as jnp
import numpy as np


def mean_activation(x, axis: int = -1) -> jax.Array:
    """The mean |x| of each channel.

        mean over all axes but one of |x|

    With ReLU this is the mean activation of the paper; with others, outputs that are negative count
    like those that are positive. For more than one batch of one size take the mean of the results.

    Args:
      x: outputs of a layer behind its activation function, float, such as [batch, channels] or
        [batch, height, width, channels].
      axis: the axis of channels.

    Returns:
      float32 [channels]; NaN where a channel holds one. `scores.given` makes scores of it.

    Raises:
      TypeError: `x` is not a float array.
      ValueError: it has no such axis, or no values of a channel.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> scores.mean_activation(jnp.array([[1.0, 0.0], [2.0, 0.0], [3.0, 6.0]]))
      Array([2., 2.], dtype=float32)

    References:
      Molchanov et al., Pruning convolutional neural networks for resource efficient inference,
      arXiv 1611.06440.
    """
    others = _others(x, axis, "mean_activation")
    return jnp.mean(jnp.abs(jnp.asarray(x, jnp.float32)), others)


def fraction_active(x, axis: int = -1) -> jax.Array:
    """The fraction of each channel's activations that are not zero: 1 - APoZ.

        (how many x != 0) / (how many x), over all axes but one

    Args:
      x: outputs of a layer behind its ReLU, float, such as [batch, channels] or
        [batch, height, width, channels]; fewer than 2**31 for each channel.
      axis: the axis of channels.

    Returns:
      float32 [channels] in [0, 1], from exact counts; NaN where a channel holds one.
      `scores.given` makes scores of it.

    Raises:
      TypeError: `x` is not a float array.
      ValueError: it has no such axis, or no values of a channel, or too many.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> scores.fraction_active(jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 6.0], [1.0, 0.0]]))
      Array([0.75, 0.25], dtype=float32)

    References:
      Hu et al., Network trimming, arXiv 1607.03250.
    """
    others = _others(x, axis, "fraction_active")
    number = x.size // x.shape[axis]
    if number >= 1 << 31:
        raise ValueError(
            f"fraction_active: {number} activations of each channel, of shape {x.shape}, are more "
            "than an int32 counts; give batches, and take the mean of their results."
        )
    x = jnp.asarray(x)
    fraction = jnp.sum(x != 0, others, dtype=jnp.int32).astype(jnp.float32) / np.float32(number)
    return jnp.where(jnp.any(jnp.isnan(x), others), jnp.nan, fraction)


def _others(x, axis, where):
    """All axes but that of channels."""
    if not (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)):
        raise TypeError(f"{where}: x={x!r} is not a float array; give the outputs of a layer.")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{where}: axis={axis} names no axis of x, of shape {x.shape}.")
    if x.size == 0:
        raise ValueError(
            f"{where}: x of shape {x.shape} holds no activations; give a batch of one or more."
        )
    return tuple(a for a in range(x.ndim) if a != axis % x.ndim)
