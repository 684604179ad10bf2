"""Allocations against numbers worked out by hand, and against a solver that shares no code."""

import math
from fractions import Fraction

import numpy as np
import pytest
from allocate_cases import by_outliers, by_scan
from hypothesis import given
from hypothesis import strategies as st

from jaxprune.allocate import Leaf, erdos_renyi, erdos_renyi_kernel, uniform

SCALED = [erdos_renyi, erdos_renyi_kernel]
ALL = [uniform, *SCALED]
EXACT = [*SCALED, by_outliers, by_scan]  # their total is exact also without bounds


def weights(*shapes):
    return {f"l{i}/kernel": Leaf(shape, math.prod(shape)) for i, shape in enumerate(shapes)}


def raw_density(allocation, shape):
    shape = (1, 1, *shape)[-max(2, len(shape)) :]
    if allocation is erdos_renyi:
        return Fraction(shape[-2] + shape[-1], shape[-2] * shape[-1])
    return Fraction(sum(shape), math.prod(shape))


def resolved(leaves, sparsity, raw):
    """Densities by the published loop: what eps overfills is dense, and eps is solved again."""
    target = round(sum(leaf.units for leaf in leaves.values()) * (1 - sparsity))
    dense = set()
    while True:
        rest = target - sum(leaves[path].units for path in dense)
        shared = sum(raw[path] * leaves[path].units for path in leaves if path not in dense)
        eps = Fraction(rest, 1) / shared if shared else Fraction(0)
        over = {path for path in leaves if path not in dense and eps * raw[path] > 1}
        if not over:
            return {path: Fraction(1) if path in dense else eps * raw[path] for path in leaves}
        dense |= over


shapes = st.lists(
    st.lists(st.integers(1, 40), min_size=0, max_size=4).map(tuple), min_size=1, max_size=6
)
sparsities = st.floats(0, 1, exclude_max=True)


@st.composite
def bounded(draw):
    """Leaves with fewer units than weights, some empty, some bounded; and a feasible sparsity."""
    leaves = {}
    for i, shape in enumerate(draw(shapes)):
        units = draw(st.integers(0, math.prod(shape)))
        low = draw(st.integers(0, units))
        high = draw(st.none() | st.integers(low, units))
        leaves[f"l{i}"] = Leaf(shape, units, draw(st.sampled_from([0, low])), high)
    return leaves, draw(sparsities)


def reach(leaves, sparsity):
    total = sum(leaf.units for leaf in leaves.values())
    low = sum(leaf.min_keep for leaf in leaves.values())
    high = sum(leaf.units if leaf.max_keep is None else leaf.max_keep for leaf in leaves.values())
    return low, round(total * (1 - sparsity)), high


def within(leaves, kept):
    return all(
        leaf.min_keep <= kept[path] <= (leaf.units if leaf.max_keep is None else leaf.max_keep)
        for path, leaf in leaves.items()
    )


# --- closed forms -------------------------------------------------------------------------------


def test_erdos_renyi_by_hand():
    # eps * ((300 + 100) + (100 + 100)) = 40_000 * 0.1, and eps = 20 / 3
    kept = erdos_renyi(weights((300, 100), (100, 100)), 0.9)
    assert kept == {"l0/kernel": 2667, "l1/kernel": 1333}


def test_of_a_kernel_erdos_renyi_counts_two_axes_and_erk_all():
    leaves = weights((3, 3, 64, 128), (64, 128))
    # ER densities are equal: (64 + 128) / (64 * 128) each.
    assert erdos_renyi(leaves, 0.5) == {"l0/kernel": 36_864, "l1/kernel": 4096}
    # ERK: 198 eps + 192 eps = 8192 (10 %) would give the matrix 4033 of its 8192.
    assert erdos_renyi_kernel(leaves, 0.9) == {"l0/kernel": 4159, "l1/kernel": 4033}
    # ERK at 50 %: the matrix is dense, the kernel takes the rest of 40_960.
    assert erdos_renyi_kernel(leaves, 0.5) == {"l0/kernel": 32_768, "l1/kernel": 8192}


