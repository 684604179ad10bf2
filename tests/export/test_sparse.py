"""Sparse arrays of JAX, against the dense product."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from draws import put

from jaxprune import export


def case(shape=(12, 9), dtype=np.float32):
    rng = np.random.default_rng(0)
    w = rng.integers(-9, 9, shape).astype(dtype)
    return w, rng.random(shape) < 0.3


@pytest.mark.parametrize("make", [export.to_bcoo, export.to_bcsr])
def test_products_are_those_of_the_masked_matrix(make):
    w, mask = case()
    x = np.arange(18, dtype=np.float32).reshape(9, 2)
    masked = np.where(mask, w, np.float32(0))
    for sparse, nse in [
        (make(w, mask), mask.sum()),
        (make(masked), np.count_nonzero(masked)),
    ]:
        assert (sparse.nse, sparse.shape) == (nse, w.shape)
        np.testing.assert_array_equal(sparse.todense(), masked)
        expected = masked.astype(np.float64) @ x.astype(np.float64)
        np.testing.assert_array_equal(sparse @ put(x), expected)  # of small integers


@pytest.mark.parametrize("make", [export.to_bcoo, export.to_bcsr])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int8])
def test_dtypes_are_kept(make, dtype):
    w, mask = case(dtype=dtype)
    sparse = make(w, mask)
    assert sparse.dtype == dtype
    np.testing.assert_array_equal(sparse.todense(), np.where(mask, w, dtype(0)))


@pytest.mark.parametrize("make", [export.to_bcoo, export.to_bcsr])
def test_nothing_kept(make):
    sparse = make(jnp.zeros((3, 2)))
    np.testing.assert_array_equal(sparse @ jnp.ones((2, 4)), np.zeros((3, 4)))


def test_kernels_of_convolutions_and_negative_zeros():
    w, mask = case((3, 3, 4, 5))
    np.testing.assert_array_equal(export.to_bcoo(w, mask).todense(), np.where(mask, w, 0))
    assert export.to_bcoo(np.array([0.0, -0.0], np.float32)).nse == 1


def test_errors():
    w, mask = case()
    for make in (export.to_bcoo, export.to_bcsr):
        with pytest.raises(TypeError, match="mask is float32"):
            make(w, mask.astype(np.float32))
        with pytest.raises(ValueError, match=r"mask has the shape \(9, 12\), w \(12, 9\)"):
            make(w, mask.T)
        with pytest.raises(ValueError, match=r"w has the shape \(\)"):
            make(np.float32(1))
    with pytest.raises(ValueError, match="give a matrix"):
        export.to_bcsr(np.ones((2, 2, 2)))
