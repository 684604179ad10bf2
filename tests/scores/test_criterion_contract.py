"""Every criterion x {shape, dtype, jit = eager, eight devices, all patterns, NaN}."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from jax.sharding import NamedSharding, PartitionSpec

import jaxprune as jp
from jaxprune import scores

CRITERIA = {
    "magnitude": scores.magnitude,
    "squared": scores.squared,
    "random": scores.random(jax.random.key(0)),
    "saliency": scores.saliency,
    "squared saliency": scores.squared_saliency,
    "taylor": scores.taylor,
    "snip": scores.snip,
    "accumulated saliency": scores.accumulated_saliency(),
    "movement": scores.movement,
    "soft movement": scores.soft_movement(),
    "grasp": scores.grasp,
    "synflow": scores.synflow,
    "obd": scores.obd(),
    "obd of a Hessian": scores.obd(scores.exact_diagonal),
    "obs": scores.obs(4, damp=0.1),
    "lamp": scores.lamp,
    "normalized": scores.normalized(),
    "given": scores.given({"a/kernel": np.arange(8.0), "b/kernel": np.arange(8.0)}),
    "norm scale": scores.norm_scale({r"(.*)/kernel": r"\1/scale"}),
}
OF_UNITS = {"geometric median": scores.geometric_median}
every_criterion = pytest.mark.parametrize("name", CRITERIA)
PATTERNS = {
    "unstructured": jp.Unstructured(),
    "nm": jp.NM(2, 4),
    "block": jp.Block((4, 2)),
    "channel": jp.Channel(),
    "inputs": jp.Channel(-2),
    "heads": jp.Heads(4, axis=-1),
}


def draw(seed, dtype=jnp.float32, shape=(16, 8)):
    return put(np.random.default_rng(seed).normal(size=shape), dtype)


def tree(seed, dtype=jnp.float32):
    return {
        name: {"kernel": draw(seed + i, dtype), "scale": put(np.arange(1.0, 9.0), dtype)}
        for i, name in enumerate("ab")
    }


def remembered(criterion, w, grad):
    """The memory after three gradients, or None."""
    if criterion.memory is None:
        return None
    memory = criterion.memory.init(w)
    for i in range(3):
        memory = criterion.memory.update(memory, w, grad * (i + 1))
    return memory


def scored(criterion, w, grad, pattern=PATTERNS["unstructured"]):
    return criterion(
        w,
        path="a/kernel",
        pattern=pattern,
        params={"a/scale": jnp.arange(1.0, 9.0)},
        grad=grad,
        memory=remembered(criterion, w, grad),
    )


@every_criterion
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_floats_of_the_shape_of_the_leaf(name, dtype):
    w, grad = draw(0, dtype), draw(1, dtype)
    result = scored(CRITERIA[name], w, grad)
    assert result.shape == w.shape
    assert result.dtype == (w.dtype if name == "magnitude" else jnp.float32)
    assert not np.isnan(np.asarray(result, np.float32)).any()


@every_criterion
def test_jitted_and_eager_agree(name):
    w, grad = draw(0), draw(1)
    run = lambda w, grad: scored(CRITERIA[name], w, grad)  # noqa: E731
    np.testing.assert_allclose(jax.jit(run)(w, grad), run(w, grad), rtol=2e-4, atol=1e-7)


@every_criterion
def test_low_precision_is_scored_in_float32(name):
    """bfloat16 weights score as the same numbers in float32 do."""
    w, grad = draw(0, jnp.bfloat16), draw(1, jnp.bfloat16)
    expected = scored(CRITERIA[name], w.astype(jnp.float32), grad.astype(jnp.float32) * 1)
    np.testing.assert_allclose(
        np.asarray(scored(CRITERIA[name], w, grad), np.float32), expected, rtol=0.03, atol=1e-2
    )


def given_of(criterion, params, grads):
    """What `make` takes for a criterion."""
    memory = {
        name: {
            "kernel": remembered(criterion, layer["kernel"], grads[name]["kernel"]),
            "scale": None,
        }
        for name, layer in params.items()
    }
    return {"grads": grads, "memory": None if criterion.memory is None else memory}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", [*CRITERIA, *OF_UNITS])
def test_every_pattern_ranks_by_it(name, pattern):
    criterion, params, grads = (CRITERIA | OF_UNITS)[name], tree(0), tree(5)
    how = {"score": criterion, "pattern": PATTERNS[pattern], **given_of(criterion, params, grads)}
    if name in OF_UNITS and pattern in ("unstructured", "nm", "block"):
        with pytest.raises(ValueError, match="geometric_median"):
            jp.masks.make(params, 0.5, **how)
        return
    masks = jp.masks.make(params, 0.5, scope="global", **how)
    assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == 128


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("spec", [("x", None), (None, "x")], ids=["rows", "columns"])
@pytest.mark.parametrize("name", [*CRITERIA, *OF_UNITS])
def test_eight_devices_prune_the_same(name, spec):
    """Up to what sums of floats differ by: no mask differs in more than a neighbour."""
    criterion, params, grads = (CRITERIA | OF_UNITS)[name], tree(0), tree(5)
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec(*spec))
    pattern = jp.Channel() if name in OF_UNITS else jp.Unstructured()

    def make(params, grads):
        given = given_of(criterion, params, grads)
        return jp.masks.make(params, 0.5, score=criterion, pattern=pattern, scope="global", **given)

    def place(tree):
        return jax.tree.map(lambda x: jax.device_put(x, split) if x.ndim == 2 else x, tree)

    one, eight = make(params, grads), jax.jit(make)(place(params), place(grads))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        assert int(np.sum(np.asarray(x) != np.asarray(y))) <= 2 * (16 if name in OF_UNITS else 1)


@every_criterion
def test_a_weight_that_is_nan_goes_first(name):
    w = draw(0).at[3, 4].set(jnp.nan)
    criterion = CRITERIA[name]
    if name in ("random", "given", "norm scale"):
        pytest.skip("does not look at weights")
    result = np.asarray(scored(criterion, w, draw(1)))
    rest = np.delete(result.ravel(), 3 * 8 + 4)
    assert np.isnan(result[3, 4])
    assert not np.isnan(rest).any()
