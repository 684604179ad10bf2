"""Masks measured: exact counts on the host."""

import jax
import numpy as np

from jaxprune.masks._apply import match


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


def num_kept(mask) -> int:
    """How many are True, counted on the host, exactly whatever the size."""
    return int(np.count_nonzero(np.asarray(mask)))


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
        x, y = np.asarray(x), np.asarray(y)
        both += int(np.count_nonzero(x & y))
        either += int(np.count_nonzero(x | y))
    return both / either if either else 1.0
