"""Groups worked out by hand, flags, reasons to stay whole, the table, and what is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo_decoders as decoders
from flax import nnx

from jaxprune import compact

WORDS = jax.ShapeDtypeStruct((2, 5), jnp.int32)


def structs(shapes):
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def mlp(p, x):
    return jax.nn.relu(x @ p["a"] + p["b"][None]) @ p["c"]


MLP = {"a": (3, 8), "b": (8,), "c": (8, 2)}
X = jax.ShapeDtypeStruct((1, 3), jnp.float32)


def described(groups):
    """Name -> size, members with the unit at each index, step."""
    return {g.name: (g.size, {str(m): m.units.tolist() for m in g.members}, g.step) for g in groups}


def reasons(groups):
    return {(f.path, f.axis, f.size, f.reason) for f in groups.frozen}


def each(n, times=1, before=1):
    """0 0 1 1 ... of which each unit is so many times, and all so often."""
    return np.tile(np.repeat(np.arange(n), times), before).tolist()


def test_an_mlp_has_one_group():
    groups = compact.trace_groups(mlp, structs(MLP), X)
    same = each(8)
    assert described(groups) == {"a[1]": (8, {"a[1]": same, "b[0]": same, "c[0]": same}, 1)}
    assert reasons(groups) == {
        ("a", 0, 3, "an argument"),
        ("c", 1, 2, "a result"),
    }
    assert groups["a[1]"] is groups[0]
    assert (len(groups), repr(groups)) == (1, "Groups(1 groups of 3 leaves)")


def test_both_halves_of_a_gated_unit_are_one_group():
    def apply(p, x):
        a, b = jnp.split(x @ p["up"], 2, axis=-1)
        return (jax.nn.silu(a) * b) @ p["down"]

    groups = compact.trace_groups(apply, structs({"up": (3, 12), "down": (6, 2)}), X)
    expected = (6, {"down[0]": each(6), "up[1]": each(6, before=2)}, 1)
    assert described(groups) == {"up[1]": expected}


def attention(function, shapes):
    def apply(p, x):
        return function(p, p["table"][x])

    width = decoders.WIDTH
    return described(
        compact.trace_groups(apply, structs(shapes | {"table": (17, width), "out": (24, 7)}), WORDS)
    )


def test_a_fused_kernel_of_attention():
    """Heads, features of queries and keys, features of values: 4 heads of 6, three times."""
    found = attention(decoders.fused, {"qkv": (12, 72)})
    none = [-1] * 24
    heads = {"out[0]": each(4, 6), "qkv[1]": each(4, 6, before=3)}
    assert found["qkv[1].0"] == (4, heads, 6)
    assert found["qkv[1].1"] == (6, {"qkv[1]": each(6, before=8) + none}, 8)
    values = {"out[0]": each(6, before=4), "qkv[1]": none + none + each(6, before=4)}
    assert found["qkv[1].2"] == (6, values, 4)
    assert found["table[1]"] == (12, {"qkv[0]": each(12), "table[1]": each(12)}, 1)
    assert len(found) == 4


def test_grouped_queries():
    """2 heads of keys and values, each of 2 queries: the 2 are cut alike in all."""
    shapes = {name: decoders.GROUPED[name] for name in "qkv"}
    found = attention(decoders.grouped_by_reshape, shapes)
    sizes = {name: size for name, (size, _, _) in found.items()}
    assert sizes == {"table[1]": 12, "q[1].0": 2, "q[1].1": 2, "q[1].2": 6, "v[1].1": 6}
    heads = {"k[1]": each(2, 6), "v[1]": each(2, 6), "out[0]": each(2, 12), "q[1]": each(2, 12)}
    assert found["q[1].0"][1] == heads
    inner = {"out[0]": each(2, 6, before=2), "q[1]": each(2, 6, before=2)}
    assert found["q[1].1"][1] == inner
    assert found["q[1].2"][1] == {"k[1]": each(6, before=2), "q[1]": each(6, before=4)}


def test_a_concatenation():
    def apply(p, x):
        return jnp.concatenate([x @ p["a"], x @ p["b"], x], axis=-1) @ p["out"]

    groups = compact.trace_groups(apply, structs({"a": (3, 4), "b": (3, 2), "out": (9, 5)}), X)
    none = [-1] * 9
    assert described(groups) == {
        "a[1]": (4, {"a[1]": each(4), "out[0]": each(4) + none[4:]}, 1),
        "b[1]": (2, {"b[1]": each(2), "out[0]": none[:4] + each(2) + none[6:]}, 1),
    }
    assert ("out", 0, 3, "an argument") in {
        (f.path, f.axis, f.size, f.reason) for f in groups.frozen
    }


def test_state_is_no_weight():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x))
            return nn.Dense(2)(x)

    def weights(groups):
        return {leaf.path for leaf in groups.leaves if leaf.weight}

    variables = jax.eval_shape(Model().init, jax.random.key(0), jnp.ones((1, 3)))
    linen = compact.trace_groups(Model().apply, variables, X)
    assert not any("batch_stats" in path for path in weights(linen))
    assert "batch_stats/BatchNorm_0/mean[0]" in map(str, linen[0].members)

    model = nnx.eval_shape(lambda: nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    found = compact.trace_groups(lambda s, x: nnx.merge(graph, s)(x).sum(), state, X)
    assert weights(found) == {"scale", "bias"}

    def scaled(p, x):
        return x * p["scale"][None] - p["mean"][None]

    bare = structs({"mean": (3,), "scale": (3,)})
    assert weights(compact.trace_groups(scaled, bare, X)) == {"scale"}


def test_the_tree_may_hold_what_is_no_array():
    def apply(p, x):
        return p["act"](x @ p["layers"][0]) @ p["layers"][1] if p["on"] else x

    params = {"act": jnp.tanh, "layers": structs([(3, 8), (8, 2)]), "none": None, "on": True}
    assert [g.name for g in compact.trace_groups(apply, params, X)] == ["layers/0[1]"]


def test_groups_of_stacked_layers_run_through_all():
    """Layers in a scan lose the same units; the axis of layers stays whole."""

    def apply(p, x):
        def layer(x, p):
            return x + jnp.tanh(x @ p["up"]) @ p["down"], None

        return jax.lax.scan(layer, x, p)[0]

    params = structs({"up": (4, 3, 8), "down": (4, 8, 3)})
    groups = compact.trace_groups(apply, params, X)
    assert described(groups) == {"down[1]": (8, {"down[1]": each(8), "up[2]": each(8)}, 1)}
    assert ("up", 0, 4, "a loop runs along it") in reasons(groups)


def test_the_table():
    def apply(p, x):
        return jax.nn.softmax(mlp(p, x)) @ p["d"]

    text = str(compact.trace_groups(apply, structs(MLP | {"d": (2, 2), "idle": (4,)}), X))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "a[1] equal 8 3" in lines
    assert any("c[1]" in line and "reduce_max runs over it" in line for line in lines)
    assert "idle[0] the call does not use it" in lines
    assert any(line.split() == ["stays", "whole", "reason"] for line in text.splitlines())


def test_a_group_that_does_not_exist():
    groups = compact.trace_groups(mlp, structs(MLP), X)
    with pytest.raises(KeyError, match=r"no group is called 'a'; there are a\[1\]"):
        groups["a"]


@pytest.mark.parametrize(
    ("apply", "params", "error", "message"),
    [
        (lambda p, x: x[x > 0] @ p["c"], MLP, TypeError, "apply makes shapes, or decisions"),
        (lambda p, x: x if bool(x.sum()) else -x, MLP, TypeError, "apply makes shapes, or decis"),
        (lambda p, x: x @ p["c"], MLP, ValueError, r"cannot be traced .* of shapes \[\(1, 3\)\]"),
        (lambda p, x: p["missing"], MLP, ValueError, "cannot be traced .* KeyError: 'missing'"),
        (lambda p, x: x, MLP, ValueError, "uses no real floating leaf of params; the order is"),
        (MLP, mlp, TypeError, r"is not callable; the order is \(function, params, \*args\)"),
        (
            lambda p, x: x @ p["a/b"],
            {"a/b": (3, 8), "a": {"b": (8,)}},
            ValueError,
            "two leaves have",
        ),
    ],
)
def test_what_is_refused(apply, params, error, message):
    params = structs(params) if isinstance(params, dict) else params
    with pytest.raises(error, match=message):
        compact.trace_groups(apply, params, X)


def test_the_wrong_order_of_arguments():
    with pytest.raises(ValueError, match="cannot be traced with these params and arguments"):
        compact.trace_groups(mlp, X, structs(MLP))


def test_a_tree_without_floats():
    params = {"index": jnp.arange(3), "factor": 1j * jnp.ones((3, 2))}
    with pytest.raises(ValueError, match="uses no real floating leaf of params"):
        compact.trace_groups(lambda p, x: x[:, p["index"]] @ p["factor"], params, X)


def test_what_nothing_is_made_of_ties_nothing():
    """A slice of which only the shape is used, as for a causal mask."""

    def apply(params, x):
        h = x @ params["up"]
        scale = jnp.ones_like(h[..., 0]).sum() / h[..., 0].size
        return (h * jnp.asarray(scale)[None, None]) @ params["down"]

    params = {"up": jnp.ones((3, 8)), "down": jnp.ones((8, 2))}
    (group,) = compact.trace_groups(apply, params, jnp.ones((2, 3)))
    assert group.size == 8
