"""Inputs of layers, seen without touching the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from capture_models import (
    CNN,
    MODELS,
    Block,
    Transformer,
    gram,
    images,
    linen,
    seen_by_flax,
    tokens,
    variables,
)
from flax import linen as nn
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxprune
from jaxprune import oneshot


def captured(apply, params, batches, **kwargs):
    found = oneshot.capture(apply, params, batches, needs="gram", **kwargs)
    return {layer.name: layer for layer in found.layers}, dict(found.missed)


def assert_gram(layer, expected):
    found = np.asarray(layer.statistics.gram)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    diagonal = np.diagonal(found, axis1=1, axis2=2)
    np.testing.assert_allclose(layer.statistics.squares, diagonal, rtol=1e-5)


NAMES = {
    "linen MLP": ["down/kernel", "up/kernel"],
    "linen CNN": [f"{n}/kernel" for n in ("depthwise", "grouped", "head", "plain", "transposed")],
    "linen transformer": [
        *(f"attention/{n}/kernel" for n in ("key", "out", "query", "value")),
        "cell/h/kernel",
        "cell/i/kernel",
        "last/kernel",
        "remat/kernel",
        *(f"stack/{n}/kernel[{i}]" for n in ("down", "up") for i in range(3)),
    ],
    "NNX": [
        *(f"attend/{n}/kernel" for n in ("key", "out", "query", "value")),
        "down/kernel",
        "up/kernel",
    ],
    "Equinox": [f"layers/{i}/weight" for i in (0, 3, 5)],
    "raw": ["down/0", "up/w"],
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_is_found(name):
    make, data = MODELS[name]
    apply, params = make()
    found, missed = captured(apply, params, [data()])
    assert sorted(found) == NAMES[name]
    assert not missed


def test_linen_inputs_are_those_that_flax_sees():
    x, module = tokens(), Transformer()
    apply, params = linen(module, x)
    found, _ = captured(apply, params, [x])
    seen = seen_by_flax(module, params, {}, x)
    for name in ("key", "query", "value"):
        (inputs,) = seen[f"attention/{name}"]
        assert_gram(found[f"attention/{name}/kernel"], gram(inputs)[None])
    (inputs,) = seen["attention/out"]  # [batch, length, heads, dim]
    assert_gram(found["attention/out/kernel"], gram(inputs.reshape(28, -1))[None])
    assert_gram(found["last/kernel"], gram(seen["last"][0])[None])
    assert_gram(found["cell/i/kernel"], gram(seen["recurrent"][0])[None])


def test_stacked_layers_are_seen_one_by_one():
    x, module = tokens(), Transformer()
    apply, params = linen(module, x)
    found, _ = captured(apply, params, [x])
    h = params["embed"]["embedding"][x]
    h = h + nn.MultiHeadDotProductAttention(2).apply({"params": params["attention"]}, h)
    for i in range(3):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], params["stack"])
        seen = seen_by_flax(Block(), layer, {}, h)
        for name in ("up", "down"):
            assert_gram(found[f"stack/{name}/kernel[{i}]"], gram(seen[name][0])[None])
        h = Block().apply({"params": layer}, h)[0]


def test_the_state_of_a_recurrent_layer_is_seen_at_every_step():
    x, module = tokens(), Transformer()
    apply, params = linen(module, x)
    found, _ = captured(apply, params, [x])
    (inputs,) = seen_by_flax(module, params, {}, x)["recurrent"]
    p, state, sums = params["cell"], np.zeros((4, 8)), 0
    for t in range(7):
        sums += gram(state)
        inner = np.asarray(inputs[:, t]) @ np.asarray(p["i"]["kernel"]) + np.asarray(p["i"]["bias"])
        state = np.tanh(inner + state @ np.asarray(p["h"]["kernel"]))
    assert_gram(found["cell/h/kernel"], sums[None])


CONVOLUTIONS = {
    "plain": {"strides": (2, 2), "padding": "SAME", "size": (3, 3)},
    "depthwise": {"padding": "SAME", "size": (3, 3), "groups": 8},
    "grouped": {"padding": "SAME", "size": (3, 2), "groups": 2, "dilation": (2, 2)},
    "transposed": {"size": (3, 3), "spread": (2, 2), "padding": [(2, 1), (2, 1)]},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_inputs_of_convolutions_are_their_patches(name):
    x, module = images(), CNN()
    apply, params = linen(module, x)
    rest = {"batch_stats": variables(module, x)["batch_stats"]}
    found, _ = captured(apply, params, [x])
    spec = CONVOLUTIONS[name]
    (inputs,) = seen_by_flax(module, params, rest, x)[name]
    patches = lax.conv_general_dilated_patches(
        inputs,
        spec["size"],
        spec.get("strides", (1, 1)),
        spec["padding"],
        lhs_dilation=spec.get("spread"),
        rhs_dilation=spec.get("dilation"),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    groups, taps = spec.get("groups", 1), int(np.prod(spec["size"]))
    patches = np.asarray(patches, np.float64).reshape(-1, inputs.shape[-1], taps)
    parts = np.split(patches, groups, axis=1)  # inputs lie as in the kernel, taps first
    sums = [gram(np.swapaxes(part, 1, 2).reshape(len(part), -1)) for part in parts]
    assert_gram(found[f"{name}/kernel"], np.stack(sums))


@pytest.mark.parametrize("name", MODELS)
def test_a_product_of_captured_weights_and_inputs_is_what_the_model_makes(name):
    """The last layer is a product alone: its energy is that of the model's output."""
    make, data = MODELS[name]
    apply, params = make()
    found, _ = captured(apply, params, [data()])
    last = {"linen transformer": "last/kernel"}.get(name, list(found)[-1])
    layer = found[last]
    w = np.asarray(layer.weights(params), np.float64)
    energy = np.einsum("bio,bij,bjo->", w, np.asarray(layer.statistics.gram, np.float64), w)
    if name != "linen transformer":  # which ends with the embedding
        out = np.asarray(apply(params, data()), np.float64)
        np.testing.assert_allclose(energy, np.sum(out**2), rtol=1e-4)
    assert layer.weights(params).shape == layer.shape


