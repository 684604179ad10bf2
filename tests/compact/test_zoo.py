"""The networks that structured pruning is tested with are networks: they run, and they learn."""

import functools

import cut_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import AWKWARD, CASES, traced

EVERY = [*CASES, *AWKWARD]


@functools.cache
def ran(case):
    """Its answers, and the gradient of their sum of squares by its numbers, by path.

    Where no gradient goes back, the derivative along the params stands in its place.
    """
    apply, params, args = made(case)
    if case.name not in oracle.FORWARD:
        return jax.device_get(program(case)(params, args))

    def loss(params):
        answers = jax.tree.leaves(apply(params, *args))
        return sum(jnp.square(answer).sum() for answer in answers), answers

    _, slope, answers = jax.jit(lambda p: jax.jvp(loss, (p,), (p,), has_aux=True))(params)
    return jax.device_get((answers, {"": slope}))


@functools.cache
def made(case):
    """As `traced` has it, of which one network is refused."""
    return case.make(jax.random.key(3))


def program(case):
    """The one that other files use, where it derives by all numbers: it may be compiled."""
    apply, params, _ = made(case)
    numbers = frozenset(
        path for path, x in oracle.leaves(params).items() if np.issubdtype(x.dtype, np.inexact)
    )
    if case.name != "raw complex parameters":
        groups, _, _ = traced(case)
        if oracle.weights_of(groups) == numbers:
            return oracle.whole_program(groups)
    return oracle.program(apply, numbers, True)


every_case = pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)


def test_names_are_unique():
    assert len({case.name for case in EVERY}) == len(EVERY)


@every_case
def test_parameters_are_random_and_nonzero(case):
    for leaf in map(np.asarray, jax.tree.leaves(made(case)[1])):
        if np.issubdtype(leaf.dtype, np.inexact):
            assert leaf.all()
            assert leaf.size == 1 or len(np.unique(leaf)) > 1


@every_case
def test_it_answers_in_finite_floats(case):
    apply, params, args = made(case)
    shapes = jax.tree.leaves(jax.eval_shape(apply, params, *args))
    for shape, answer in zip(shapes, ran(case)[0], strict=True):
        assert (shape.shape, shape.dtype) == (answer.shape, answer.dtype)
        assert np.issubdtype(answer.dtype, np.floating)
        assert np.isfinite(answer).all()


@every_case
def test_examples_of_a_batch_get_different_answers(case):
    answer = ran(case)[0][0]
    assert not np.allclose(answer[0], answer[1])


@every_case
def test_it_has_a_gradient(case):
    gradient = ran(case)[1].values()
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert any(np.any(leaf) for leaf in gradient)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_parameter_of_an_ordinary_network_matters(case):
    """But a bias of keys, which softmax takes out, and statistics that the batch's replace."""
    idle = {path for path, leaf in ran(case)[1].items() if not np.any(leaf)}
    unread = "batch_stats" if case.name == "linen batch norm of the batch" else "key/bias"
    assert all(unread in path for path in idle)
