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
    """What it traces to, answers, and the gradient of the sum of squares."""
    apply, params, args = made(case)

    def loss(params):
        answers = jax.tree.leaves(apply(params, *args))
        return sum(jnp.square(answer).sum() for answer in answers), answers

    def both(params):
        if case.name in FORWARD:
            _, slope, answers = jax.jvp(loss, (params,), (params,), has_aux=True)
            return answers, slope
        grads, answers = jax.grad(loss, has_aux=True, allow_int=True)(params)
        floats = [g for g in jax.tree.leaves(grads) if g.dtype != jax.dtypes.float0]
        return answers, floats

    return jax.make_jaxpr(apply)(params, *args), *map(leaves, jax.jit(both)(params))


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


every_case = pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)


def test_names_are_unique():
    assert len({case.name for case in EVERY}) == len(EVERY)


@every_case
def test_parameters_are_random_and_nonzero(case):
    for leaf in leaves(made(case)[1]):
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
    gradient = ran(case)[2]
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert any(np.any(leaf) for leaf in gradient)
