"""From a plan over training with masks to smaller arrays; and plans of masks that are there."""

import cut_oracle as oracle
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import put

import jaxprune
from jaxprune import compact


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(16)(x))
        x = nn.relu(x)
        y = nn.Dense(16)(nn.relu(nn.Dense(12)(x)))
        return nn.Dense(3)(x + y)


def noise(shape, seed=0):
    return put(np.random.default_rng(seed).standard_normal(shape, np.float32))


X, Y = noise((32, 4)), noise((32, 3), 1)


def started():
    variables = Model().init(jax.random.key(0), X)
    return variables, compact.trace_groups(Model().apply, variables, X)


def test_training_towards_a_plan_and_cutting():
    variables, groups = started()
    plan = compact.plan(groups, variables, macs=0.4, multiple=1)
    assert len(set(plan.widths.values())) > 1
    schedule = jaxprune.polynomial(plan.sparsity, begin=2, end=10)
    tx = jaxprune.prune(
        optax.adam(1e-2),
        sparsity=schedule,
        when=jaxprune.every(2, begin=2, end=10),
        pattern=plan.pattern(under="params"),
    )
    state, widths = tx.init(variables["params"]), []

    @jax.jit
    def step(variables, state):
        def loss(params):
            return jnp.square(Model().apply({**variables, "params": params}, X) - Y).mean()

        params = variables["params"]
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return {**variables, "params": optax.apply_updates(params, updates)}, state

    for _ in range(12):
        variables, state = step(variables, state)
        own = compact.plan_from_masks(groups, jaxprune.get_masks(state), under="params")
        widths.append(sum(own.widths.values()))
    assert own.widths == plan.widths
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) > 3

    trained = oracle.leaves(jaxprune.get_masks(state))
    for path, mask in oracle.masks(own, "params/").items():
        np.testing.assert_array_equal(trained[path], mask)
    zeros = compact.plan_from_masks(groups, variables["params"], under="params")
    assert all(np.array_equal(zeros.kept[name], own.kept[name]) for name in own.kept)
    assert max(oracle.errors(own, variables, [X])) < 1e-5
    before, after = own.macs
    assert after <= 0.4 * before


def apply(p, x):
    return jnp.tanh(x @ p["up"] + p["bias"][None]) @ p["down"]


PARAMS = {"up": jnp.ones((2, 4)), "bias": jnp.ones(4), "down": jnp.ones((4, 3))}
GROUPS = compact.trace_groups(apply, PARAMS, jnp.ones((1, 2)))


def kept(**removed):
    """Which units are left, of masks in which these elements are False."""
    made = {name: np.ones(w.shape, bool) for name, w in PARAMS.items()}
    for name, where in removed.items():
        for index in where:
            made[name][index] = False
    return compact.plan_from_masks(GROUPS, made).kept["up[1]"].tolist()


def column(j):
    return np.s_[:, j]


def test_a_unit_is_removed_where_all_its_weights_are():
    assert kept() == [True] * 4
    assert kept(up=[column(1)], down=[1], bias=[1]) == [True, False, True, True]
    assert kept(up=[column(1)], down=[1]) == [True] * 4  # the bias is left
    assert kept(up=[(0, 1)], down=[1], bias=[1]) == [True] * 4  # one weight is left
    assert kept(up=[column(1), column(3)], down=[1, 3], bias=[1, 3]) == [True, False, True, False]


def test_dense_leaves_keep_their_units():
    gone = np.zeros((2, 4), bool)
    for masks in ({"up": gone}, {"up": gone, "bias": None, "down": np.zeros((4, 3), bool)}):
        assert compact.plan_from_masks(GROUPS, masks).kept["up[1]"].all()


def test_of_a_group_of_which_nothing_is_left_a_unit_stays():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    plan = compact.plan_from_masks(GROUPS, zeros)
    assert plan.kept["up[1]"].tolist() == [True, False, False, False]
    assert not plan.apply(plan.cut(zeros), jnp.ones((1, 2))).any()


def test_masks_of_a_plan_give_the_plan():
    _, groups = started()
    plan = oracle.some(groups, 4)
    for own, under in [(plan.masks(), None), (plan.masks("params"), "params")]:
        found = compact.plan_from_masks(groups, own, under)
        assert found.widths == plan.widths
        assert all(np.array_equal(found.kept[name], plan.kept[name]) for name in plan.kept)


def test_flagged_groups_stay_whole():
    def model(p, x):
        return jax.nn.softmax(x @ p["a"]) @ p["b"]

    params = {"a": jnp.ones((3, 4)).at[:, 1].set(0), "b": jnp.ones((4, 2)).at[1].set(0)}
    groups = compact.trace_groups(model, params, jnp.ones((1, 3)))
    assert compact.plan_from_masks(groups, params).widths == {"a[1]": 4}
    assert compact.plan_from_masks(groups, params, flagged=True).widths == {"a[1]": 3}


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"up": np.ones((4, 2), bool)}, r"masks has up of shape \(4, 2\); its leaf had \(2, 4\)"),
        (
            {"w": np.ones((2, 4), bool)},
            r"masks has no array .* paths are w, those .* bias, down",
        ),
        ({"up": None}, "Say under= if masks are of a part"),
    ],
)
def test_masks_that_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        compact.plan_from_masks(GROUPS, masks)
