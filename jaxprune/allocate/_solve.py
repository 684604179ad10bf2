"""One solver for all allocations: a common scale of raw densities, cut to bounds, exact in total.

Everything is a Python integer or a fraction: no size is too large, and no tolerance is needed.
"""

import math
import operator
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from jaxprune._checks import check_sparsity, is_traced


class Leaf(NamedTuple):
    """What an allocation knows of one parameter.

    Args:
      shape: the shape of the parameter.
      units: how many things of it are ranked, at least 0: its weights, or blocks or channels.
      min_keep: the fewest units that it keeps, 0 <= min_keep <= max_keep.
      max_keep: the most units that it keeps, at most `units`; None is `units`.

    Example:
      >>> from jaxprune import allocate
      >>> allocate.Leaf((3, 3, 64, 128), units=128, min_keep=16)
      Leaf(shape=(3, 3, 64, 128), units=128, min_keep=16, max_keep=None)
    """

    shape: tuple[int, ...]
    units: int
    min_keep: int = 0
    max_keep: int | None = None


def check(leaves: Mapping[str, Leaf], sparsity) -> tuple[dict[str, Leaf], float]:
    """The arguments of an allocation in Python integers, `max_keep` filled in, and a float."""
    if is_traced(sparsity):
        raise TypeError(
            f"sparsity={sparsity} is traced, but it is divided over leaves on the host, when the "
            'program is built; pass a float, or use allocate=uniform or scope="global".'
        )
    return {path: _check_leaf(path, *leaf) for path, leaf in leaves.items()}, check_sparsity(
        sparsity, "sparsity"
    )


def _check_leaf(path, shape, units, min_keep=0, max_keep=None):
    def whole(value, name):
        try:
            number = operator.index(value)
        except TypeError as error:
            raise TypeError(
                f"{name}={value!r} of leaf {path!r} is not a whole number; give a Python int."
            ) from error
        if number < 0:
            raise ValueError(f"{name}={number} of leaf {path!r} is negative; give 0 or more.")
        return number

    units, min_keep = whole(units, "units"), whole(min_keep, "min_keep")
    max_keep = units if max_keep is None else whole(max_keep, "max_keep")
    if not min_keep <= max_keep <= units:
        raise ValueError(
            f"min_keep={min_keep} and max_keep={max_keep} of leaf {path!r} do not fit its {units} "
            "units; choose 0 <= min_keep <= max_keep <= units."
        )
    return Leaf(tuple(whole(n, "shape") for n in shape), units, min_keep, max_keep)


def cut(count, leaf):
    """The nearest count within the bounds of a checked leaf."""
    return min(max(count, leaf.min_keep), leaf.max_keep)


def solve(leaves: Mapping[str, Leaf], sparsity: float, raw: Mapping[str, Fraction]):
    """Units kept per path: in proportion to `raw` densities, within bounds, exact in total.

        x_i = clip(eps * raw_i * units_i, min_keep_i, max_keep_i), with eps from
        sum_i x_i = round(sum_i units_i * (1 - sparsity))

    made whole by largest remainder, ties to the earlier leaf. Leaves that eps fills are thereby
    dense, and the others share what is left.

    Args:
      leaves: from `check`.
      sparsity: from `check`.
      raw: a positive density, up to a common factor, for each path with units.

    Returns:
      A dict of ints.

    Raises:
      ValueError: the bounds do not allow the sparsity.
    """
    total = sum(leaf.units for leaf in leaves.values())
    target = round(total * (1 - sparsity))
    _check_reach(leaves, sparsity, target, total)
    slopes = {path: raw[path] * leaf.units for path, leaf in leaves.items() if leaf.units}
    eps = _scale(leaves, slopes, target)
    exact = {path: cut(eps * slopes.get(path, 0), leaf) for path, leaf in leaves.items()}
    kept = {path: math.floor(x) for path, x in exact.items()}
    missing = target - sum(kept.values())
    # A cut leaf is whole, and fewer are missing than leaves are not: no leaf passes its bound.
    for path in sorted(kept, key=lambda path: kept[path] - exact[path])[:missing]:
        kept[path] += 1
    return kept


def _scale(leaves, slopes, target):
    """The eps at which the leaves keep `target`: a sweep over where they leave their bounds."""
    turns = []
    for path, slope in slopes.items():
        _, _, low, high = leaves[path]
        turns += [(low / slope, slope, -low), (high / slope, -slope, high)]
    eps, slope, fixed = Fraction(0), Fraction(0), sum(leaf.min_keep for leaf in leaves.values())
    for turn, more, constant in sorted(turns):
        if slope * turn + fixed >= target:
            break
        eps, slope, fixed = turn, slope + more, fixed + constant
    return (target - fixed) / slope if slope else eps


def _check_reach(leaves, sparsity, target, total):
    low = sum(leaf.min_keep for leaf in leaves.values())
    high = sum(leaf.max_keep for leaf in leaves.values())
    if low <= target <= high:
        return
    if target < low:
        name, path = "min_keep", max(leaves, key=lambda path: leaves[path].min_keep)
        value = leaves[path].min_keep
    else:
        name, path = "max_keep", max(leaves, key=lambda p: leaves[p].units - leaves[p].max_keep)
        value = leaves[path].max_keep
    raise ValueError(
        f"sparsity={sparsity} keeps {target} of {total} units, but the bounds of the leaves allow "
        f"{low} to {high}: a sparsity from {1 - high / total:.15g} to {1 - low / total:.15g}. "
        f"Choose one in it, or relax the bounds; the tightest is {name}={value} of leaf {path!r}."
    )
