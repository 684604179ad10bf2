"""Channels: all weights at one index of an axis."""

import dataclasses
import math

import jax.numpy as jnp

from jaxprune import axes
from jaxprune.patterns import _pool
from jaxprune.select._source import Source


@dataclasses.dataclass(frozen=True)
class Channel:
    """All weights at one index of an axis live or die together: filters, neurons, features.

    A channel's score is the mean of its scores, so the default `scores.magnitude` ranks channels
    as their L1 norm does, and `scores.squared` as their L2 norm. Sparsity counts channels.

    Args:
      axis: the axis whose indices are the channels; -1 is the output of a Flax kernel. Several
        axes make a channel of each combination: `axis=(0, -1)` keeps the layers of an `nn.scan`
        stack apart.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> w = {"kernel": jnp.array([[1.0, 9.0], [2.0, 8.0]])}
      >>> jaxprune.masks.make(w, 0.5, pattern=jaxprune.Channel())["kernel"]
      Array([[False,  True],
             [False,  True]], dtype=bool)

    References:
      Li et al., Pruning filters for efficient ConvNets, arXiv 1608.08710.
    """

    axis: int | tuple[int, ...] = -1

    def __post_init__(self):
        object.__setattr__(self, "axis", axes.check_kind(self.axis, "Channel"))

    def _kept(self, shape):
        return sorted(self.view(shape)[1])

    def check(self, shape, path):
        """The axes must exist."""
        axes.normalize_all(self.axis, len(shape), f"{self!r} for {path}")

    def num_units(self, shape):
        """How many channels; none of a leaf without weights."""
        if 0 in shape:
            return 0
        return math.prod(shape[axis] for axis in self._kept(shape))

    def units(self, source: Source) -> Source:
        """The mean score of each channel."""
        return Source(self._pooled(source.scores(source.array), _pool.mean))

    def sums(self, values):
        """The sum over each channel."""
        return self._pooled(values, _pool.total)

    def _pooled(self, values, pool):
        if values.size == 0:
            return jnp.zeros((0,))
        kept = self._kept(values.shape)
        return pool(values, tuple(axis for axis in range(values.ndim) if axis not in kept))

    def expand(self, values, shape):
        """Every weight of a channel has the channel's value."""
        if 0 in shape:
            return jnp.zeros(shape, values.dtype)
        kept = self._kept(shape)
        view = [n if axis in kept else 1 for axis, n in enumerate(shape)]
        return jnp.broadcast_to(values.reshape(view), shape)

    def view(self, shape):
        """The leaf as it is, of which channels are the indices of the axes."""
        named = (self.axis,) if isinstance(self.axis, int) else self.axis
        return shape, tuple(axis % len(shape) for axis in named)

    def first_units(self, shape):
        """None: scores alone decide."""
        return None

    def __str__(self):
        return f"channel axis {self.axis}"
