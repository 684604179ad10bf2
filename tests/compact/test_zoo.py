"""The networks that structured pruning is tested with are networks: they run, and they learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import AWKWARD, CASES

FORWARD = {"raw while loop"}  # no gradient goes back through it
EVERY = [*CASES, *AWKWARD]


@functools.cache
def made(case):
    return case.make(jax.random.key(7))


@functools.cache
def ran(case):
    """What it traces to, its answers, and the gradient of their sum of squares, by path."""
    apply, params, args = made(case)

    def loss(params):
        answers = jax.tree.leaves(apply(params, *args))
        return sum(jnp.square(answer).sum() for answer in answers), answers

    def both(params):
        if case.name in FORWARD:
            _, slope, answers = jax.jvp(loss, (params,), (params,), has_aux=True)
            return answers, slope
        grads, answers = jax.grad(loss, has_aux=True, allow_int=True)(params)
        return answers, jax.tree.map(lambda g: None if g.dtype == jax.dtypes.float0 else g, grads)

    answers, gradient = jax.jit(both)(params)
    gradient = jax.tree_util.tree_leaves_with_path(gradient)
    return (
        jax.make_jaxpr(apply)(params, *args),
        [np.asarray(answer) for answer in answers],
        {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in gradient},
    )


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
    traced, answers, _ = ran(case)
    for aval, answer in zip(traced.out_avals, answers, strict=True):
        assert (aval.shape, aval.dtype) == (answer.shape, answer.dtype)
        assert np.issubdtype(answer.dtype, np.floating)
        assert np.isfinite(answer).all()


@every_case
def test_examples_of_a_batch_get_different_answers(case):
    answer = ran(case)[1][0]
    assert not np.allclose(answer[0], answer[1])


@every_case
def test_it_has_a_gradient(case):
    gradient = ran(case)[2].values()
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert any(np.any(leaf) for leaf in gradient)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_parameter_of_an_ordinary_network_matters(case):
    """But a bias of keys, which softmax takes out, and statistics that the batch's replace."""
    idle = {path for path, leaf in ran(case)[2].items() if not np.any(leaf)}
    unread = "batch_stats" if case.name == "linen batch norm of the batch" else "['key']['bias']"
    assert all(unread in path for path in idle)
