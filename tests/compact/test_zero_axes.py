"""Flags where a unit runs along several axes of a value, and where 0 makes what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprune import compact

D = 8


def normal(seed, *shape):
    return put(np.random.default_rng(seed).standard_normal(shape, np.float32))


PARAMS = {"up": normal(1, 5, D), "down": normal(2, D, 4), "square": normal(3, D, D)}
X = normal(4, 3, 5)


def hidden(params, x):
    return jax.nn.relu(x @ params["up"])


def pairs(params, x):
    h = hidden(params, x)
    return (h[:, :, None] - h[:, None, :]).sum(1) @ params["down"]


def pairs_mean(params, x):
    h = hidden(params, x)
    return ((h[:, :, None] - h[:, None, :]) ** 2).mean(-1) @ params["down"]


def outer(params, x):
    h = hidden(params, x)
    return (h[:, :, None] * jnp.exp(h)[:, None, :]).sum(2) @ params["down"]


def channels_attend(params, x):
    h = hidden(params, x)
    return (h + jnp.exp(h) @ (jnp.cos(h).T @ h)) @ params["down"]


def standardized(params, x):
    h = x @ params["up"]
    w = params["square"] - params["square"].mean(0, keepdims=True)
    return (h + (h - h.mean(-1, keepdims=True)) @ w) @ params["down"]


def filled(params, x):
    rows = (x @ params["up"]).at[jnp.array([0, 7])].get(mode="fill", fill_value=1.0)
    return rows.sum(-1)


FLAGGED = {
    "pairs": (pairs, "reduce_sum adds it up"),
    "pairs mean": (pairs_mean, "reduce_sum adds it up"),
    "outer": (outer, "reduce_sum adds it up"),
    "channels attend": (channels_attend, "dot_general adds it up"),
    "standardized": (standardized, "dot_general adds it up"),
    "filled": (filled, "reduce_sum adds it up"),
    "inverse": (lambda p, x: ((x @ p["up"]) ** -1) @ p["down"], "integer_pow is not finite"),
    "root": (lambda p, x: (jnp.abs(x @ p["up"]) ** -0.5) @ p["down"], "pow is not finite"),
    "lgamma": (lambda p, x: lax.lgamma(x @ p["up"]) @ p["down"], "lgamma is not finite"),
    "log": (lambda p, x: jnp.log(jnp.abs(x @ p["up"])) @ p["down"], "log is not finite"),
}
EQUAL = {
    "square": lambda p, x: (hidden(p, x) + hidden(p, x) @ p["square"].T * 2.0) @ p["down"],
    "gram": lambda p, x: jnp.einsum("bi,bj->bij", *[hidden(p, x)] * 2).sum(2) @ p["down"],
    "rows": lambda p, x: jnp.take(x @ p["up"], jnp.array([0, 1]), axis=0) @ p["down"],
}


def half(groups):
    return compact.Plan(groups, {g.name: np.arange(g.size) % 2 == 0 for g in groups})


@pytest.mark.parametrize("name", FLAGGED)
def test_what_differs_is_flagged(name):
    apply, why = FLAGGED[name]
    (group,) = compact.trace_groups(apply, PARAMS, X)
    assert any(flag.startswith(why) for flag in group.flags), group.flags


@pytest.mark.parametrize("name", ["pairs", "outer", "channels attend", "standardized", "filled"])
def test_what_is_flagged_differs(name):
    groups = compact.trace_groups(FLAGGED[name][0], PARAMS, X)
    errors = compact.verify(half(groups), PARAMS, X, key=jax.random.key(5), tolerance=None)
    assert errors.forward > 1e-3
    with pytest.raises(ValueError, match="cut and masked differ by"):
        compact.verify(half(groups), PARAMS, X, key=jax.random.key(5))


@pytest.mark.parametrize("name", EQUAL)
def test_what_is_not_flagged_is_equal(name):
    groups = compact.trace_groups(EQUAL[name], PARAMS, X)
    assert not any(group.flags for group in groups)
    errors = compact.verify(half(groups), PARAMS, X, key=jax.random.key(5))
    assert max(errors.forward, errors.gradient) < 1e-5


def plain(params, x):
    return hidden(params, x) @ params["down"]


@pytest.mark.parametrize(("sparsity", "width"), [(0.25, 6), (0.5, 4)])
def test_a_global_ranking_removes_as_many_where_scores_tie(sparsity, width):
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    groups = compact.trace_groups(plain, PARAMS, X)
    plan = compact.plan(groups, ones, sparsity=sparsity, scope="global", multiple=1)
    assert plan.widths == {"up[1]": width}


def test_an_empty_leaf_is_in_no_way():
    params = PARAMS | {"empty": jnp.zeros((0, 4))}
    groups = compact.trace_groups(lambda p, x: plain(p, x) + p["empty"].sum(), params, X)
    assert "it is empty" in {part.reason for part in groups.frozen}
    assert compact.plan(groups, params, sparsity=0.5, multiple=1).widths["up[1]"] == D // 2


def test_arguments_by_name_and_shapes_alone():
    plan = half(compact.trace_groups(plain, PARAMS, X))
    made = plan.wrap(lambda params, *, x: plain(params, x))(plan.cut(PARAMS), x=X)
    np.testing.assert_array_equal(made, plan.apply(plan.cut(PARAMS), X))
    shapes = plan.cut(jax.eval_shape(lambda: PARAMS))
    assert shapes["up"].shape == plan.cut(PARAMS)["up"].shape == (5, D // 2)


def test_what_a_plan_keeps_is_its_own():
    kept = np.arange(D) < 3
    plan = compact.Plan(compact.trace_groups(plain, PARAMS, X), {"up[1]": kept})
    kept[:] = True
    assert plan.widths == {"up[1]": 3}
    with pytest.raises(ValueError, match="read-only"):
        plan.kept["up[1]"][:] = True


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_what_is_cut_stays_on_its_devices(kind):
    mesh = jax.make_mesh((8,), ("m",), axis_types=(kind,))
    wide = {"up": normal(1, 5, 64), "down": normal(2, 64, 4)}
    specs = {"up": P(None, "m"), "down": P("m", None)}
    placed = {k: jax.device_put(w, NamedSharding(mesh, specs[k])) for k, w in wide.items()}
    groups = compact.trace_groups(plain, wide, X)
    plan = compact.plan(groups, placed, sparsity=0.5, multiple=16)
    assert plan.widths == compact.plan(groups, wide, sparsity=0.5, multiple=16).widths
    small = plan.cut(placed)
    for key, w in plan.cut(wide).items():
        assert small[key].sharding.spec == specs[key]
        np.testing.assert_array_equal(small[key], w)
