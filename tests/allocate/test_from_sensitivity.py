"""Allocations from a scan against every allocation that there is."""

import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprune import masks
from jaxprune.allocate import Leaf, from_sensitivity


def convexified(points, x):
    """The convex hull at x: the lowest chord of any two points on either side of it."""
    values = [y for a, y in points if a == x]
    for (a, low), (b, high) in itertools.permutations(points, 2):
        if a < x < b:
            values.append(low + Fraction(x - a, b - a) * (high - low))
    return min(values)


def best(leaves, losses, sparsity):
    """The least sum of losses of all counts that are within bounds and scans; None if none is."""
    target = round(sum(leaf.units for leaf in leaves.values()) * (1 - sparsity))
    points, ranges = {}, []
    for path, leaf in leaves.items():
        points[path] = [
            (round(leaf.units * (1 - s)), Fraction(str(y))) for s, y in losses[path].items()
        ]
        kept = [a for a, _ in points[path]]
        most = leaf.units if leaf.max_keep is None else leaf.max_keep
        ranges.append(range(max(min(kept), leaf.min_keep), min(max(kept), most) + 1))
    sums = [
        sum(convexified(points[path], x) for path, x in zip(leaves, kept, strict=True))
        for kept in itertools.product(*ranges)
        if sum(kept) == target
    ]
    return points, min(sums, default=None)


@st.composite
def scans(draw):
    """Up to three small leaves with bounds, scanned here and there, convex or not."""
    leaves, losses = {}, {}
    for i in range(draw(st.integers(1, 3))):
        units = draw(st.integers(1, 8))
        low = draw(st.sampled_from([0, 0, 1]))
        high = draw(st.none() | st.integers(low, units))
        leaves[f"l{i}"] = Leaf((units,), units, low, high)
        sparsities = draw(st.lists(st.integers(0, 19), min_size=1, max_size=5, unique=True))
        losses[f"l{i}"] = {s / 20: draw(st.integers(-20, 20)) / 4 for s in sparsities}
    return leaves, losses, draw(st.integers(0, 19)) / 20


@given(scans())
def test_no_allocation_is_better(case):
    leaves, losses, sparsity = case
    points, least = best(leaves, losses, sparsity)
    if least is None:
        with pytest.raises(ValueError, match=r"scan|bounds"):
            from_sensitivity(losses)(leaves, sparsity)
        return
    kept = from_sensitivity(losses)(leaves, sparsity)
    total = sum(leaf.units for leaf in leaves.values())
    assert sum(kept.values()) == round(total * (1 - sparsity))
    assert all(type(k) is int for k in kept.values())
    assert sum(convexified(points[path], kept[path]) for path in leaves) == least


def test_by_hand():
    leaves = {"a": Leaf((10, 10), 100), "b": Leaf((5, 10), 50)}
    losses = {
        # per unit: 0.02 from 20 to 60, 0.005 from 60 to 100
        "a": {0.0: 1.0, 0.4: 1.2, 0.8: 2.0},
        # 0.04 from 5 to 25, 0.01 from 25 to 50: the point at 0.3 lies above
        "b": {0.0: 1.0, 0.3: 1.9, 0.5: 1.25, 0.9: 2.05},
    }
    allocation = from_sensitivity(losses)
    assert allocation(leaves, 0.0) == {"a": 100, "b": 50}
    assert allocation(leaves, 0.2) == {"a": 70, "b": 50}
    assert allocation(leaves, 0.4) == {"a": 60, "b": 30}
    assert allocation(leaves, 0.5) == {"a": 50, "b": 25}
    assert allocation(leaves, 0.8) == {"a": 20, "b": 10}


def test_a_loss_that_falls_with_sparsity_prunes_further():
    leaves = {"a": Leaf((10,), 10), "b": Leaf((10,), 10)}
    losses = {"a": {0.0: 1.0, 0.5: 0.9}, "b": {0.0: 1.0, 0.5: 1.0}}
    assert from_sensitivity(losses)(leaves, 0.25) == {"a": 5, "b": 10}
    assert from_sensitivity(losses)(leaves, 0.0) == {"a": 10, "b": 10}


