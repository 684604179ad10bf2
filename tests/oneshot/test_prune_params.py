"""prune_params: trained params, pruned in one call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from hypothesis import given
from hypothesis import strategies as st

import jaxprune as jp


def kernel(shape=(6, 7), seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def oracle(w, sparsity):
    """A stable sort of magnitudes in float64."""
    scores = np.abs(np.asarray(w, np.float64)).ravel()
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores, kind="stable")[: round(scores.size * (1 - sparsity))]] = True
    return mask.reshape(w.shape)


@given(st.floats(0, 1, exclude_max=True))
def test_any_sparsity(sparsity):
    w = kernel()
    params, masks = jp.prune_params({"kernel": w}, sparsity)
    np.testing.assert_array_equal(masks["kernel"], oracle(w, sparsity))
    np.testing.assert_array_equal(params["kernel"], np.where(oracle(w, sparsity), w, 0))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtype_is_kept(dtype):
    w = put(kernel(), dtype)
    params, masks = jp.prune_params({"kernel": w, "bias": jnp.ones(7, dtype)}, 0.5)
    assert params["kernel"].dtype == params["bias"].dtype == dtype
    assert masks["bias"] is None
    np.testing.assert_array_equal(masks["kernel"], oracle(w.astype(jnp.float32), 0.5))
    zeros = np.asarray(params["kernel"].astype(jnp.float32))[~np.asarray(masks["kernel"])]
    assert not np.signbit(zeros).any()


def test_dense_leaves_are_left_as_they_are():
    params = {"kernel": kernel(), "bias": kernel((7,)), "step": np.int32(3)}
    pruned, masks = jp.prune_params(params, 0.5)
    np.testing.assert_array_equal(pruned["bias"], params["bias"])
    assert pruned["step"] == 3
    assert masks["bias"] is None
    assert masks["step"] is None


def test_global_scope():
    params = {"a": {"kernel": kernel(seed=1)}, "b": {"kernel": 3 * kernel((5, 4), seed=2)}}
    _, masks = jp.prune_params(params, 0.7, scope="global")
    flat = np.concatenate([params[k]["kernel"].ravel() for k in "ab"])
    got = np.concatenate([np.asarray(masks[k]["kernel"]).ravel() for k in "ab"])
    np.testing.assert_array_equal(got, oracle(flat, 0.7))


def test_one_nan_weight_costs_one_weight():
    """Also in a global ranking: a NaN is the lowest score, and its weight becomes 0."""
    w = kernel((100, 100))
    w[3, 3] = np.nan
    params, masks = jp.prune_params({"kernel": w}, 0.5, scope="global")
    assert int(masks["kernel"].sum()) == 5000
    assert params["kernel"][3, 3] == 0


def test_infinite_weights():
    w = kernel()
    w[0, 0], w[1, 1] = -np.inf, np.inf
    keep = {"kernel": np.ones(w.shape, bool)}
    keep["kernel"][0, 0] = False
    _, masks = jp.prune_params({"kernel": w}, 0.9)
    assert masks["kernel"][0, 0]
    assert masks["kernel"][1, 1]
    zeroed = jp.apply_masks({"kernel": w}, keep)["kernel"]
    assert zeroed[0, 0] == 0
    assert zeroed[1, 1] == np.inf


def test_ties_go_to_the_lower_index():
    _, masks = jp.prune_params({"kernel": jnp.ones((4, 5), jnp.bfloat16)}, 0.5)
    np.testing.assert_array_equal(np.asarray(masks["kernel"]).ravel(), np.arange(20) < 10)


def test_traced_sparsity_in_one_vmap():
    params = {"kernel": kernel()}
    sweep = np.array([0.0, 0.25, 0.5, 0.9], np.float32)
    pruned, masks = jax.jit(jax.vmap(lambda s: jp.prune_params(params, s)))(sweep)
    for i, s in enumerate(sweep):
        np.testing.assert_array_equal(masks["kernel"][i], oracle(params["kernel"], float(s)))
        np.testing.assert_array_equal(pruned["kernel"][i] != 0, oracle(params["kernel"], float(s)))


def test_vmap_over_members():
    members = np.stack([kernel(seed=i) for i in range(3)])
    _, masks = jax.vmap(lambda w: jp.prune_params({"kernel": w}, 0.5))(members)
    for mask, w in zip(masks["kernel"], members, strict=True):
        np.testing.assert_array_equal(mask, oracle(w, 0.5))


def test_scores_from_gradients():
    score = jp.scores.Criterion(lambda w, grad: jnp.abs(w * grad), needs=("grad",))
    params, grads = {"kernel": kernel()}, {"kernel": kernel(seed=5)}
    _, masks = jp.prune_params(params, 0.5, score=score, grads=grads)
    np.testing.assert_array_equal(masks["kernel"], oracle(params["kernel"] * grads["kernel"], 0.5))
    with pytest.raises(ValueError, match="kernel needs gradients"):
        jp.prune_params(params, 0.5, score=score)


def test_inputs_stay():
    params = {"kernel": put(kernel())}
    before = np.array(params["kernel"])
    jp.prune_params(params, 0.9)
    np.testing.assert_array_equal(params["kernel"], before)


@pytest.mark.parametrize(
    ("value", "error"),
    [(1, ValueError), (1.2, ValueError), (-0.1, ValueError), (float("nan"), ValueError)]
    + [(x, TypeError) for x in (True, "90%", None, np.array([0.1, 0.2]))],
)
def test_bad_sparsity(value, error):
    with pytest.raises(error, match="sparsity="):
        jp.prune_params({"kernel": kernel()}, value)


def test_n_of_m_of_too_little():
    with pytest.raises(ValueError, match=r"sparsity=0.3.*kernel.*at least 0.5"):
        jp.prune_params({"kernel": kernel((8, 4))}, 0.3, pattern=jp.NM(2, 4))


@pytest.mark.parametrize("params", [{}, None, {"bias": np.ones(3, np.float32)}])
def test_nothing_to_prune(params):
    with pytest.raises(ValueError, match="prun"):
        jp.prune_params(params, 0.5)


def test_a_typo_in_the_allocation():
    with pytest.raises(ValueError, match="kernle"):
        jp.prune_params({"kernel": kernel()}, 0.5, allocate={"kernle": 0.5})
