"""Means of units against float64, and in any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from hypothesis import given
from hypothesis import strategies as st

from jaxprune.patterns._pool import mean


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((64, 32), (0,)), ((3, 3, 8, 16), (0, 1, 2)), ((7,), (0,)), ((8, 5), ()), ((1, 9), (1,))],
)
@pytest.mark.parametrize("scale", [1, 2.0**-100, 2.0**60, 3e38])
def test_against_float64(shape, axes, scale):
    rng = np.random.default_rng(0)
    scores = (rng.uniform(-1, 1, shape) * scale).astype(np.float32)
    expected = scores.astype(np.float64).mean(axes)
    got = np.asarray(mean(put(scores), axes))
    np.testing.assert_allclose(got, expected, rtol=0, atol=2.0**-23 * np.abs(scores).max())


@pytest.mark.parametrize(("shape", "axes"), [((1 << 20, 2), (0,)), ((2, 1 << 13, 1 << 12), (1, 2))])
def test_very_many_scores_of_which_one_is_large(shape, axes):
    scores = np.random.default_rng(0).normal(size=shape).astype(np.float32) ** 2
    scores.flat[0] = 100.0**2
    got = np.asarray(mean(put(scores), axes))
    np.testing.assert_allclose(got, scores.mean(axes, dtype=np.float64), rtol=2e-5)


def test_more_scores_than_an_int32_counts():
    scores = jax.ShapeDtypeStruct((8, 2**16, 2**15), jnp.bfloat16)
    assert jax.eval_shape(lambda x: mean(x, (1, 2)), scores).shape == (8,)


@given(st.integers(0, 2**32 - 1))
def test_the_order_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    scores = (rng.normal(size=(37, 4)) * 2.0 ** rng.integers(-20, 20, (37, 4))).astype(np.float32)
    same = mean(put(rng.permutation(scores)), (0,))
    np.testing.assert_array_equal(mean(put(scores), (0,)), same)


def test_what_is_not_finite():
    inf, nan = np.inf, np.nan
    rows = [[1, nan, 2], [inf, 1, 2], [inf, -inf, 1], [-inf, 1, 2], [0, 0, 0], [-0.0, 0, -0.0]]
    got = mean(jnp.array(rows, jnp.float32), (1,))
    np.testing.assert_array_equal(got, [nan, inf, nan, -inf, 0, 0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_short_floats_are_averaged_in_float32(dtype):
    scores = jnp.array([[1, 256], [1, 1]], dtype)
    got = mean(scores, (0,))
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, [1, 128.5])
