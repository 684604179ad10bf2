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

    A channel's score is the mean of its scores, so `score=jnp.square` ranks channels as their L2
    norm does and the default magnitude as their L1 norm. Sparsity counts channels.

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
        axis = self.axis
        if not isinstance(axis, int | tuple | list):
            raise TypeError(f"Channel: axis={axis!r} must be an integer or a tuple of integers.")
        if isinstance(axis, list):
            object.__setattr__(self, "axis", tuple(axis))
        if not self._axes or any(isinstance(a, bool) or not isinstance(a, int) for a in self._axes):
            raise TypeError(f"Channel: axis={axis!r} must be an integer or a tuple of integers.")

    @property
    def _axes(self) -> tuple[int, ...]:
        return (self.axis,) if isinstance(self.axis, int) else self.axis

    def _kept(self, shape):
        return sorted(axis % len(shape) for axis in self._axes)

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
        if source.size == 0:
            return Source(jnp.zeros((0,)))
        kept = self._kept(source.shape)
        rest = tuple(axis for axis in range(len(source.shape)) if axis not in kept)
        return Source(_pool.mean(source.scores(source.array), rest))

    def expand(self, mask, shape):
        """Every weight of a channel has the channel's mask."""
        if 0 in shape:
            return jnp.zeros(shape, bool)
        kept = self._kept(shape)
        view = [n if axis in kept else 1 for axis, n in enumerate(shape)]
        return jnp.broadcast_to(mask.reshape(view), shape)

    def first_units(self, shape):
        """None: scores alone decide."""
        return None

    def __str__(self):
        return f"channel axis {self.axis}"
