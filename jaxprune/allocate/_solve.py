"""One solver for all allocations: a common scale of raw densities, cut to bounds, exact in total.

Everything is a Python integer or a fraction: no size is too large, and no tolerance is needed.
"""

import math
import operator
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from jaxprune._checks import check_sparsity, decimal, is_traced


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


def fraction(value, name: str) -> Fraction:
    """A finite number as the fraction that is written: 0.1 is 1/10."""
    try:
        return Fraction(str(decimal(value)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}={value!r} is not a finite number; give a float.") from error


def reach(leaves: Mapping[str, Leaf], sparsity: float) -> int:
    """How many units all leaves keep, round(sum_i units_i * (1 - sparsity)).

    Raises:
      ValueError: the bounds do not allow it.
    """
    total = sum(leaf.units for leaf in leaves.values())
    target = round(total * (1 - sparsity))
    _check_reach(leaves, sparsity, target, total)
    return target


def solve(
    leaves: Mapping[str, Leaf],
    sparsity: float,
    raw: Mapping[str, Fraction],
    shift: Mapping[str, Fraction] = MappingProxyType({}),
) -> dict[str, int]:
    """Units kept per path: densities on a common scale, within bounds, exact in total.

        x_i = clip((eps * raw_i + shift_i) * units_i, min_keep_i, max_keep_i), with eps from
        sum_i x_i = round(sum_i units_i * (1 - sparsity))

    made whole by largest remainder, ties to the earlier leaf. Leaves that eps fills are thereby
    dense, and the others share what is left.

    Args:
      leaves: from `check`; bounds may be made fractions.
      sparsity: from `check`.
      raw: a positive density, up to a common factor, for each path with units.
      shift: a density to add, where it is not 0.

    Returns:
      A dict of ints.

    Raises:
      ValueError: the bounds do not allow the sparsity.
    """
    target = reach(leaves, sparsity)
    lines = {
        path: (raw[path] * leaf.units, shift.get(path, 0) * leaf.units)
        for path, leaf in leaves.items()
        if leaf.units
    }
    eps = _scale(leaves, lines, target)
    exact = dict.fromkeys(leaves, Fraction(0))
    for path, (slope, offset) in lines.items():
        exact[path] = cut(eps * slope + offset, leaves[path])
    kept = {path: math.floor(x) for path, x in exact.items()}
    missing = target - sum(kept.values())
    # A leaf at a whole bound is whole, and fewer are missing than leaves are not: none passes it.
    for path in sorted(kept, key=lambda path: kept[path] - exact[path])[:missing]:
        kept[path] += 1
    return kept


def _scale(leaves, lines, target):
    """The eps at which the leaves keep `target`: a sweep over where they leave their bounds."""
    turns = []
    for path, (slope, offset) in lines.items():
        _, _, low, high = leaves[path]
        turns.append(((low - offset) / slope, slope, offset - low))
        turns.append(((high - offset) / slope, -slope, high - offset))
    slope, fixed = Fraction(0), Fraction(sum(leaf.min_keep for leaf in leaves.values()))
    for turn, more, constant in sorted(turns):
        if slope * turn + fixed >= target:
            return (target - fixed) / slope if slope else turn
        slope, fixed = slope + more, fixed + constant
    return Fraction(0)  # no leaf has units


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
