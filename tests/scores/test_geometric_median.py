"""Geometric median: sums of distances, and what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from structured_oracle import distances, rows

from jaxprune import NM, Block, Channel, Heads, Unstructured, scores


def score(w, pattern=Channel()):  # noqa: B008
    return scores.geometric_median(jnp.asarray(w), path="conv/kernel", pattern=pattern)


def normal(*shape, dtype="float32"):
    return put(np.random.default_rng(0).normal(size=shape), dtype)


CASES = [  # shape, pattern, and for each weight the number of its unit
    ((5, 7), Channel(), np.indices((5, 7))[1]),
    ((5, 7), Channel(0), np.indices((5, 7))[0]),
    ((3, 3, 4, 6), Channel(), np.indices((3, 3, 4, 6))[3]),
    ((5, 12), Heads(4, -1), np.indices((5, 12))[1] // 3),
    ((5, 12), Heads(2, -1, parts=3), np.indices((5, 12))[1] % 4 // 2),
    ((4, 3, 5), Heads(3, -2), np.indices((4, 3, 5))[1]),
]


@pytest.mark.parametrize(("shape", "pattern", "ids"), CASES, ids=lambda x: str(x)[:20])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_against_float64(shape, pattern, ids, dtype):
    w = normal(*shape, dtype=dtype)
    got = jax.jit(lambda w: score(w, pattern))(w)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, distances(rows(ids, w))[ids], rtol=1e-5)


def test_a_duplicate_goes_before_a_small_filter_that_is_alone():
    """Two of the large filters are one and the same; by its norm the small one would go."""
    filters = np.array([[5, 5, 4], [5, 5, 4], [6, 5, 4], [-1, 0, -1]], np.float32)
    w = filters.T
    order = np.argsort(score(w)[0], kind="stable")
    assert set(order[:2]) == {0, 1}
    assert np.argmin(np.mean(scores.squared(w), 0)) == 3
    assert order[-1] == 3


@pytest.mark.parametrize(
    "pattern", [Channel((0, -1)), Channel((-1, 0)), Heads(4, (0, -1))], ids=str
)
def test_the_last_axis_named_is_compared(pattern):
    """Filters of each layer of a stack, or of one filter its copies in all layers."""
    w = normal(3, 5, 4)
    got = np.asarray(score(w, pattern))
    if pattern == Channel((-1, 0)):
        want = np.stack([distances(np.asarray(w)[:, :, j]) for j in range(4)], -1)
    else:
        want = np.stack([distances(np.asarray(w)[layer].T) for layer in range(3)])
    np.testing.assert_allclose(got, np.broadcast_to(want[:, None], w.shape), rtol=1e-5)


@pytest.mark.parametrize("scale", [2.0**-110, 1e-25, 1e25])
def test_any_scale(scale):
    w = normal(5, 7) * np.float32(scale)
    want = distances(np.asarray(w, np.float64).T)
    np.testing.assert_allclose(score(w)[0], want, rtol=1e-5)


def test_filters_that_differ_little_far_from_the_origin():
    """Without the shift their squares, of 1e6, would hide distances of 1."""
    w = 1e3 + normal(64, 6)
    want = distances(np.asarray(w, np.float64).T)
    np.testing.assert_allclose(score(w)[0], want, rtol=1e-4)


def test_pruned_filters_are_lowest_and_count_for_nothing():
    w = normal(5, 4)
    dead = jnp.insert(w, jnp.array([1, 3]), 0.0, axis=1)
    got = np.asarray(score(dead))[0]
    np.testing.assert_array_equal(got[[1, 4]], [-1, -1])
    np.testing.assert_allclose(got[[0, 2, 3, 5]], score(w)[0], rtol=1e-5)
    np.testing.assert_array_equal(score(jnp.zeros((2, 3))), np.full((2, 3), -1.0))


def test_what_is_not_finite_does_not_spread():
    w = normal(5, 4)
    more = jnp.concatenate([w, w[:, :2].at[2].set(jnp.array([jnp.nan, -jnp.inf]))], 1)
    got = np.asarray(score(more))[0]
    np.testing.assert_array_equal(got[4:], [np.nan, np.inf])
    np.testing.assert_allclose(got[:4], score(w)[0], rtol=1e-5)


def test_one_filter_and_no_weights():
    np.testing.assert_array_equal(score(np.ones((3, 1), np.float32)), np.zeros((3, 1)))
    assert score(np.ones((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("pattern", [Unstructured(), NM(2, 4), Block((2, 2))], ids=str)
def test_units_that_do_not_compare(pattern):
    with pytest.raises(ValueError, match=f"weight by weight, and conv/kernel has .* {pattern}; "):
        score(np.ones((4, 4), np.float32), pattern)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("pattern", [Channel(), Heads(4, -1)], ids=str)
def test_the_same_on_eight_devices(pattern, kind):
    w = normal(16, 32)
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        placed = jax.device_put(w, NamedSharding(mesh, P("x", "y")))
        got = jax.jit(lambda w: score(w, pattern))(placed)
    np.testing.assert_allclose(got, score(w, pattern), rtol=1e-6)