def test_batches_add_up_and_captures_merge():
    make, data = MODELS["linen transformer"]
    apply, params = make()
    x = data(6)
    whole = oneshot.capture(apply, params, [x], needs="gram")
    parts = oneshot.capture(apply, params, iter([x[:4], x[4:]]), needs="gram")
    one, other = (oneshot.capture(apply, params, [y], needs="gram") for y in (x[:1], x[1:]))
    for made in (parts, one.merge(other)):
        for a, b in zip(whole.layers, made.layers, strict=True):
            np.testing.assert_allclose(a.statistics.gram, b.statistics.gram, rtol=2e-4, atol=1e-3)


def test_what_does_not_belong_together_does_not_merge():
    apply, params = MODELS["raw"][0]()
    x = [MODELS["raw"][1]()]
    squares = oneshot.capture(apply, params, x)
    with pytest.raises(ValueError, match=r"of up/w one has X\^T X and the other has not"):
        squares.merge(oneshot.capture(apply, params, x, needs="gram"))
    rules = [jaxprune.Rule("up/.*", dense=True)]
    with pytest.raises(ValueError, match="of other layers"):
        squares.merge(oneshot.capture(apply, params, x, rules=rules))


def test_a_batch_that_is_cut_over_devices_gives_the_same():
    make, data = MODELS["linen CNN"]
    apply, params = make()
    x = data(8)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    cut = jax.device_put(x, NamedSharding(mesh, P("data")))
    copies = jax.device_put(params, NamedSharding(mesh, P()))
    a, _ = captured(apply, params, [x])
    b, _ = captured(apply, copies, [cut])
    for name in a:
        np.testing.assert_allclose(
            a[name].statistics.gram, b[name].statistics.gram, rtol=1e-4, atol=1e-3
        )


