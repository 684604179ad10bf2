"""N:M: at most n of every m consecutive weights."""

import dataclasses
import math

from jaxprune import axes
from jaxprune.select import top_n_of_m
from jaxprune.select._source import Source


@dataclasses.dataclass(frozen=True)
class NM:
    """Keeps `n` of every `m` consecutive weights along an axis.

    The count is exact at every sparsity, so a schedule can lead to the pattern: below 1 - n/m the
    weights beyond the n highest of their group go first, lowest score first; at 1 - n/m exactly
    the n highest of every group are left; beyond it, the lowest of those go too.

    Args:
      n, m: 1 <= n < m.
      axis: the axis along which the groups of m lie; it must be divisible by m. The default -2 is
        the input axis of Flax and Haiku kernels, (in, out) and (height, width, in, out), which is
        what 2:4 hardware multiplies along. Equinox and PyTorch weights are (out, in): axis=-1.

    Raises:
      TypeError: n or m is not a whole number.
      ValueError: not 1 <= n < m.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> w = {"kernel": jnp.array([[1.0, 8.0], [2.0, 7.0], [3.0, 6.0], [4.0, 5.0]])}
      >>> jaxprune.masks.make(w, 0.5, pattern=jaxprune.NM(2, 4))["kernel"]
      Array([[False,  True],
             [False,  True],
             [ True, False],
             [ True, False]], dtype=bool)

    References:
      Mishra et al., Accelerating sparse deep neural networks, arXiv 2104.08378.
    """

    n: int
    m: int
    axis: int = -2

    def __post_init__(self):
        for name in ("n", "m", "axis"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"NM: {name}={value!r} must be a whole number.")
        if not 1 <= self.n < self.m:
            raise ValueError(f"NM: n={self.n}, m={self.m}: keep n of every m with 1 <= n < m.")

    def check(self, shape, path):
        """The axis must exist and be divisible by m."""
        axis = axes.normalize(self.axis, len(shape), f"{self!r} for {path}")
        if shape[axis] % self.m:
            raise ValueError(
                f"{self!r} for {path}: axis {axis} of shape {tuple(shape)} is not divisible by "
                f"{self.m}. Exempt the leaf by Rule({path!r}, dense=True), or choose another axis."
            )

    def num_units(self, shape):
        """Each weight is a unit."""
        return math.prod(shape)

    def units(self, source: Source) -> Source:
        """The scores themselves, with the n highest of each group marked."""
        scores = source.scores(source.array)
        member = top_n_of_m(scores, self.n, self.m, axis=self.axis)
        unit = (self.axis % len(source.shape), self.m)
        return dataclasses.replace(source, member=member, unit=unit)

    def sums(self, values):
        """The values themselves."""
        return values

    def expand(self, values, shape):
        """The values themselves."""
        return values.reshape(shape)

    def first_units(self, shape):
        """The n highest of each group rank before the others."""
        return math.prod(shape) // self.m * self.n

    def __str__(self):
        return f"{self.n}:{self.m}" + (f" axis {self.axis}" if self.axis != -2 else "")
