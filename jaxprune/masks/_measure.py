"""Masks measured: exact counts on the host."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._sharding import num_devices
from jaxprune.masks._apply import match
from jaxprune.select._rows import row_lengths
from jaxprune.select._source import Source


def density(masks) -> float:
    """Fraction of True, over all masks of a tree, counted exactly on the host.

    Args:
      masks: a pytree of bool arrays; None is skipped.

    Returns:
      A float in [0, 1]; 1.0 for a tree without masks or elements.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.masks.density({"a": jnp.array([True, False]), "b": None})
      0.5
    """
    kept, size = 0, 0
    for mask in jax.tree.leaves(masks):
        kept += num_kept(mask)
        size += mask.size
    return kept / size if size else 1.0


def num_kept(x) -> int:
    """How many are not zero, exactly whatever the size.

    Of an array that other processes hold parts of, each counts its own, and all have to ask.
    """
    if getattr(x, "is_fully_addressable", True):
        return int(np.count_nonzero(np.asarray(x)))
    everywhere = jax.sharding.NamedSharding(x.sharding.mesh, jax.sharding.PartitionSpec())
    counts = jax.jit(_count_rows, out_shardings=everywhere)(x)
    return int(np.asarray(counts).sum(dtype=np.int64))


def _count_rows(x):
    """int32 counts that add up to the total."""
    source = Source(x).in_rows(row_lengths(x.shape, None, 2**31 - 1, 1, num_devices()))
    axes = tuple(range(source.row_axes, source.array.ndim))
    return jnp.sum(source.array != 0, axes, dtype=jnp.int32)


def overlap(a, b) -> float:
    """How alike two trees of masks are: what both keep over what either keeps (Jaccard).

    Args:
      a, b: pytrees of bool arrays of one structure.

    Returns:
      A float in [0, 1]; 1.0 where neither keeps anything.

    Raises:
      ValueError: the trees or the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.masks.overlap([jnp.array([True, True])], [jnp.array([True, False])])
      0.5
    """
    both, either = 0, 0
    for path, x, y in match(a, b):
        if y is None:
            raise ValueError(f"the mask of {path} is missing in the second tree.")
        x, y = jnp.asarray(x), jnp.asarray(y)
        both += num_kept(x & y)
        either += num_kept(x | y)
    return both / either if either else 1.0
