"""Units in another order: the same function, and more of the magnitude in 2:4."""

import cut_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
import zoo_decoders as decoders
from draws import put
from zoo import traced

from jaxprune import NM, compact, masks

EVERY = [case for case in [*zoo.CASES, *zoo.AWKWARD] if case.name != "raw complex parameters"]


def shuffled(groups, seed):
    rng = np.random.default_rng(seed)
    return {g.name: rng.permutation(g.size) for g in groups if g.ordered is None}


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_the_function_stays_the_same(case):
    groups, params, args = traced(case)
    orders = shuffled(groups, 1)
    if not orders:
        assert all(group.ordered for group in groups)
        return
    moved = compact.permute(groups, params, orders)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(params), strict=True)
    )
    run = oracle.whole_program(groups, case.name not in oracle.FORWARD)
    (got, _), (expected, _) = jax.device_get((run(moved, args), run(params, args)))
    for a, b in zip(got, expected, strict=True):
        assert oracle.error(a, b) < 1e-5


def test_place_i_gets_the_unit_of_order_i():
    """In products and in concatenations too; back again with the inverse."""
    case = next(case for case in zoo.CASES if case.name == "raw decoder fused")
    groups, params, _ = traced(case)
    orders = shuffled(groups, 2)
    moved = compact.permute(groups, params, orders)
    before, after = oracle.leaves(params), oracle.leaves(moved)
    kernel = "layer/attention/qkv"
    heads, features, own = (orders[f"{kernel}[1].{i}"] for i in range(3))
    stream = orders["table[1]"]
    x = before[kernel].reshape(12, 3, 4, 6)[stream][:, :, heads]
    wanted = np.stack([x[:, 0][..., features], x[:, 1][..., features], x[:, 2][..., own]], 1)
    np.testing.assert_array_equal(after[kernel].reshape(12, 3, 4, 6), wanted)
    back = compact.permute(groups, moved, {n: np.argsort(order) for n, order in orders.items()})
    for path, w in oracle.leaves(back).items():
        np.testing.assert_array_equal(w, before[path])


def magnitude(w, mask):
    return float(np.abs(np.float64(w))[np.asarray(mask)].sum())


def kept(params):
    """The magnitude that 2:4 keeps of all kernels of a tree."""
    made = masks.make(params, 0.5, pattern=NM(2, 4))
    return sum(
        magnitude(w, m) for w, m in zip(jax.tree.leaves(params), jax.tree.leaves(made), strict=True)
    )


def uneven(rng, *shape):
    """Noise in which four inputs are large, the next four small, and so on."""
    scale = np.where(np.arange(shape[0]) // 4 % 2, 0.1, 1.0)[:, None]
    return put(scale * rng.normal(size=shape), jnp.float32)


def test_two_of_four_keeps_more_of_two_layers():
    rng = np.random.default_rng(0)
    params = {"a": uneven(rng, 8, 32), "b": uneven(rng, 32, 8)}
    x = put(rng.normal(size=(4, 8)), jnp.float32)

    def apply(p, x):
        return jnp.tanh(x @ p["a"]) @ p["b"]

    groups = compact.trace_groups(apply, params, x)
    orders = compact.permutations(groups, params, NM(2, 4))
    moved = compact.permute(groups, params, orders)
    before, after = kept({"b": params["b"]}), kept({"b": moved["b"]})
    assert after > 1.2 * before
    np.testing.assert_allclose(apply(moved, x), apply(params, x), rtol=1e-4, atol=1e-5)


def test_two_of_four_keeps_more_of_a_transformer():
    rng = np.random.default_rng(0)
    shapes = {"qkv": (16, 72), "out": (24, 16), "up": (16, 32), "down": (32, 16)}
    params = {name: uneven(rng, *shape) for name, shape in shapes.items()}
    x = put(rng.normal(size=(2, 5, 16)), jnp.float32)

    def apply(p, x):
        x = x @ p["stem"]
        x = x + decoders.fused(p, x)
        return (x + jnp.tanh(x @ p["up"]) @ p["down"]) @ p["head"]

    params |= {"stem": jnp.eye(16)[:, ::-1], "head": params["up"][:, :3]}
    groups = compact.trace_groups(apply, params, x)
    orders = compact.permutations(groups, params, NM(2, 4), escapes=4, key=jax.random.key(0))
    assert {"stem[1]", "up[1]"} <= orders.keys()
    moved = compact.permute(groups, params, orders)
    kernels = ("qkv", "up", "down")
    before, after = (kept({n: p[n] for n in kernels}) for p in (params, moved))
    assert after > 1.1 * before
    np.testing.assert_allclose(apply(moved, x), apply(params, x), rtol=2e-4, atol=2e-3)


def test_groups_without_a_kernel_that_reads_them_whole_are_left_out():
    def apply(p, x):
        return jnp.tanh(x @ p["a"]) @ p["b"]

    params = {"a": jnp.ones((4, 6)), "b": jnp.ones((6, 2))}
    groups = compact.trace_groups(apply, params, jnp.ones((1, 4)))
    assert compact.permutations(groups, params) == {}  # 6 is no multiple of 4
    params = {"a": jnp.ones((4, 8)), "b": jnp.ones((8, 2))}
    groups = compact.trace_groups(apply, params, jnp.ones((1, 4)))
    assert compact.permutations(groups, params) == {}  # nothing is gained


def simple():
    def apply(p, x):
        return (jnp.tanh(x @ p["a"]) * jnp.cos(jnp.arange(8.0))[None]) @ p["b"] @ p["c"]

    params = {"a": jnp.ones((4, 8)), "b": jnp.ones((8, 6)), "c": jnp.ones((6, 2))}
    return compact.trace_groups(apply, params, jnp.ones((1, 4))), params


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ({"a[1]": range(8)}, r"units of 'a\[1\]' cannot change places: what is no parameter runs"),
        ({"b[1]": [0, 1, 2, 3, 4, 4]}, r"the order of 'b\[1\]' is no permutation of its 6 units"),
        ({"b[1]": range(5)}, r"the order of 'b\[1\]' is no permutation"),
        ({"d[1]": range(6)}, r"no group is called 'd\[1\]'; there are"),
    ],
)
def test_orders_that_are_refused(orders, message):
    groups, params = simple()
    with pytest.raises(ValueError, match=message):
        compact.permute(groups, params, orders)


def test_trees_that_are_refused():
    groups, params = simple()
    with pytest.raises(ValueError, match=r"b of shape \(8, 5\) is not what was traced: \(8, 6\)"):
        compact.permute(groups, {**params, "b": jnp.ones((8, 5))}, {})
    with pytest.raises(ValueError, match=r"d of shape \(2,\) is not what was traced: None"):
        compact.permute(groups, {**params, "d": jnp.ones((2,))}, {})
