"""The n highest of every m, against a stable sort of each group."""

import jax.numpy as jnp
import numpy as np
import pytest
from draws import put

from jaxprune import select

VALUES = np.array([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan], np.float32)


def expected(scores, n, m, axis):
    """By a loop over groups; NaN sorts last."""
    rows = np.moveaxis(scores.astype(np.float64), axis, -1)
    order = np.argsort(-rows.reshape(-1, m), axis=1, kind="stable")
    mask = np.zeros(order.shape, bool)
    np.put_along_axis(mask, order[:, :n], True, axis=1)
    return np.moveaxis(mask.reshape(rows.shape), -1, axis)


@pytest.mark.parametrize(
    ("n", "m", "axis"),
    [(0, 4, -1), (1, 1, 0), (1, 2, 1), (2, 4, -1), (2, 4, -3), (3, 4, 1), (4, 4, 0)],
)
def test_ties_and_axes(n, m, axis):
    scores = np.random.default_rng(0).choice(VALUES, (4, 8, 12))
    mask = select.top_n_of_m(put(scores), n, m, axis=axis)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, expected(scores, n, m, axis))


@pytest.mark.parametrize("axis", [2, -3, 5])
def test_an_axis_that_there_is_not(axis):
    with pytest.raises(ValueError, match=f"axis={axis} of scores with 2 axes"):
        select.top_n_of_m(jnp.ones((4, 8)), 2, 4, axis=axis)


def test_a_scalar_has_no_axis():
    with pytest.raises(ValueError, match="axis=-1 of scores with 0 axes"):
        select.top_n_of_m(jnp.float32(1), 1, 1)


@pytest.mark.parametrize(("n", "m"), [(5, 4), (-1, 4), (0, 0), (1, 0), (1, -2)])
def test_no_n_of_m(n, m):
    with pytest.raises(ValueError, match=f"n={n}, m={m}: keep n of every m"):
        select.top_n_of_m(jnp.ones((4, 8)), n, m)


@pytest.mark.parametrize(("m", "axis", "message"), [(3, -1, "axis 1"), (8, 0, "axis 0")])
def test_an_axis_that_m_does_not_divide(m, axis, message):
    with pytest.raises(ValueError, match=rf"m={m} does not divide {message} of shape \(4, 8\)"):
        select.top_n_of_m(jnp.ones((4, 8)), 1, m, axis=axis)


def test_scores_are_floats():
    with pytest.raises(TypeError, match="scores has dtype int32"):
        select.top_n_of_m(jnp.ones((4, 8), jnp.int32), 1, 4)


SCORES = put(np.random.default_rng(0).normal(size=(8, 6)), jnp.float32)


@pytest.mark.parametrize(("argument", "value"), [("n", 2.0), ("m", "4"), ("axis", None)])
def test_numbers_of_n_of_m_are_whole(argument, value):
    numbers = {"n": 2, "m": 4, "axis": 0} | {argument: value}
    with pytest.raises(TypeError, match=f"{argument}={value!r} must be a whole number"):
        select.top_n_of_m(SCORES, **numbers)


def test_n_may_be_an_array_that_is_known():
    found = select.top_n_of_m(SCORES, jnp.int32(2), np.int64(4), axis=0)
    np.testing.assert_array_equal(found, select.top_n_of_m(SCORES, 2, 4, axis=0))
