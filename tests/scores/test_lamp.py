"""LAMP against its formula in float64, and its order against the order of magnitudes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprune import masks, scores

LAMP = jax.jit(scores.lamp)
SIZE = 300_000  # at which rounded sums alone put scores out of order, or make them equal


def by_magnitude(w):
    """Flat indices, the largest magnitude first, of equal ones the lowest index."""
    return np.argsort(-np.abs(np.asarray(w, np.float64)).ravel(), kind="stable")


def formula(w):
    order = by_magnitude(w)
    squares = np.square(np.asarray(w, np.float64).ravel()[order])
    expected = np.empty(squares.size)
    expected[order] = squares / np.cumsum(squares)
    return expected.reshape(np.shape(w))


def test_by_hand():
    # sums of squares from the largest on: 16, 25, 29, 30
    w = jnp.array([[1.0, -4.0], [3.0, -2.0]])
    expected = np.float32([[1 / 30, 1], [9 / 25, 4 / 29]])
    for call in (scores.lamp, LAMP):
        np.testing.assert_allclose(call(w), expected, rtol=3e-7)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((), "float32"),
        ((0, 3), "float32"),
        ((7,), "bfloat16"),
        ((3, 4, 5), "float16"),
        ((4, 5), "float8_e4m3fn"),
    ],
)
def test_of_any_dtype_and_shape(shape, dtype):
    rng = np.random.default_rng(0)
    w = put(rng.normal(size=shape), dtype)
    score = LAMP(w)
    assert score.dtype == jnp.float32
    assert score.shape == shape
    np.testing.assert_allclose(score, formula(w.astype(jnp.float32)), rtol=1e-6)


def test_of_equal_weights_the_earlier_is_the_larger():
    w = jnp.array([[1.0, -1.0], [2.0, 1.0]])
    np.testing.assert_allclose(LAMP(w), np.float32([[1 / 5, 1 / 6], [1, 1 / 7]]), rtol=3e-7)


def test_zeros_score_zero():
    np.testing.assert_array_equal(LAMP(jnp.array([[0.0, 2.0], [-0.0, 0.0]])), [[0, 1], [0, 0]])
    np.testing.assert_array_equal(LAMP(jnp.zeros((2, 3))), np.zeros((2, 3)))


def test_what_is_not_finite_leaves_the_others_alone():
    w = np.array([[jnp.nan, 3.0], [-jnp.inf, 4.0]], np.float32)
    np.testing.assert_allclose(LAMP(w), np.float32([[np.nan, 9 / 25], [np.inf, 1]]), rtol=3e-7)
    np.testing.assert_array_equal(LAMP(-w), LAMP(w))  # also a NaN with a sign
    with_zero = np.array([[np.inf, 0.0], [np.nan, np.inf]], np.float32)
    np.testing.assert_array_equal(LAMP(with_zero), [[np.inf, 0], [np.nan, np.inf]])


@pytest.mark.parametrize("exponent", [-126, -80, 60, 127])
def test_squares_neither_overflow_nor_vanish(exponent):
    w = np.float32([1.0, 1.5, 1.25, 1.75])
    scaled = np.ldexp(w, exponent)
    np.testing.assert_array_equal(LAMP(scaled), LAMP(w))


def large_leaves():
    rng = np.random.default_rng(0)
    near = np.float32(1e-5) * (1 + rng.uniform(size=SIZE).astype(np.float32) / 1000)
    near[7] = 1.0
    ones = np.float32(1).view(np.int32) + np.arange(SIZE, dtype=np.int32)
    return {
        "normal": rng.normal(size=SIZE).astype(np.float32),
        "heavy tails": rng.standard_t(1.5, SIZE).astype(np.float32),
        "neighbouring floats": rng.permutation(ones).view(np.float32),
        "near, and one outlier": near,
        "ties": np.asarray(put(rng.normal(size=SIZE), jnp.bfloat16), np.float32),
        "all equal": np.full(SIZE, 0.3, np.float32),
    }


@pytest.mark.parametrize("name", list(large_leaves()))
def test_the_order_is_exactly_that_of_magnitudes(name):
    w = large_leaves()[name]
    score = np.asarray(LAMP(w))
    np.testing.assert_allclose(score, formula(w), rtol=2e-6)
    order = by_magnitude(w)
    np.testing.assert_array_equal(np.argsort(-score, kind="stable"), order)
    largest_first = np.abs(w[order])
    smaller = largest_first[1:] < largest_first[:-1]
    assert (np.diff(score[order])[smaller] < 0).all()


def test_masks_of_one_leaf_are_those_of_magnitude():
    w = {"w": large_leaves()["heavy tails"].reshape(500, 600)}
    made = masks.make(w, 0.9, score=scores.lamp, scope="global")
    np.testing.assert_array_equal(made["w"], masks.make(w, 0.9)["w"])


def test_no_leaf_is_emptied_before_all_have_one_weight_left():
    rng = np.random.default_rng(0)
    sizes = {"a": 1.0, "b": 1e-4, "c": 1e-9}
    params = {k: (rng.normal(size=(16, 16)) * s).astype(np.float32) for k, s in sizes.items()}
    made = masks.make(params, 1 - 3 / 768, score=scores.lamp, scope="global")
    assert [int(mask.sum()) for mask in made.values()] == [1, 1, 1]
    by_size = masks.make(params, 1 - 3 / 768, scope="global")
    assert [int(mask.sum()) for mask in by_size.values()] == [3, 0, 0]


def test_the_scale_of_a_layer_does_not_matter():
    """A network whose layers are scaled against each other computes the same: so are the masks."""
    rng = np.random.default_rng(0)
    params = {k: rng.normal(size=(16, 16)).astype(np.float32) for k in "ab"}
    scaled = {"a": params["a"] * 2.0**10, "b": params["b"] * 2.0**-10}
    made = masks.make(params, 0.7, score=scores.lamp, scope="global")
    again = masks.make(scaled, 0.7, score=scores.lamp, scope="global")
    for k in "ab":
        np.testing.assert_array_equal(made[k], again[k])


def test_members_of_a_vmap_are_leaves_of_their_own():
    w = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    each = [LAMP(member) for member in w]
    np.testing.assert_array_equal(jax.jit(jax.vmap(scores.lamp))(w), each)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_devices_change_nothing(kind):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    w = large_leaves()["heavy tails"][: 1 << 16].reshape(256, 256)
    expected = np.asarray(LAMP(w))
    for spec in (P("x", None), P(None, "x")):
        sharding = NamedSharding(mesh, spec)
        placed = jax.device_put(w, sharding)
        score = jax.jit(scores.lamp, out_shardings=sharding)(placed)
        np.testing.assert_array_equal(score, expected)