def test_lenet_300_100_is_as_published():
    """Of LeNet-300-100 at 90 % the output layer is dense; the others share the rest."""
    leaves = weights((784, 300), (300, 100), (100, 10))
    kept = erdos_renyi(leaves, 0.9)
    # T = 26_620, less 1000; over 1084 + 400 = 1484 parts.
    assert kept == {"l0/kernel": 18_714, "l1/kernel": 6906, "l2/kernel": 1000}


def test_vectors_count_as_one_row():
    leaves = weights((10,), (1, 10), ())
    for allocation in SCALED:
        # raw 11/10, 11/10, 2: the scalar is filled, the rows share the other 10
        assert list(allocation(leaves, 10 / 21).values()) == [5, 5, 1]


def test_of_two_axes_both_are_the_same():
    leaves = weights((30, 7), (5, 90), (64, 64), (11,))
    assert erdos_renyi(leaves, 0.83) == erdos_renyi_kernel(leaves, 0.83)


def test_blocks_pay_in_units():
    # Blocks of 4 x 4: densities, not numbers of weights, follow the formula.
    leaves = {"a": Leaf((64, 64), 256), "b": Leaf((64, 192), 768)}
    # raw 1/32, 1/48; slopes 8, 16
    assert erdos_renyi(leaves, 0.75) == {"a": 85, "b": 171}


def test_ties_of_remainders_go_to_the_earlier_leaf():
    leaves = weights((4, 4), (4, 4), (4, 4))
    assert list(erdos_renyi(leaves, 1 - 5 / 48).values()) == [2, 2, 1]
    assert list(erdos_renyi(leaves, 1 - 4 / 48).values()) == [2, 1, 1]


def test_a_bound_moves_the_others():
    leaves = {
        "a": Leaf((10, 10), 100),
        "b": Leaf((10, 10), 100, min_keep=40),
        "c": Leaf((10, 10), 100),
    }
    for allocation in ALL:
        assert allocation(leaves, 0.75) == {"a": 18, "b": 40, "c": 17}
    leaves["b"] = Leaf((10, 10), 100, max_keep=4)
    for allocation in ALL:
        assert allocation(leaves, 0.75) == {"a": 36, "b": 4, "c": 35}


# --- properties ---------------------------------------------------------------------------------


@given(shapes, sparsities)
def test_uniform_rounds_each_leaf(shapes, sparsity):
    leaves = weights(*shapes)
    kept = uniform(leaves, sparsity)
    assert kept == {path: round(leaf.units * (1 - sparsity)) for path, leaf in leaves.items()}
    loose = {path: leaf._replace(max_keep=leaf.units) for path, leaf in leaves.items()}
    assert uniform(loose, sparsity) == kept


@pytest.mark.parametrize("allocation", SCALED)
@given(shapes, sparsities)
def test_overfull_leaves_are_dense_and_the_rest_shares_eps(allocation, shapes, sparsity):
    leaves = weights(*shapes)
    density = resolved(
        leaves,
        sparsity,
        {path: raw_density(allocation, leaf.shape) for path, leaf in leaves.items()},
    )
    kept = allocation(leaves, sparsity)
    for path, leaf in leaves.items():
        assert abs(kept[path] - density[path] * leaf.units) < 1
        assert density[path] < 1 or kept[path] == leaf.units


@pytest.mark.parametrize("allocation", EXACT)
@given(bounded())
def test_totals_are_exact_within_bounds(allocation, case):
    leaves, sparsity = case
    low, target, high = reach(leaves, sparsity)
    if low <= target <= high:
        kept = allocation(leaves, sparsity)
        assert list(kept) == list(leaves)
        assert all(type(k) is int for k in kept.values())
        assert sum(kept.values()) == target
        assert within(leaves, kept)
    else:
        with pytest.raises(ValueError, match=f"keeps {target} of .* allow {low} to {high}"):
            allocation(leaves, sparsity)


