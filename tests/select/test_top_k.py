"""The k highest scores of one array, against a stable sort."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from select_oracle import DTYPES, special_bits, top_k, top_k_rows

from jaxprune import select

pytestmark = pytest.mark.as_users

# Few shapes: each is one compilation.
SHAPES = [(), (1,), (0,), (257,), (3, 0, 5), (33, 5), (1, 3, 47), (2, 3, 5, 7)]

jitted = jax.jit(select.top_k_mask)


@functools.cache
def jitted_along(axis):
    return jax.jit(functools.partial(select.top_k_mask, axis=axis))


@st.composite
def scores(draw, dtype, shape):
    """Ties of special values, small integers with ties, or arbitrary bit patterns."""
    kind, unsigned, _ = DTYPES[dtype]
    grid = st.integers(-2, 2).map(lambda i: int(np.array(i, kind).view(unsigned)))
    elements = draw(
        st.sampled_from(
            [st.sampled_from(special_bits(dtype)), grid, hnp.from_dtype(np.dtype(unsigned))]
        )
    )
    return draw(hnp.arrays(unsigned, shape, elements=elements)).view(kind)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_any_scores(dtype, shape, data):
    size = math.prod(shape)
    array = data.draw(scores(dtype, shape))
    k = data.draw(st.integers(-1, size + 1) | st.sampled_from([0, size]))
    mask = jitted(put(array), k)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, top_k([array], k)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_k_of_special_values(dtype):
    kind, unsigned, _ = DTYPES[dtype]
    bits = np.array(special_bits(dtype) * 3, unsigned)
    array = np.random.default_rng(0).permutation(bits).view(kind)
    for k in range(array.size + 1):
        np.testing.assert_array_equal(jitted(array, k), top_k([array], k)[0], err_msg=f"k={k}")


@pytest.mark.parametrize("shape", [(), (0, 3), (33, 5)], ids=str)
def test_eager_is_jit(shape):
    array = np.round(np.random.default_rng(0).normal(size=shape) * 3).astype(np.float32)
    for k in {0, array.size // 2, array.size}:
        np.testing.assert_array_equal(select.top_k_mask(array, k), jitted(array, k))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_lowest_and_zeros_are_equal(dtype):
    array = jnp.array([-0.0, jnp.nan, 0.0, -jnp.inf, -0.0], dtype)
    expected = [
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 1, 0, 1],
        [1, 0, 1, 1, 1],
        [1, 1, 1, 1, 1],
    ]
    for k, row in enumerate(expected):
        assert jitted(array, k).tolist() == [bool(x) for x in row]


@pytest.mark.parametrize("k", [-(2**40), -5, 0, 7, 2**31 - 1, 2**31, 2**40])
def test_k_is_clipped(k):
    assert int(select.top_k_mask(jnp.arange(7.0), k).sum()) == min(max(k, 0), 7)


@pytest.mark.parametrize("k", [np.int8(3), np.int64(3), jnp.uint8(3), jnp.int32(3)], ids=repr)
def test_integers_of_any_kind(k):
    mask = jitted(jnp.array([5.0, 1.0, 3.0, 4.0, 2.0]), k)
    assert mask.tolist() == [True, False, True, True, False]


# --- slices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@given(data=st.data())
def test_each_slice_by_itself(axis, data):
    array = data.draw(scores("float32", (4, 9, 6)))
    k = data.draw(st.integers(0, array.shape[axis]))
    np.testing.assert_array_equal(jitted_along(axis)(array, k), top_k_rows(array, k, axis))


@pytest.mark.parametrize(("shape", "axis"), [((0, 5), 1), ((5, 0), 1), ((5, 0), 0), ((7,), 0)])
def test_slices_of_little(shape, axis):
    mask = jitted_along(axis)(jnp.ones(shape), 2)
    assert mask.shape == shape
    np.testing.assert_array_equal(mask, np.indices(shape)[axis] < 2)


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64", "uint8"])
def test_scores_are_floats(dtype):
    with pytest.raises(TypeError, match=f"{dtype}.*Cast the scores to float32"):
        select.top_k_mask(jnp.ones(3, dtype), 1)


@pytest.mark.parametrize(
    "k", [1.0, True, np.bool_(True), np.float32(1), np.array([1]), np.array([[1, 2]])], ids=repr
)
def test_k_is_an_integer_scalar(k):
    with pytest.raises(TypeError, match=r"k must be an integer, not \w+\["):
        select.top_k_mask(jnp.ones(3), k)


def test_a_traced_float_k_is_refused():
    with pytest.raises(TypeError, match="k must be an integer, not float32"):
        jitted(jnp.ones(3), 1.0)


@pytest.mark.parametrize("axis", [1, -2, 5])
def test_axis_exists(axis):
    with pytest.raises(ValueError, match=f"axis {axis}"):
        select.top_k_mask(jnp.ones(3), 1, axis=axis)
