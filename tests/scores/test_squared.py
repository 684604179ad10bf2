"""Squares rank units by their L2 norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import Channel, masks, scores


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_squared(dtype):
    w = jnp.array([[1.5, -2.0], [1e-6, jnp.inf]], dtype)
    for call in (scores.squared, jax.jit(scores.squared)):
        score = call(w)
        assert score.dtype == jnp.float32
        np.testing.assert_allclose(score, np.asarray(w, np.float64) ** 2, rtol=1e-6)
    assert np.isnan(scores.squared(jnp.array(jnp.nan)))


def test_l1_and_l2_norms_of_channels():
    """(3, 3) has the larger L1 norm, (5, 0) the larger L2 norm."""
    w = {"kernel": np.array([[3.0, 5.0], [3.0, 0.0]], np.float16)}
    l1 = masks.make(w, 0.5, pattern=Channel(), score=scores.magnitude)["kernel"]
    l2 = masks.make(w, 0.5, pattern=Channel(), score=scores.squared)["kernel"]
    np.testing.assert_array_equal(l1, [[True, False]] * 2)
    np.testing.assert_array_equal(l2, [[False, True]] * 2)
