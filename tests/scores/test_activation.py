"""Statistics of activations against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put

from jaxprune import scores

X = np.maximum(np.random.default_rng(0).normal(size=(4, 5, 3)) - [0.0, 0.5, 9.0], 0)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_statistics_against_float64(axis, dtype):
    x = put(X, dtype)
    wide = np.moveaxis(np.asarray(x, np.float64), axis, -1).reshape(-1, x.shape[axis])
    mean, active = scores.mean_activation(x, axis), scores.fraction_active(x, axis)
    assert mean.dtype == active.dtype == jnp.float32
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(active, (wide != 0).mean(0, dtype=np.float64).astype(np.float32))


def test_a_channel_that_is_never_active_is_lowest():
    assert scores.fraction_active(X)[2] == scores.mean_activation(X)[2] == 0
    assert scores.mean_activation(-X)[0] == scores.mean_activation(X)[0] > 0


def test_a_nan_activation():
    x = jnp.asarray(X).at[0, 0, 1].set(jnp.nan)
    for statistic in (scores.mean_activation, scores.fraction_active):
        np.testing.assert_array_equal(np.isnan(statistic(x)), [False, True, False])


@pytest.mark.parametrize("statistic", [scores.mean_activation, scores.fraction_active])
@pytest.mark.parametrize(
    ("x", "axis", "error", "message"),
    [
        (None, -1, TypeError, "x=None is not a float array"),
        (np.ones((2, 3), int), -1, TypeError, r"x=[^;]* is not a float array; give the outputs"),
        (np.ones((0, 3)), -1, ValueError, r"x of shape \(0, 3\) holds no activations"),
        (np.ones((2, 3)), 2, ValueError, r"axis=2 names no axis of x, of shape \(2, 3\)"),
    ],
)
def test_no_activations(statistic, x, axis, error, message):
    with pytest.raises(error, match=f"{statistic.__name__}: {message}"):
        statistic(x, axis)


def test_more_activations_than_an_int32_counts():
    x = jax.ShapeDtypeStruct((2**16, 2**15, 4), jnp.bfloat16)
    with pytest.raises(ValueError, match="2147483648 activations of each channel"):
        jax.eval_shape(scores.fraction_active, x)
