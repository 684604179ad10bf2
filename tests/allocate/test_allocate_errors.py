"""What an allocation does at the edges, and what it says when it cannot."""

import math

import jax
import numpy as np
import pytest
from allocate_cases import by_outliers, by_scan

from jaxprune.allocate import Leaf, erdos_renyi, erdos_renyi_kernel, uniform

SCALED = [erdos_renyi, erdos_renyi_kernel]
ALL = [uniform, *SCALED, by_outliers, by_scan]


def weights(*shapes):
    return {f"l{i}/kernel": Leaf(shape, math.prod(shape)) for i, shape in enumerate(shapes)}


@pytest.mark.parametrize("allocation", ALL)
def test_nothing_in_nothing_out(allocation):
    assert allocation({}, 0.5) == {}
    assert allocation({"a": Leaf((0, 3), 0), "b": Leaf((4, 2), 8)}, 0.5) == {"a": 0, "b": 4}
    assert allocation({"a": Leaf((0, 3), 0)}, 0.5) == {"a": 0}


@pytest.mark.parametrize("allocation", ALL)
def test_zero_sparsity_keeps_all(allocation):
    leaves = weights((3, 4), (7,), (), (2, 3, 4, 5))
    assert allocation(leaves, 0.0) == {path: leaf.units for path, leaf in leaves.items()}


@pytest.mark.parametrize("allocation", ALL)
def test_a_float32_sparsity_is_its_decimal(allocation):
    leaves = weights((1000, 1000), (1000, 1000))
    assert sum(allocation(leaves, np.float32(0.9)).values()) == 200_000


@pytest.mark.parametrize("allocation", ALL)
@pytest.mark.parametrize(
    ("bounds", "sparsity", "message"),
    [
        ({"min_keep": 30}, 0.9, "sparsity from 0 to 0.85.*min_keep=30 of leaf 'enc/kernel'"),
        ({"max_keep": 30}, 0.0, "sparsity from 0.35 to 1.*max_keep=30 of leaf 'enc/kernel'"),
    ],
)
def test_bounds_that_cannot_be_met(allocation, bounds, sparsity, message):
    leaves = {"a": Leaf((10, 10), 100), "enc/kernel": Leaf((10, 10), 100, **bounds)}
    with pytest.raises(ValueError, match=message):
        allocation(leaves, sparsity)


@pytest.mark.parametrize("allocation", ALL)
@pytest.mark.parametrize(
    ("leaf", "error", "message"),
    [
        (Leaf((2, 2), -1), ValueError, "units=-1 of leaf 'x/y' is negative"),
        (Leaf((2, 2), 4.0), TypeError, "units=4.0 of leaf 'x/y' is not a whole number"),
        (Leaf((2, -2), 4), ValueError, "shape=-2 of leaf 'x/y' is negative"),
        (Leaf((2, 2), 4, 3, 2), ValueError, "min_keep=3 and max_keep=2 of leaf 'x/y'"),
        (Leaf((2, 2), 4, 0, 5), ValueError, "max_keep=5 of leaf 'x/y' do not fit its 4"),
        (Leaf((2, 2), 4, 0.5), TypeError, "min_keep=0.5 of leaf 'x/y'"),
    ],
)
def test_leaves_that_contradict_themselves(allocation, leaf, error, message):
    with pytest.raises(error, match=message):
        allocation({"x/y": leaf}, 0.5)


@pytest.mark.parametrize("allocation", SCALED)
def test_units_in_an_empty_leaf(allocation):
    with pytest.raises(ValueError, match="units=3 of leaf 'a' do not fit its shape"):
        allocation({"a": Leaf((0, 4), 3)}, 0.5)


@pytest.mark.parametrize("allocation", ALL)
@pytest.mark.parametrize(
    ("sparsity", "error"),
    [(1.0, ValueError), (-0.1, ValueError), (90, ValueError), ("0.9", TypeError)],
)
def test_no_fraction(allocation, sparsity, error):
    with pytest.raises(error, match=r"sparsity="):
        allocation(weights((4, 4)), sparsity)


@pytest.mark.parametrize("allocation", ALL)
def test_a_traced_sparsity_is_refused(allocation):
    with pytest.raises(TypeError, match=r"sparsity=.* is traced.*uniform or scope=\"global\""):
        jax.jit(lambda s: allocation(weights((4, 4)), s))(0.5)


def test_leaf_is_what_a_custom_allocation_receives():
    assert Leaf((2, 3), 6) == ((2, 3), 6, 0, None)