def test_wanda_scores_lie_as_the_leaves():
    apply, params = MODELS["Equinox"][0]()
    x = MODELS["Equinox"][1]()
    seen = oneshot.capture(apply, params, [x])
    scores = oneshot.wanda_scores(params, seen)
    squares = np.sum(np.asarray(seen.layers[0].statistics.squares))
    w = np.asarray(params.layers[0].weight)
    # Of the conv's patches the middle tap sees the whole image: its norm is the image's.
    image = np.sqrt(np.sum(np.asarray(x, np.float64) ** 2, axis=(0, 2, 3)))
    middle = np.asarray(scores.layers[0].weight)[:, :, 1, 1]
    np.testing.assert_allclose(middle, np.abs(w[:, :, 1, 1]) * image[None], rtol=1e-5)
    assert squares > 0
    assert scores.layers[0].bias is None
    masks = jaxprune.masks.make(
        params, 0.5, score=jaxprune.scores.given(scores), scope="global", max_sparsity=0.9
    )
    assert abs(jaxprune.masks.density(masks) - 0.5) < 1e-3


def run(apply, shapes, x=(6, 8)):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    return captured(apply, params, [jax.random.normal(jax.random.key(1), x)])


def test_views_of_leaves_are_followed():
    def apply(p, x):
        x = x.astype(jnp.bfloat16) @ p["cast"].astype(jnp.bfloat16)
        x = x @ p["turned"].T.astype(jnp.bfloat16)
        x = x @ p["reshaped"].reshape(8, 8)
        q, k = jnp.split(p["split"], 2, axis=1)
        x = x @ q + x @ k
        x = x @ p["stack"][1] @ p["stack"][0]
        x = jnp.einsum("ri,hio->ro", x, p["heads"][:1])
        return jnp.einsum("nri,nio->nro", x.reshape(2, 3, 8), p["experts"])

    shapes = {"cast": (8, 8), "turned": (8, 8), "reshaped": (4, 2, 8), "split": (8, 16)}
    shapes |= {"stack": (2, 8, 8), "heads": (1, 8, 8), "experts": (2, 8, 8)}
    found, missed = run(apply, shapes)
    assert not missed
    assert {name: layer.shape for name, layer in found.items()} == {
        "cast": (1, 8, 8),
        "turned": (1, 8, 8),
        "reshaped": (1, 8, 8),
        "split[0]": (1, 8, 8),
        "split[1]": (1, 8, 8),
        "stack[0]": (1, 8, 8),
        "stack[1]": (1, 8, 8),
        "heads": (1, 8, 8),
        "experts": (2, 8, 8),
    }
    assert list(found)[4:7] != sorted(list(found)[4:7]), "layers come in the order of the data"


MISSED = {
    "it does not take part in apply": lambda p, x: x @ p["good"],
    "changed by mul before it meets data": lambda p, x: x @ p["good"] @ (p["leaf"] * 2.0),
    "read by mul": lambda p, x: (x @ p["good"]) * p["leaf"][:6],
    "changed by dot_general before it meets data": lambda p, x: (
        x @ (p["good"] @ p["leaf"]) @ p["good"]
    ),
    "the same weights are used as different matrices": lambda p, x: (
        x @ p["good"] @ p["leaf"] @ p["leaf"].T
    ),
    "only a part of it meets data in products": lambda p, x: x @ p["good"] @ p["leaf"][:, :4],
    "changed by dot_general before it meets data; read by scan": lambda p, x: lax.scan(
        lambda c, w: (c @ w, None), x @ p["good"], (p["leaf"] @ jnp.ones((8, 8)))[None]
    )[0],
    "changed by scan before it meets data": lambda p, x: (
        x
        @ p["good"]
        @ lax.scan(lambda c, _: (jnp.tanh(c @ p["leaf"]), None), jnp.eye(8), None, length=2)[0]
    ),
    "read by while": lambda p, x: lax.fori_loop(
        0, jnp.int32(x[0, 0] + 3), lambda _, y: y @ p["leaf"], x @ p["good"]
    ),
    "read by cond": lambda p, x: lax.cond(
        x[0, 0] > 0, lambda y: y @ p["leaf"], lambda y: y, x @ p["good"]
    ),
}


