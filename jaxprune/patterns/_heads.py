"""Heads of attention: equal slices of an axis."""

import dataclasses

from jaxprune import axes
from jaxprune.patterns._channel import Channel
from jaxprune.select._source import Source


@dataclasses.dataclass(frozen=True)
class Heads:
    """All weights of an attention head live or die together.

    A head's score is the mean of its scores. Sparsity counts heads. Each leaf is ranked by itself
    or with others, but no leaf is tied to another: what removes a head whole is to prune it where
    heads are read, in the output projection.

        query, key, value of Flax          (in, heads, dim)      Heads(h, axis=-2)
        output projection of Flax          (heads, dim, out)     Heads(h, axis=-3)
        query, key, value, fused heads     (in, heads * dim)     Heads(h, axis=-1)
        output projection, fused heads     (heads * dim, out)    Heads(h, axis=-2)
        all queries, all keys, all values  (in, 3 * heads * dim) Heads(h, -1, parts=3)
        query, key and value head by head  (in, heads * 3 * dim) Heads(h, axis=-1)

    Where keys and values have fewer heads than queries, give them a pattern with their number by a
    `Rule`.

    Args:
      num_heads: how many heads, at least 1. The axis holds them as consecutive slices of one
        length; an axis of length `num_heads` has a head at each index.
      axis: the axis along which heads lie. Of several axes the last one named: then heads at each
        index of the others are heads of their own, as in the layers of an `nn.scan` stack,
        `axis=(0, -2)`.
      parts: how many times the heads lie along the axis, one after the other. A head has its slice
        of every part.

    Raises:
      TypeError: an argument is not a whole number.
      ValueError: num_heads or parts is under 1.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> w = {"kernel": jnp.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])}
      >>> jaxprune.masks.make(w, 0.5, pattern=jaxprune.Heads(2, axis=-1))["kernel"]
      Array([[False, False,  True,  True],
             [False, False,  True,  True]], dtype=bool)

    References:
      Michel et al., Are sixteen heads really better than one?, arXiv 1905.10650.
    """

    num_heads: int
    axis: int | tuple[int, ...]
    parts: int = 1

    def __post_init__(self):
        object.__setattr__(self, "axis", axes.check_kind(self.axis, "Heads"))
        for name in ("num_heads", "parts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Heads: {name}={value!r} must be a whole number.")
            if value < 1:
                raise ValueError(f"Heads: {name}={value} must be at least 1.")

    def check(self, shape, path):
        """The axes must exist, and that of heads be divisible by parts * num_heads."""
        *_, axis = axes.normalize_all(self.axis, len(shape), f"{self!r} for {path}")
        if shape[axis] % (self.parts * self.num_heads):
            raise ValueError(
                f"{self!r} for {path}: axis {axis} of shape {tuple(shape)} is not divisible by "
                f"parts * num_heads = {self.parts * self.num_heads}. Give this leaf another "
                f"pattern by Rule({path!r}, pattern=...), or exempt it by dense=True."
            )

    def view(self, shape):
        """The leaf with an axis of parts, one of heads and one in heads; and which are of units."""
        named = (self.axis,) if isinstance(self.axis, int) else self.axis
        *others, axis = (a % len(shape) for a in named)
        width = shape[axis] // (self.parts * self.num_heads)
        view = (*shape[:axis], self.parts, self.num_heads, width, *shape[axis + 1 :])
        return view, (*(a if a < axis else a + 2 for a in others), axis + 1)

    def _channels(self, shape):
        """The view, and the channels of it that are heads."""
        view, units = self.view(shape)
        return view, Channel(units)

    def num_units(self, shape):
        """How many heads; none of a leaf without weights."""
        view, channels = self._channels(shape)
        return channels.num_units(view)

    def units(self, source: Source) -> Source:
        """The mean score of each head."""
        view, channels = self._channels(source.shape)
        return channels.units(source.map(lambda x: x.reshape(view)))

    def sums(self, values):
        """The sum over each head."""
        view, channels = self._channels(values.shape)
        return channels.sums(values.reshape(view))

    def expand(self, values, shape):
        """Every weight of a head has the head's value."""
        view, channels = self._channels(shape)
        return channels.expand(values, view).reshape(shape)

    def first_units(self, shape):
        """None: scores alone decide."""
        return None

    def __str__(self):
        parts = f" parts {self.parts}" if self.parts > 1 else ""
        return f"{self.num_heads} heads axis {self.axis}{parts}"
