"""Each weight by itself."""

import dataclasses

from jaxprune.select._source import Source


@dataclasses.dataclass(frozen=True)
class Unstructured:
    """Every weight lives or dies by itself.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> w = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]])}
      >>> jaxprune.masks.make(w, 0.5, pattern=jaxprune.Unstructured())["kernel"]
      Array([[False,  True],
             [ True, False]], dtype=bool)
    """

    def check(self, shape, path):
        """Any shape will do."""

    def num_units(self, shape):
        """Each weight is a unit."""
        size = 1
        for n in shape:
            size *= n
        return size

    def units(self, source: Source) -> Source:
        """The scores themselves."""
        return source

    def sums(self, values):
        """The values themselves."""
        return values

    def expand(self, values, shape):
        """The values themselves."""
        return values.reshape(shape)

    def first_units(self, shape):
        """None: scores alone decide."""
        return None

    def __str__(self):
        return "unstructured"
