"""Given scores: by path or as a tree, one for each weight or for each index of an axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprune import masks, scores

W = np.ones((2, 3), np.float32)


@pytest.mark.parametrize("values", [[3.0, 1.0, 2.0], [[1], [2]], [[1, 2, 3], [4, 5, np.nan]]])
def test_values_broadcast(values):
    score = scores.given({"a/kernel": np.array(values)})
    got = jax.jit(lambda w: score(w, path="a/kernel"))(W)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, np.broadcast_to(values, W.shape))


def test_a_dict_from_paths_or_a_tree():
    params = {"a": {"kernel": W, "bias": np.ones(3)}, "c": {"kernel": W}}
    values = {"kernel": np.array([1.0, 3.0, 2.0])}
    tree = masks.make(params, 0.5, score=scores.given({"a": values, "c": values}))
    paths = {"a/kernel": values["kernel"], "c/kernel": values["kernel"]}
    flat = masks.make(params, 0.5, score=scores.given(paths))
    for made in (tree, flat):
        np.testing.assert_array_equal(
            made["c"]["kernel"], [[False, True, True], [False, True, False]]
        )
        np.testing.assert_array_equal(made["a"]["kernel"], made["c"]["kernel"])


def test_values_may_be_traced():
    def make(values):
        return masks.make({"a": W}, 0.5, score=scores.given({"a": values}))["a"]

    made = jax.vmap(make)(jnp.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]]))
    np.testing.assert_array_equal(made[:, 0], [[True, False, True], [False, True, True]])


def test_missing_values():
    score = scores.given({"a": np.ones(3), "c": np.ones(3)})
    with pytest.raises(
        ValueError, match=r"no values for d, only for a, c; .* Rule\('d', dense=True"
    ):
        score(W, path="d")


@pytest.mark.parametrize("shape", [(2,), (3, 1), (1, 2, 3), (2, 2, 3)])
def test_values_that_do_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"given: values of shape \(.*\) for a do not broadcast"):
        scores.given({"a": np.ones(shape)})(W, path="a")


@pytest.mark.parametrize("values", [None, {}, {"a": None}])
def test_nothing_is_given(values):
    with pytest.raises(ValueError, match=r"given: values=.* holds no array"):
        scores.given(values)


@pytest.mark.parametrize("value", [[1.0, 2.0], "high", np.ones(3, bool), np.ones(3, complex)])
def test_no_array_is_given(value):
    with pytest.raises(TypeError, match=r"given: values for a.* give an array of real numbers"):
        scores.given({"a": value})


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_given_values_meet_leaves_that_are_cut(kind):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    params = {"w": jnp.ones((4, 16)), "s": jnp.arange(16.0)}
    cut = {"w": NamedSharding(mesh, P(None, "x")), "s": NamedSharding(mesh, P("x"))}
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, cut)
        got = scores.given({"w": params["s"]})(placed["w"], path="w")
    np.testing.assert_array_equal(got, np.broadcast_to(params["s"], (4, 16)))
