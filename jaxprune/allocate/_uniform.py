"""The same sparsity for every leaf."""

from collections.abc import Mapping
from fractions import Fraction

from jaxprune.allocate._solve import Leaf, check, cut, solve


def uniform(leaves: Mapping[str, Leaf], sparsity: float) -> dict[str, int]:
    """The same sparsity for every leaf.

        kept_i = round(units_i * (1 - sparsity))

    as Python rounds. Where that breaks the bound of a leaf, the total counts instead: all leaves
    share one density eps, cut to their bounds, such that together they keep exactly
    round(sum_i units_i * (1 - sparsity)).

    Args:
      leaves: path -> Leaf.
      sparsity: fraction of units to remove, 0 <= sparsity < 1, known on the host.

    Returns:
      path -> how many units are kept.

    Raises:
      ValueError: the bounds do not allow the sparsity, or a Leaf contradicts itself.
      TypeError: the sparsity is traced or no number, or a size is no whole number.

    No leaves give an empty dict; a leaf without units keeps 0.

    Example:
      >>> from jaxprune import allocate
      >>> leaves = {"a": allocate.Leaf((10, 10), 100), "b": allocate.Leaf((5,), 5)}
      >>> allocate.uniform(leaves, 0.9)
      {'a': 10, 'b': 0}
      >>> leaves["b"] = allocate.Leaf((5,), 5, min_keep=2)
      >>> allocate.uniform(leaves, 0.9)
      {'a': 8, 'b': 2}
    """
    leaves, sparsity = check(leaves, sparsity)
    kept = {path: round(leaf.units * (1 - sparsity)) for path, leaf in leaves.items()}
    if all(cut(kept[path], leaf) == kept[path] for path, leaf in leaves.items()):
        return kept
    return solve(leaves, sparsity, dict.fromkeys(leaves, Fraction(1)))
