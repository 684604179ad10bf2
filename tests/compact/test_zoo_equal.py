"""Every network of the zoo, cut at random: it computes what the masked one does."""

import cut_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import AWKWARD, CASES, traced

from jaxprune import compact

EVERY = [case for case in [*CASES, *AWKWARD] if case.name != "raw complex parameters"]
NAMED = {case.name: case for case in EVERY}


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_cut_is_masked(case):
    """Results, the gradient of each weight, and each array that was cut."""
    groups, params, args = traced(case)
    plan = oracle.some(groups, case.name)
    errors = oracle.errors(plan, params, args, case.name not in oracle.FORWARD)
    assert max(errors) < 1e-5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_ordinary_network_has_groups_that_lose_weights(case):
    groups, _, _ = traced(case)
    assert any(not group.flags for group in groups)
    plan = oracle.some(groups, case.name)
    before, after = plan.parameters
    assert after < before


SMALL = ["raw split paths", "raw decoder grouped by reshape", "raw kronecker", "raw cnn"]


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=5)
@given(st.integers(0, 2**31))
def test_any_units_of_any_groups(name, seed):
    """Also groups that stay whole, and widths of one."""
    groups, params, args = traced(NAMED[name])
    rng = np.random.default_rng(seed)
    kept = {}
    for group in groups:
        if not group.flags and rng.random() < 0.7:
            width = rng.integers(1, group.size + 1)
            kept[group.name] = rng.permutation(group.size) < width
    assert max(oracle.errors(compact.Plan(groups, kept), params, args)) < 1e-5
