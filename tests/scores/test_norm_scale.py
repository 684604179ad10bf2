"""Scales of norms: which belongs to which leaf, and along which axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprune import scores

W = np.ones((2, 3), np.float32)
SCALES = {r"(.*)conv(\d+)/kernel": r"\1bn\2/scale", "head/kernel": "norm/scale"}
PARAMS = {
    "net/conv1/kernel": np.ones((2, 2, 4, 3), np.float32),
    "net/bn1/scale": jnp.array([0.5, -2.0, jnp.nan], jnp.bfloat16),
    "head/kernel": np.ones((3, 2), np.float32),
    "norm/scale": np.array([-1.0, 0.25], np.float32),
}


@pytest.mark.parametrize(
    ("path", "want"), [("net/conv1/kernel", [0.5, 2.0, np.nan]), ("head/kernel", [1.0, 0.25])]
)
def test_a_channel_has_the_scale_of_the_norm_behind_it(path, want):
    score, w = scores.norm_scale(SCALES), PARAMS[path]
    got = jax.jit(lambda params: score(params[path], path=path, params=params))(PARAMS)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, np.broadcast_to(want, w.shape))


def test_outputs_along_other_axes():
    params = {
        "w": np.ones((2, 5, 3)),
        "s": np.arange(6.0).reshape(2, 3),
        "t": np.array([3.0, -4.0]),
    }
    stack = scores.norm_scale({"w": "s"}, axis=(0, -1))(params["w"], path="w", params=params)
    np.testing.assert_array_equal(stack, np.broadcast_to(params["s"][:, None], (2, 5, 3)))
    params["s"] = params["s"].T
    turned = scores.norm_scale({"w": "s"}, axis=[2, 0])(params["w"], path="w", params=params)
    np.testing.assert_array_equal(turned, stack)
    first = scores.norm_scale({"w": "t"}, axis=0)(params["w"], path="w", params=params)
    np.testing.assert_array_equal(first[:, 1, 1], [3, 4])


def test_equal_scales_make_equal_criteria():
    assert scores.norm_scale(SCALES) == scores.norm_scale(dict(SCALES), axis=[-1])
    assert hash(scores.norm_scale(SCALES)) == hash(scores.norm_scale(dict(SCALES)))
    assert scores.norm_scale(SCALES) != scores.norm_scale(SCALES, axis=0)


@pytest.mark.parametrize(
    ("scales", "axis", "message"),
    [
        ({"conv/.*": "s"}, -1, r"none of 'conv/.\*' matches w; .* Rule\('w', dense=True\)"),
        ({"w": "bn"}, -1, "w is led to bn, which is not in the params; their paths are w, s"),
        ({"w": r"bn\1"}, -1, r"'bn\\\\1' does not fit 'w': invalid group reference"),
        ({"w": "s"}, 0, r"s has the shape \(3,\), but w has \(2,\) along axes \(0,\)"),
        ({"w": "s"}, 2, r"axes \(2,\) are not 1 axes of w, of shape \(2, 3\)"),
        ({"w": "s"}, (1, -1), r"axes \(1, -1\) are not 2 axes of w"),
    ],
)
def test_scales_that_do_not_fit(scales, axis, message):
    params = {"w": W, "s": np.ones(3)}
    with pytest.raises(ValueError, match=f"norm_scale: {message}"):
        scores.norm_scale(scales, axis)(W, path="w", params=params)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: scores.norm_scale(["s"]), TypeError, r"scales=\['s'\] must be a dict from paths"),
        (
            lambda: scores.norm_scale({"w": 3}),
            TypeError,
            "scales={'w': 3} must be a dict from paths",
        ),
        (lambda: scores.norm_scale({}), ValueError, "scales is empty"),
        (lambda: scores.norm_scale({"(": "s"}), ValueError, r"'\(' is not a regular expression"),
        (lambda: scores.norm_scale({"w": "s"}, axis=None), TypeError, "axis=None must be an int"),
        (lambda: scores.norm_scale({"w": "s"}, axis=()), TypeError, r"axis=\(\) must be an int"),
    ],
)
def test_no_scales(build, error, message):
    with pytest.raises(error, match=f"norm_scale: {message}"):
        build()


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_scales_meet_leaves_that_are_cut(kind):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    params = {"w": jnp.ones((4, 16)), "s": jnp.arange(16.0)}
    cut = {"w": NamedSharding(mesh, P(None, "x")), "s": NamedSharding(mesh, P("x"))}
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, cut)
        got = scores.norm_scale({"w": "s"})(placed["w"], path="w", params=placed)
    np.testing.assert_array_equal(got, np.broadcast_to(params["s"], (4, 16)))
