"""Taylor: the square of the sum over each unit, whatever the pattern."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from structured_oracle import taylor

from jaxprune import NM, Block, Channel, Heads, Unstructured, scores

SHAPE = (6, 8)
GRID = np.arange(48).reshape(SHAPE)
ROW, COLUMN = np.indices(SHAPE)
PATTERNS = [  # and for each weight the number of its unit
    (Unstructured(), GRID),
    (NM(1, 2), GRID),
    (Channel(), COLUMN),
    (Channel(0), ROW),
    (Heads(2, axis=-1), COLUMN // 4),
    (Heads(2, axis=-1, parts=2), COLUMN % 4 // 2),
    (Block((3, 4)), ROW // 3 * 2 + COLUMN // 4),
    (Block((4, 3)), ROW // 4 * 3 + COLUMN // 3),  # smaller at the edges
]
every_pattern = pytest.mark.parametrize(("pattern", "ids"), PATTERNS, ids=lambda x: str(x)[:20])


def leaf(dtype="float32"):
    rng = np.random.default_rng(0)
    w, grad = rng.normal(size=(2, *SHAPE))
    return put(w, dtype), put(grad, dtype)


@every_pattern
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_against_float64(pattern, ids, dtype):
    w, grad = leaf(dtype)
    want = taylor(ids, w, grad)
    got = jax.jit(lambda w, g: scores.taylor(w, grad=g, pattern=pattern))(w, grad)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * want.max())


@every_pattern
def test_a_nan_is_that_of_its_unit_alone(pattern, ids):
    w, grad = leaf()
    got = scores.taylor(w.at[1, 2].set(jnp.nan), grad=grad, pattern=pattern)
    np.testing.assert_array_equal(np.isnan(got), ids == ids[1, 2])


def test_the_sum_is_inside_the_square():
    """Of channel 0 the changes are large and cancel; removing it costs nothing, to first order."""
    w = np.array([[3.0, 1.0], [3.0, 1.0]], np.float32)
    grad = np.array([[1.0, 1.0], [-1.0, 1.0]], np.float32)
    channel = scores.taylor(w, grad=grad, pattern=Channel())
    np.testing.assert_array_equal(channel, [[0, 4], [0, 4]])
    weights = scores.taylor(w, grad=grad, pattern=Unstructured())
    np.testing.assert_array_equal(weights, [[9, 1], [9, 1]])  # the mean would keep channel 0


def test_it_is_the_change_of_a_loss():
    """A loss that is linear in the weights changes by exactly the sum."""
    w, slope = leaf()

    def loss(w):
        return jnp.sum(w * slope)

    score = scores.taylor(w, grad=jax.grad(loss)(w), pattern=Channel())
    for channel in range(SHAPE[1]):
        change = loss(w) - loss(w.at[:, channel].set(0))
        np.testing.assert_allclose(score[0, channel], change**2, rtol=1e-4)


def test_a_leaf_without_weights():
    empty = jnp.zeros((0, 8))
    for pattern, _ in PATTERNS:
        assert scores.taylor(empty, grad=empty, pattern=pattern).shape == (0, 8)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("pattern", [Channel(), Heads(4, -1, parts=2), Block((4, 4))], ids=str)
def test_the_same_on_eight_devices(pattern, kind):
    rng = np.random.default_rng(0)
    w, grad = (put(x, jnp.float32) for x in rng.normal(size=(2, 16, 32)))
    score = jax.jit(lambda w, g: scores.taylor(w, grad=g, pattern=pattern))
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind,) * 2)
    cut = NamedSharding(mesh, P("x", "y"))
    with jax.set_mesh(mesh):
        got = score(jax.device_put(w, cut), jax.device_put(grad, cut))
    np.testing.assert_array_equal(got, score(w, grad))