@given(bounded())
def test_uniform_with_bounds(case):
    leaves, sparsity = case
    low, target, high = reach(leaves, sparsity)
    rounded = {path: round(leaf.units * (1 - sparsity)) for path, leaf in leaves.items()}
    if within(leaves, rounded):
        assert uniform(leaves, sparsity) == rounded
    elif low <= target <= high:
        kept = uniform(leaves, sparsity)
        assert sum(kept.values()) == target
        assert within(leaves, kept)
    else:
        with pytest.raises(ValueError, match=f"keeps {target} of"):
            uniform(leaves, sparsity)


@pytest.mark.parametrize("allocation", ALL)
@given(bounded())
def test_unclipped_densities_follow_the_raw_ones(allocation, case):
    leaves, sparsity = case
    low, target, high = reach(leaves, sparsity)
    if not low <= target <= high:
        return
    kept = allocation(leaves, sparsity)
    # Each count bounds eps from both sides; a leaf at a bound bounds it from one.
    least, most = Fraction(0), Fraction(10**9)
    for path, leaf in leaves.items():
        if leaf.units:
            raw = Fraction(1) if allocation is uniform else raw_density(allocation, leaf.shape)
            top = leaf.units if leaf.max_keep is None else leaf.max_keep
            if kept[path] > leaf.min_keep:
                least = max(least, (kept[path] - 1) / (raw * leaf.units))
            if kept[path] < top:
                most = min(most, (kept[path] + 1) / (raw * leaf.units))
    assert least < most


@pytest.mark.parametrize("allocation", [uniform, *EXACT])
@given(st.integers(1, 50), st.integers(1, 50), sparsities)
def test_one_leaf_gets_the_total(allocation, rows, columns, sparsity):
    leaves = weights((rows, columns))
    assert allocation(leaves, sparsity)["l0/kernel"] == round(rows * columns * (1 - sparsity))


# --- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", [uniform, *EXACT])
def test_sizes_past_int32_are_exact(allocation):
    leaves = weights((80, 8192, 28672), (80, 28672, 8192), (128_256, 8192), (8192,))
    total = sum(leaf.units for leaf in leaves.values())
    assert total > 2**34
    for sparsity in (0.0, 0.5, 0.9, 0.9999, 1e-9):
        kept = allocation(leaves, sparsity)
        if allocation is uniform:
            assert kept["l0/kernel"] == round(80 * 8192 * 28672 * (1 - sparsity))
        else:
            assert sum(kept.values()) == round(total * (1 - sparsity))


def test_totals_past_2_to_the_40():
    huge = {"a": Leaf((2**21, 2**20), 2**41, max_keep=2**41 - 1), "b": Leaf((3, 5), 15)}
    with pytest.raises(ValueError, match=f"keeps {2**41 + 15} of"):
        erdos_renyi(huge, 0.0)
    assert uniform(huge, 0.25) == {"a": 3 * 2**39, "b": 11}
    kept = erdos_renyi(huge, 0.25)
    assert kept == {"a": round((2**41 + 15) * 0.75) - 15, "b": 15}


def test_many_leaves():
    rng = np.random.default_rng(0)
    leaves = weights(*(tuple(map(int, rng.integers(1, 5000, 2))) for _ in range(300)))
    total = sum(leaf.units for leaf in leaves.values())
    assert sum(erdos_renyi(leaves, 0.9).values()) == round(total * (1 - 0.9))


def test_numpy_sizes_do_not_overflow():
    leaves = {"a": Leaf(np.array([2**31, 2**33]), np.int64(2**62)), "b": Leaf((2,), np.int32(2))}
    kept = erdos_renyi(leaves, 0.5)
    assert sum(kept.values()) == round((2**62 + 2) * 0.5)
    assert type(kept["b"]) is int
