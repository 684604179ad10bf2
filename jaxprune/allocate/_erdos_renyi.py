"""Denser leaves where fan-in and fan-out are small: Erdos-Renyi random graphs."""

import math
from collections.abc import Mapping
from fractions import Fraction

from jaxprune.allocate._solve import Leaf, check, solve


def erdos_renyi(leaves: Mapping[str, Leaf], sparsity: float) -> dict[str, int]:
    """Densities as of Erdos-Renyi graphs: small layers are denser.

        density_i = min(1, eps * (n_in + n_out) / (n_in * n_out))

    with eps such that all leaves together keep exactly round(sum_i units_i * (1 - sparsity)).
    A leaf that eps would fill is dense, and the others share the rest. Of a convolution kernel
    (height, width, in, out) only the last two axes count.

    Args:
      leaves: path -> Leaf. Its last two axes are (n_in, n_out).
      sparsity: fraction of units to remove over all leaves, 0 <= sparsity < 1, known on the host.

    Returns:
      path -> how many units are kept, within the bounds of the leaf. Fractions are made whole by
      largest remainder, ties to the earlier leaf.

    Raises:
      ValueError: the bounds do not allow the sparsity, or a Leaf contradicts itself.
      TypeError: the sparsity is traced or no number, or a size is no whole number.

    A vector (n,) counts as (1, n) and a scalar as (1, 1): they are the first to be dense. No
    leaves give an empty dict; a leaf without units keeps 0.

    Example:
      >>> from jaxprune import allocate
      >>> leaves = {
      ...     "hidden": allocate.Leaf((400, 600), 240_000),
      ...     "head": allocate.Leaf((100, 10), 1_000),
      ... }
      >>> allocate.erdos_renyi(leaves, 0.99)
      {'hidden': 2171, 'head': 239}

    References:
      Mocanu et al. 2018, Scalable training of artificial neural networks with adaptive sparse
      connectivity inspired by network science, arXiv 1707.04780.
    """
    return _scaled(leaves, sparsity, lambda shape: shape[-2:])


def erdos_renyi_kernel(leaves: Mapping[str, Leaf], sparsity: float) -> dict[str, int]:
    """Erdos-Renyi densities that also count the kernel's spatial axes (ERK).

        density_i = min(1, eps * sum(shape_i) / prod(shape_i))

    with eps such that all leaves together keep exactly round(sum_i units_i * (1 - sparsity)).
    A leaf that eps would fill is dense, and the others share the rest. Of two axes, this is
    `erdos_renyi`.

    Args:
      leaves: path -> Leaf. All its axes count, also one that stacks layers.
      sparsity: fraction of units to remove over all leaves, 0 <= sparsity < 1, known on the host.

    Returns:
      path -> how many units are kept, within the bounds of the leaf. Fractions are made whole by
      largest remainder, ties to the earlier leaf.

    Raises:
      ValueError: the bounds do not allow the sparsity, or a Leaf contradicts itself.
      TypeError: the sparsity is traced or no number, or a size is no whole number.

    A vector (n,) counts as (1, n) and a scalar as (1, 1): they are the first to be dense. No
    leaves give an empty dict; a leaf without units keeps 0.

    Example:
      >>> from jaxprune import allocate
      >>> leaves = {
      ...     "conv": allocate.Leaf((3, 3, 64, 128), 73_728),
      ...     "head": allocate.Leaf((512, 10), 5_120),
      ... }
      >>> allocate.erdos_renyi_kernel(leaves, 0.9)  # the head is dense
      {'conv': 2765, 'head': 5120}

    References:
      Evci et al. 2020, Rigging the lottery: making all tickets winners, arXiv 1911.11134.
    """
    return _scaled(leaves, sparsity, lambda shape: shape)


def _scaled(leaves, sparsity, axes):
    leaves, sparsity = check(leaves, sparsity)
    raw = {}
    for path, leaf in leaves.items():
        if leaf.units:
            counted = axes((1,) * (2 - len(leaf.shape)) + leaf.shape)
            if 0 in counted:
                raise ValueError(
                    f"units={leaf.units} of leaf {path!r} do not fit its shape {leaf.shape}, "
                    "which is empty; give units=0."
                )
            raw[path] = Fraction(sum(counted), math.prod(counted))
    return solve(leaves, sparsity, raw)
