"""Masks baked in: exact zeros, no wrappers, the dtype asked for, and a tree that models take."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import FrozenDict

import jaxprune
from jaxprune import finalize, masks

MASK = np.array([[True, False, True], [False, True, False]])
W = np.array([[1, np.nan, -2], [-np.inf, 3, -4]], np.float32)
DONE = np.array([[1, 0, -2], [0, 3, 0]], np.float32)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16", "float64"])
def test_zeros_are_exact_and_positive(dtype, transform):
    with jax.enable_x64(dtype == "float64"):
        made = transform(lambda p, m: finalize(p, m, dtype=dtype))({"w": W}, {"w": MASK})["w"]
    assert made.dtype == (dtype or "float32")
    np.testing.assert_array_equal(np.asarray(made, np.float32), DONE)
    assert not np.signbit(np.asarray(made, np.float32))[~MASK].any()


def test_what_has_no_mask_is_cast_alone():
    params = {"w": jnp.full(2, jnp.inf), "n": np.int8(3), "b": jnp.array([True]), "name": "x"}
    params["key"] = jax.random.key(0)
    made = finalize(params, dtype=jnp.bfloat16)
    assert made["w"].dtype == jnp.bfloat16
    assert made["key"] is params["key"]
    assert (made["n"], made["n"].dtype, made["b"].dtype, made["name"]) == (3, "int8", bool, "x")
    assert finalize(params)["w"] is params["w"]


@pytest.mark.parametrize("rest", [None, np.zeros((0,), np.uint8)], ids=["none", "zero-size"])
def test_packed_masks(rest):
    params, mask = {"a": W, "b": np.zeros(0, np.float32)}, {"a": MASK}
    packed = {**masks.pack(mask), "b": rest}
    np.testing.assert_array_equal(finalize(params, packed)["a"], DONE)


class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        x = nn.Dense(8, kernel_init=nn.with_partitioning(init, (None, "x")))(x)
        return nn.Dense(4, kernel_init=nn.with_logical_partitioning(init, ("in", "out")))(x)


def plain(tree):
    """Whether it is made of dicts and arrays."""
    if isinstance(tree, dict):
        return type(tree) is dict and all(map(plain, tree.values()))
    return isinstance(tree, jax.Array)


@pytest.mark.parametrize("frozen", [False, True])
def test_linen_with_boxes(frozen):
    x = jnp.ones((2, 6))
    params = Boxed().init(jax.random.key(0), x)["params"]
    params = FrozenDict(params) if frozen else params
    made = masks.make(params, 0.5)
    done = finalize(params, made)
    assert plain(done)
    expected = Boxed().apply({"params": masks.apply(params, made)}, x)
    np.testing.assert_array_equal(Boxed().apply({"params": done}, x), expected)
    assert np.count_nonzero(done["Dense_0"]["kernel"]) == 24


def test_nnx():
    model = nnx.Sequential(
        nnx.Linear(6, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 4, rngs=nnx.Rngs(1))
    )
    graph, state = nnx.split(model, nnx.Param)[:2]
    made = masks.make(state, 0.5)
    done = finalize(state, made)
    assert plain(done)
    assert [list(done), list(done["layers"])] == [["layers"], [0, 2]]
    expected = nnx.to_pure_dict(masks.apply(state, made))
    jax.tree.map(np.testing.assert_array_equal, done, expected)
    nnx.replace_by_pure_dict(state, done)
    x = jnp.ones((2, 6))
    hidden = nnx.relu(x @ done["layers"][0]["kernel"])
    np.testing.assert_allclose(
        nnx.merge(graph, state)(x), hidden @ done["layers"][2]["kernel"], rtol=1e-6
    )


def test_equinox():
    model = eqx.nn.MLP(6, 4, 8, 1, key=jax.random.key(0))
    done = finalize(model, masks.make(model, 0.5), dtype=jnp.bfloat16)
    assert isinstance(done, eqx.nn.MLP)
    assert done(jnp.ones(6, jnp.bfloat16)).dtype == jnp.bfloat16
    assert np.count_nonzero(done.layers[0].weight) == 24


def test_lists_tuples_and_none():
    params = [(W, None), {"w": W}]
    done = finalize(params, [(MASK, None), {"w": None}])
    assert isinstance(done[0], tuple)
    assert done[0][1] is None
    assert done[1]["w"] is W


@pytest.mark.parametrize(
    ("params", "given", "dtype", "error", "message"),
    [
        ({"w": W}, None, jnp.int8, TypeError, "must be floating, such as jnp.bfloat16"),
        ({"w": W}, {"w": MASK[0]}, None, ValueError, "the mask of w has shape"),
        ({"w": W}, {"v": MASK}, None, ValueError, "has 'v', which params lack"),
        ({"w": W}, {"w": MASK.astype(np.int32)}, None, TypeError, "the mask of w is int32"),
        ({"w": W}, {"w": MASK.astype(np.uint8)}, None, ValueError, r"w is uint8\[2, 3\]"),
        ({"w": W}, {"v": MASK.astype(np.uint8)}, None, ValueError, "has 'v', which params lack"),
    ],
)
def test_what_is_refused(params, given, dtype, error, message):
    with pytest.raises(error, match=message):
        finalize(params, given, dtype=dtype)


def test_a_module_of_nnx_is_refused():
    with pytest.raises(TypeError, match=r"is the module Linear; pass its state, nnx.state\(model"):
        finalize(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))


def test_it_is_at_the_top_level():
    assert jaxprune.finalize is masks.finalize
