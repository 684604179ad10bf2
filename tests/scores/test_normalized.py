"""Scores relative to their leaf against float64, and what stays of the criterion."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprune import masks, scores
from jaxprune.scores import l1_norm, l2_norm, normalized

NORMS = {"l1": l1_norm, "l2": l2_norm}
ORACLES = {
    "l1": lambda x: np.abs(np.float64(x)).sum(),
    "l2": lambda x: np.sqrt(np.square(np.float64(x)).sum()),
}
both = pytest.mark.parametrize("name", list(NORMS))

# --- norms --------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (300, 7), (200_000,), (2, 3, 4, 5, 6, 2)])
def test_norms_of_any_shape(name, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    got = jax.jit(NORMS[name])(x)
    assert got.dtype == jnp.float32
    assert got.shape == ()
    np.testing.assert_allclose(got, ORACLES[name](x), rtol=2e-7)


@both
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_norms_of_any_dtype(name, dtype):
    x = jnp.full((100, 100), 7.0, dtype)  # squares of which float16 could not add
    np.testing.assert_allclose(NORMS[name](x), ORACLES[name](x), rtol=2e-7)


@both
@pytest.mark.parametrize("scale", [1e-37, 1e-25, 1e36])
def test_norms_of_very_small_and_very_large_numbers(name, scale):
    x = np.random.default_rng(0).uniform(0.5, 1, (8, 9)).astype(np.float32) * np.float32(scale)
    np.testing.assert_allclose(NORMS[name](x), ORACLES[name](x), rtol=3e-7)


def test_one_large_number_does_not_swallow_the_small_ones():
    x = np.full((1000, 1000), 2.0**-13, np.float32)
    x[0, 0] = 1.0
    # one by one, float32 would leave a sum of 1 + 2**-24 as it is
    np.testing.assert_allclose(l1_norm(x), ORACLES["l1"](x), rtol=2e-7)
    np.testing.assert_allclose(l2_norm(x), ORACLES["l2"](x), rtol=2e-7)


@both
def test_norms_do_not_depend_on_the_order(name):
    rng = np.random.default_rng(0)
    x = rng.standard_t(1.5, size=5000).astype(np.float32)
    norm = jax.jit(NORMS[name])
    for _ in range(5):
        assert norm(rng.permutation(x)) == norm(x)
        assert NORMS[name](rng.permutation(x).reshape(50, 100)) == norm(x)


@both
def test_norms_of_what_is_not_finite(name):
    assert NORMS[name](jnp.array([1.0, -jnp.inf])) == jnp.inf
    assert jnp.isnan(NORMS[name](jnp.array([1.0, jnp.nan])))


# --- normalised criteria ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "norm"),
    [(l2_norm, 5.0), (l1_norm, 7.0), (jnp.max, 4.0), (jnp.mean, 3.5), (jnp.linalg.norm, 5.0)],
)
def test_by_hand(by, norm):
    w = jnp.array([[3.0, -4.0]])
    np.testing.assert_allclose(normalized(by=by)(w), [[3 / norm, 4 / norm]], rtol=2e-7)
    # signs of scores stay, and the norm is that of absolute values
    signed = normalized(lambda w: w, by=by)(w)
    np.testing.assert_allclose(signed, [[3 / norm, -4 / norm]], rtol=2e-7)


def test_the_default_is_magnitude_by_the_l2_norm():
    w = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    got = normalized()(w)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, np.abs(w) / np.linalg.norm(np.float64(w)), rtol=3e-7)
    assert normalized()(w.astype(jnp.bfloat16)).dtype == jnp.float32


def test_what_is_not_finite_stays_and_is_left_out():
    w = jnp.array([[jnp.nan, 3.0], [-jnp.inf, 4.0]])
    np.testing.assert_allclose(normalized()(w), [[np.nan, 0.6], [np.inf, 0.8]], rtol=2e-7)
    broken = jnp.array([jnp.nan, jnp.inf, 0.0])
    np.testing.assert_array_equal(normalized()(broken), np.float32([np.nan, np.inf, 0.0]))


def test_a_norm_of_zero_or_nan_gives_zeros():
    np.testing.assert_array_equal(normalized()(jnp.zeros((2, 3))), np.zeros((2, 3)))
    assert normalized()(jnp.zeros((0, 3))).shape == (0, 3)
    np.testing.assert_array_equal(normalized(by=jnp.min)(jnp.array([0.0, 2.0])), [0, 0])
    np.testing.assert_array_equal(normalized(by=lambda x: x.sum() * jnp.nan)(jnp.ones(2)), [0, 0])


def test_layers_compete_on_equal_terms():
    rng = np.random.default_rng(0)
    w = rng.normal(size=(32, 32)).astype(np.float32)
    params = {"large": w * 1000, "small": w / 1000}
    counts = [
        [int(mask.sum()) for mask in masks.make(params, 0.9, score=score, scope="global").values()]
        for score in (scores.magnitude, normalized())
    ]
    assert counts[0] == [205, 0]
    assert abs(counts[1][0] - counts[1][1]) <= 2


def test_what_a_criterion_needs_and_remembers_stays():
    memory = scores.Memory(jnp.zeros_like, lambda memory, w, grad: memory + grad)
    base = scores.Criterion(
        lambda w, grad, path: jnp.abs(w * grad) * len(path),
        needs=("grad", "path"),
        elementwise=True,
        memory=memory,
        probe=lambda loss, params, grads, step: grads,
        compensate=lambda w, mask, memory: w,
    )
    made = normalized(base, by=l1_norm)
    assert (made.needs, made.memory) == (base.needs, memory)
    assert (made.probe, made.compensate) == (base.probe, base.compensate)
    assert not made.elementwise
    got = made(jnp.array([1.0, -2.0]), grad=jnp.array([2.0, 3.0]), path="a/b")
    np.testing.assert_allclose(got, [0.25, 0.75], rtol=2e-7)


def test_in_masks_it_is_handed_gradients():
    saliency = normalized(scores.Criterion(lambda w, grad: jnp.abs(w * grad), needs=("grad",)))
    params = {"a": jnp.array([[1.0, 2.0], [1.0, 3.0]]), "b": jnp.array([[10.0, 8.0], [9.0, 7.0]])}
    grads = {"a": jnp.array([[5.0, 1.0], [4.0, 1.0]]), "b": jnp.ones((2, 2))}
    made = masks.make(params, 0.5, score=saliency, scope="global", grads=grads)
    # 5, 2, 4, 3 over the root of 54: 0.68, 0.27, 0.54, 0.41; 10 to 7 over that of 294: 0.58 to 0.41
    assert made["a"].tolist() == [[True, False], [True, False]]
    assert made["b"].tolist() == [[True, False], [True, False]]


def test_equal_arguments_make_equal_criteria():
    assert normalized() == normalized(scores.magnitude, by=l2_norm)
    assert hash(normalized()) == hash(normalized())
    assert normalized() != normalized(by=l1_norm)
    assert normalized(jnp.abs) != normalized()


def test_members_of_a_vmap_have_norms_of_their_own():
    w = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    each = [normalized()(member) for member in w]
    np.testing.assert_array_equal(jax.vmap(normalized())(w), each)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("by", [l1_norm, l2_norm, jnp.max])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_devices_change_nothing(kind, by):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    w = np.random.default_rng(0).standard_t(1.5, size=(64, 128)).astype(np.float32)
    call = jax.jit(normalized(by=by))
    expected = call(w)
    for spec in (P("x", None), P(None, "x")):
        placed = jax.device_put(w, NamedSharding(mesh, spec))
        score = call(placed)
        np.testing.assert_array_equal(score, expected)
        assert score.sharding.is_equivalent_to(placed.sharding, 2)


def test_errors():
    with pytest.raises(TypeError, match="by='l2' is not a function; pass one such as jaxprune"):
        normalized(by="l2")
    with pytest.raises(TypeError, match="score=3 is not a function"):
        normalized(3)
    with pytest.raises(ValueError, match=r"shape \(2,\) for a leaf of shape \(2, 3\); it must"):
        normalized(by=lambda x: x.sum(1))(jnp.ones((2, 3)))
    assert math.isfinite(float(normalized(by=lambda x: 2)(jnp.ones(()))))