def test_equally_steep_pieces_go_to_the_earlier_leaf():
    leaves = {"b": Leaf((10,), 10), "a": Leaf((10,), 10)}
    losses = {path: {0.0: 0.0, 0.9: 0.9} for path in ("a", "b")}
    assert from_sensitivity(losses)(leaves, 0.5) == {"b": 9, "a": 1}


def test_scans_that_round_to_one_count_take_the_lowest_loss():
    leaves = {"a": Leaf((2,), 2), "b": Leaf((2,), 2)}
    # both round to 1 kept; at 0 it is 0
    losses = {"a": {0.0: 0.0, 0.4: 9.0, 0.5: 1.0}, "b": {0.0: 0.0, 0.5: 2.0}}
    assert from_sensitivity(losses)(leaves, 0.25) == {"a": 1, "b": 2}


def test_float32_losses_and_leaves_without_units():
    leaves = {"a": Leaf((10,), 10), "b": Leaf((10,), 10), "none": Leaf((0,), 0)}
    losses = {
        "a": {0.0: np.float32(0.1), 0.5: np.float32(0.2)},
        "b": {np.float32(0.0): np.float32(0.1), np.float32(0.5): np.float32(0.3)},
        "head": {0.1: 3.0},
    }
    assert from_sensitivity(losses)(leaves, 0.25) == {"a": 5, "b": 10, "none": 0}


def test_masks_from_a_scan():
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(8, 8)), "b": rng.normal(size=(8, 8))}
    losses = {"a": {0.0: 0.0, 0.75: 3.0}, "b": {0.0: 0.0, 0.75: 1.0}}
    made = masks.make(params, 0.5, allocate=from_sensitivity(losses))
    assert [int(mask.sum()) for mask in made.values()] == [48, 16]


LEAVES = {"a": Leaf((10,), 10), "x/y": Leaf((10,), 10, min_keep=4, max_keep=9)}
SCANNED = {"a": {0.0: 1.0, 0.5: 2.0}, "x/y": {0.2: 1.0, 0.5: 2.0}}


@pytest.mark.parametrize(
    ("losses", "sparsity", "error", "message"),
    [
        (
            SCANNED,
            0.6,
            ValueError,
            "sparsity=0.6 keeps 8 of 20 units, but what was scanned, within the bounds, keeps 10 "
            "to 18: a sparsity from 0.1 to 0.5. Choose one in it, or scan leaves at higher "
            "sparsities.",
        ),
        (
            SCANNED,
            0.05,
            ValueError,
            "keeps 10 to 18: a sparsity from 0.1 to 0.5. Choose one in it, or scan leaves at lower "
            "sparsities, down to 0.0, the dense model.",
        ),
        (SCANNED, 0.85, ValueError, "the bounds of the leaves allow 4 to 19"),
        (
            {**SCANNED, "x/y": {0.7: 1.0, 0.9: 2.0}},
            0.5,
            ValueError,
            "losses['x/y'] were scanned at sparsities from 0.7 to 0.9, where the leaf keeps 1 to 3 "
            "of 10 units, but its bounds are 4 to 9; scan where the bounds allow.",
        ),
        (
            {"a": SCANNED["a"]},
            0.5,
            ValueError,
            "losses has no curve for leaf 'x/y'; scan it, or give the leaf a sparsity of its own "
            "by a Rule. It has curves for ['a'].",
        ),
        ({"a": {}}, 0.5, ValueError, "losses['a'] is empty"),
        ({"a": 0.5}, 0.5, TypeError, "losses['a']=0.5 is not a mapping"),
        ({"a": {1.0: 1.0}}, 0.5, ValueError, "sparsity=1.0 for losses['a'] must be a fraction"),
        ({"a": {"0": 1.0}}, 0.5, TypeError, "sparsity='0' for losses['a'] is not a number"),
        ({"a": {0.0: math.nan}}, 0.5, TypeError, "losses['a'][0.0]=nan is not a finite number"),
        ({"a": {0.5: math.inf}}, 0.5, TypeError, "losses['a'][0.5]=inf is not a finite number"),
    ],
)
def test_errors(losses, sparsity, error, message):
    with pytest.raises(error, match=re.escape(message)):
        from_sensitivity(losses)(LEAVES, sparsity)