@pytest.mark.parametrize("reason", MISSED)
def test_a_leaf_that_cannot_be_captured_is_named_with_the_reason(reason):
    found, missed = run(MISSED[reason], {"good": (8, 8), "leaf": (8, 8)})
    assert list(missed) == ["leaf"]
    assert missed["leaf"] in reason
    assert list(found) == ["good"]


def test_a_leaf_that_is_used_twice_has_the_inputs_of_both():
    def apply(p, x):
        return jnp.tanh(x @ p["w"]) @ p["w"]

    found, _ = run(apply, {"w": (8, 8)})
    w = np.asarray(jax.random.normal(jax.random.split(jax.random.key(0), 1)[0], (8, 8)), np.float64)
    x = np.asarray(jax.random.normal(jax.random.key(1), (6, 8)), np.float64)
    assert_gram(found["w"], (gram(x) + gram(np.tanh(x @ w)))[None])


def test_inputs_that_are_not_finite_name_the_batch_and_the_layer():
    apply, params = MODELS["raw"][0]()
    x = MODELS["raw"][1]()
    with pytest.raises(ValueError, match="batch 1 makes NaN or infinite inputs of up/w"):
        oneshot.capture(apply, params, [x, x.at[3].set(jnp.nan)])


def test_custom_derivatives_and_compiled_calls_are_seen_through():
    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (g,))

    def apply(p, x):
        layer = jax.jit(lambda w, x: double(jax.nn.relu(x)) @ w)
        return jax.checkpoint(layer)(p["b"], layer(p["a"], x))

    found, missed = run(apply, {"a": (8, 4), "b": (4, 3)})
    assert [layer.shape for layer in found.values()] == [(1, 8, 4), (1, 4, 3)]
    assert not missed


def test_kernels_that_are_joined_before_the_product_are_each_found():
    x = jax.random.normal(jax.random.key(1), (3, 5, 4))
    apply, params = linen(nn.RNN(nn.OptimizedLSTMCell(6)), x)
    found, missed = captured(apply, params, [x])
    assert not missed
    assert sorted(found) == [f"cell/{a}{b}/kernel" for a in "hi" for b in "fgio"]
    for gate in "fgio":
        assert_gram(found[f"cell/i{gate}/kernel"], gram(x)[None])
    _, missed = run(lambda p, x: x @ jnp.concatenate([p["a"], p["b"]]), {"a": (4, 8), "b": (4, 8)})
    assert list(missed) == ["a", "b"]
    assert "used by dot_general in a way that is not read" in missed["a"]


def test_needs_is_one_of_two():
    apply, params = MODELS["raw"][0]()
    with pytest.raises(ValueError, match="needs='all' must be"):
        oneshot.capture(apply, params, [MODELS["raw"][1]()], needs="all")


def test_a_module_of_other_layers_has_no_scores():
    apply, params = MODELS["raw"][0]()
    seen = oneshot.capture(apply, params, [MODELS["raw"][1]()])
    with pytest.raises(ValueError, match="params have no leaf 'up/w' of shape"):
        oneshot.wanda_scores({"kernel": jnp.ones((6, 16))}, seen)
    smaller = {"up": {"w": jnp.ones((2, 16))}, "down": [jnp.ones((16, 5))]}
    with pytest.raises(ValueError, match=r"params have no leaf 'up/w' of shape \(6, 16\)"):
        oneshot.wanda_scores(smaller, seen)
