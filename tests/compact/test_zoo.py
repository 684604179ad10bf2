"""The networks that structured pruning is tested with are networks: they run, and they learn."""

import cut_oracle as oracle
import jax
import numpy as np
import pytest
from zoo import AWKWARD, CASES, traced

EVERY = [case for case in [*CASES, *AWKWARD] if case.name != "raw complex parameters"]


def ran(case):
    """Its answers, and the gradient of their sum of squares by the weights, by path."""
    groups, params, args = traced(case)
    run = oracle.whole_program(groups, case.name not in oracle.FORWARD)
    return jax.device_get(run(params, args))


every_case = pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)


def test_names_are_unique():
    assert len({case.name for case in EVERY}) == len(EVERY)


@every_case
def test_parameters_are_random_and_nonzero(case):
    for leaf in map(np.asarray, jax.tree.leaves(traced(case)[1])):
        if np.issubdtype(leaf.dtype, np.inexact):
            assert leaf.all()
            assert leaf.size == 1 or len(np.unique(leaf)) > 1


@every_case
def test_it_answers_in_finite_floats(case):
    for answer in ran(case)[0]:
        assert np.issubdtype(answer.dtype, np.floating)
        assert np.isfinite(answer).all()


@every_case
def test_examples_of_a_batch_get_different_answers(case):
    answer = ran(case)[0][0]
    assert not np.allclose(answer[0], answer[1])


@pytest.mark.parametrize(
    "case", [c for c in EVERY if c.name not in oracle.FORWARD], ids=lambda case: case.name
)
def test_it_has_a_gradient(case):
    gradient = ran(case)[1].values()
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert any(np.any(leaf) for leaf in gradient)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_weight_of_an_ordinary_network_matters(case):
    """But a bias of keys, which softmax takes out."""
    idle = {path for path, leaf in ran(case)[1].items() if not np.any(leaf)}
    assert all("key/bias" in path for path in idle)
