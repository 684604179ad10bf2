"""Sparser leaves where the loss minds least."""

import itertools
from collections.abc import Callable, Mapping
from fractions import Fraction

from jaxprune._checks import check_sparsity
from jaxprune.allocate._solve import Leaf, check, fraction, reach


def from_sensitivity(
    losses: Mapping[str, Mapping[float, float]],
) -> Callable[[Mapping[str, Leaf], float], dict[str, int]]:
    """The allocation with the least sum of losses, of a scan that pruned one leaf at a time.

        minimise sum_i L_i(kept_i)  subject to  sum_i kept_i = round(sum_i units_i * (1 - sparsity))

    L_i is the lower convex hull of the scanned points (round(units_i * (1 - s)), loss), linear
    between them. Of convex curves the steepest pieces are bought first, which is optimal, in whole
    units. The sum takes effects of leaves to add up, as they do where each is small.

    Args:
      losses: path -> {sparsity: loss} with sparsities in [0, 1) and finite losses, lower is better
        (an accuracy is negated). Scan 0.0 too, the dense model, and at least as far as any leaf
        may go. Paths that are not asked for count for nothing.

    Returns:
      An allocation: (leaves, sparsity) -> {path: units kept}, for `allocate=`. No leaf leaves the
      range that was scanned, nor its bounds. Equally steep pieces go to the earlier leaf first. It
      raises ValueError where a leaf has no curve, or where bounds and scans do not allow the
      sparsity.

    Raises:
      ValueError: a curve has no points, or a sparsity is not in [0, 1).
      TypeError: a loss is not a finite number, a sparsity is no number, or a curve is no mapping.

    Example:
      >>> from jaxprune import allocate
      >>> leaves = {"a": allocate.Leaf((10, 10), 100), "b": allocate.Leaf((10, 10), 100)}
      >>> losses = {
      ...     "a": {0.0: 1.0, 0.5: 1.1, 0.9: 1.5},
      ...     "b": {0.0: 1.0, 0.5: 1.4, 0.9: 3.0},
      ... }
      >>> allocation = allocate.from_sensitivity(losses)
      >>> allocation(leaves, 0.25), allocation(leaves, 0.6)
      ({'a': 50, 'b': 100}, {'a': 30, 'b': 50})

    References:
      Han et al. 2015, Learning both weights and connections, arXiv 1506.02626, whose thresholds are
      set by such scans.
    """
    curves = {path: _curve(path, points) for path, points in losses.items()}

    def allocation(leaves: Mapping[str, Leaf], sparsity: float) -> dict[str, int]:
        leaves, sparsity = check(leaves, sparsity)
        missing = reach(leaves, sparsity)
        kept = dict.fromkeys(leaves, 0)
        pieces = []
        ranges = {}
        for path, leaf in leaves.items():
            if leaf.units:
                hull = _hull(_points(curves, path, leaf.units))
                ranges[path] = _range(path, leaf, hull, curves[path])
                kept[path] = ranges[path][0]
                pieces += [(slope, path, *ends) for slope, *ends in _slopes(hull)]
        _check_scanned(leaves, sparsity, missing, ranges)
        missing -= sum(kept.values())
        for _, path, start, end in sorted(pieces, key=lambda piece: piece[0]):
            low, high = ranges[path]
            bought = min(max(min(end, high) - max(start, low), 0), missing)
            kept[path] += bought
            missing -= bought
        return kept

    return allocation


def _curve(path, points):
    if not isinstance(points, Mapping):
        raise TypeError(
            f"losses[{path!r}]={points!r} is not a mapping; give {{sparsity: loss}}, such as "
            "{0.0: 1.0, 0.5: 1.2}."
        )
    if not points:
        raise ValueError(f"losses[{path!r}] is empty; give {{sparsity: loss}}, of 0.0 first.")
    return {
        check_sparsity(s, "sparsity", where=f"losses[{path!r}]"): fraction(
            loss, f"losses[{path!r}][{s!r}]"
        )
        for s, loss in points.items()
    }


def _points(curves, path, units):
    """(units kept, loss) in ascending order, of equal counts the lowest loss."""
    if path not in curves:
        raise ValueError(
            f"losses has no curve for leaf {path!r}; scan it, or give the leaf a sparsity of its "
            f"own by a Rule. It has curves for {sorted(curves)[:8]}."
        )
    points: dict[int, Fraction] = {}
    for sparsity, loss in curves[path].items():
        kept = round(units * (1 - sparsity))
        points[kept] = min(loss, points.get(kept, loss))
    return sorted(points.items())


def _hull(points):
    """The points of the lower convex hull."""
    hull: list[tuple[int, Fraction]] = []
    for point in points:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _slope(a, b):
    return (b[1] - a[1]) / (b[0] - a[0])


def _slopes(hull):
    """(loss per unit, from, to) of each piece."""
    return [(_slope(a, b), a[0], b[0]) for a, b in itertools.pairwise(hull)]


def _range(path, leaf, hull, curve):
    """The fewest and the most units that both the scan and the bounds of a leaf allow."""
    low, high = max(hull[0][0], leaf.min_keep), min(hull[-1][0], leaf.max_keep)
    if low > high:
        raise ValueError(
            f"losses[{path!r}] were scanned at sparsities from {min(curve):g} to {max(curve):g}, "
            f"where the leaf keeps {hull[0][0]} to {hull[-1][0]} of {leaf.units} units, but its "
            f"bounds are {leaf.min_keep} to {leaf.max_keep}; scan where the bounds allow."
        )
    return low, high


def _check_scanned(leaves, sparsity, target, ranges):
    low, high = (sum(ends) for ends in zip(*ranges.values(), strict=True)) if ranges else (0, 0)
    if low <= target <= high:
        return
    total = sum(leaf.units for leaf in leaves.values())
    raise ValueError(
        f"sparsity={sparsity} keeps {target} of {total} units, but what was scanned, within the "
        f"bounds, keeps {low} to {high}: a sparsity from {1 - high / total:.15g} to "
        f"{1 - low / total:.15g}. Choose one in it, or scan leaves at "
        f"{'higher' if target < low else 'lower'} sparsities"
        f"{'' if target < low else ', down to 0.0, the dense model'}."
    )
