"""Budgets of cost, against greed in Python integers: rank by score, pay by cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_oracle import SHAPES, assert_same, draw, kernels, top_cost

import jaxprune
from jaxprune import NM, Block, Channel, Rule, masks

seeds = st.integers(0, 2**32 - 1)
dyadic = st.integers(0, 2**20 - 1).map(lambda n: n / 2**20)
SIZES = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}  # 24, 24, 20
PRICES = {
    "small": (1, 3, 10),
    "zeros": (0, 5, 0),
    "huge": (2**40 // 32, 2**40 // 24, 1),
    "thirds": (1, 2, 7),
}


def of_leaves(each):
    """The argument: what whole leaves cost."""
    return {f"{name}/kernel": x * size for (name, size), x in zip(SIZES.items(), each, strict=True)}


def total(each):
    return sum(x * size for x, size in zip(each, SIZES.values(), strict=True))


def paid(made, each):
    return sum(int(np.sum(m)) * x for m, x in zip(jax.tree.leaves(made), each, strict=True))


@pytest.mark.parametrize("name", PRICES)
@given(seeds, st.booleans(), dyadic)
def test_a_budget_is_spent_down_the_ranking(name, seed, ties, sparsity):
    each, params = PRICES[name], draw(seed, ties=ties)
    made = masks.make(params, sparsity, scope="global", cost=of_leaves(each))
    divisor = np.gcd.reduce(each)
    budget = round(total(each) // divisor * (1 - sparsity))
    assert_same(made, top_cost(kernels(params), [x // divisor for x in each], budget))


@pytest.mark.parametrize(
    "price", [1, 7, 0.1, 2**50, np.float32(0.3), jnp.int32(3)], ids=lambda x: str(type(x)) + str(x)
)
@pytest.mark.parametrize("options", [{}, {"max_sparsity": 0.875}, {"pattern": NM(1, 2, axis=-1)}])
def test_equal_costs_are_no_costs(price, options):
    shapes = {"a": (4, 6), "b": (3, 8)}
    params = draw(0, ties=True, shapes=shapes)
    cost = {"a/kernel": price, "b/kernel": price}  # 24 weights each
    with_cost = masks.make(params, 0.6, scope="global", cost=cost, **options)
    assert_same(with_cost, jax.tree.leaves(masks.make(params, 0.6, scope="global", **options)))


def test_costs_are_fractions_of_any_unit():
    """A common factor changes nothing, and tenths are meant as decimals."""
    params = draw(3, ties=False)
    expected = jax.tree.leaves(masks.make(params, 0.4, scope="global", cost=of_leaves((1, 3, 10))))
    for factor in (3, 0.1, 2**30):
        cost = {path: x * factor for path, x in of_leaves((1, 3, 10)).items()}
        if factor == 0.1:
            cost = {path: round(x, 1) for path, x in cost.items()}
        assert_same(masks.make(params, 0.4, scope="global", cost=cost), expected)


def test_scopes_have_budgets_of_their_own_and_a_rule_pays_nothing():
    """a and c share one budget; b has a sparsity of its own and needs no cost; biases neither."""
    params = draw(5, ties=True)
    params["a"]["bias"] = np.ones(6, np.float32)
    cost = {"a/kernel": 24 * 2, "c/kernel": 20 * 9}
    made = masks.make(params, 0.5, scope="global", cost=cost, rules=[Rule("b/.*", sparsity=0.25)])
    assert int(made["b"]["kernel"].sum()) == 18
    pair = [params[name]["kernel"] for name in "ac"]
    assert_same([made["a"]["kernel"], made["c"]["kernel"]], top_cost(pair, (2, 9), 114))
    by_label = masks.make(
        params,
        0.5,
        scope=lambda path: "b" if path.startswith("b") else "rest",
        cost=cost | {"b/kernel": 5},
    )
    assert_same([by_label["a"]["kernel"], by_label["c"]["kernel"]], top_cost(pair, (2, 9), 114))
    assert int(by_label["b"]["kernel"].sum()) == 12


# max_sparsity 0.875 and min_sparsity 0.25 -> the bounds on what a, b and c keep of 24, 24 and 20
LOWER, UPPER = [3, 3, 2], [18, 18, 15]
BOUNDS = {"max_sparsity": 0.875, "min_sparsity": 0.25}


@pytest.mark.parametrize("name", ["small", "thirds", "zeros"])
@given(seeds, st.booleans(), dyadic)
def test_a_bounded_budget(name, seed, ties, sparsity):
    each, params = PRICES[name], draw(seed, ties=ties)
    for w, scale in zip(kernels(params), (1e-3, 1.0, 30.0), strict=True):
        w *= scale  # so that the bounds bind
    divisor = int(np.gcd.reduce(each))
    prices = [x // divisor for x in each]
    budget = round(total(prices) * (1 - sparsity))
    run = functools.partial(masks.make, params, sparsity, scope="global", cost=of_leaves(each))
    fewest, most = (sum(map(int.__mul__, prices, side)) for side in (LOWER, UPPER))
    if not fewest <= budget <= most:
        with pytest.raises(ValueError, match="of the cost is out of reach in scope global"):
            run(**BOUNDS)
        return
    assert_same(run(**BOUNDS), top_cost(kernels(params), prices, budget, LOWER, UPPER))


def sweep(**options):
    """Masks at traced sparsities, all in one program."""
    return jax.jit(
        jax.vmap(lambda p, s: masks.make(p, s, scope="global", **options), in_axes=(None, 0))
    )


@pytest.mark.parametrize("name", ["small", "huge"])
def test_a_traced_sparsity_under_vmap(name):
    each, params = PRICES[name], draw(7, ties=True)
    sparsities = np.array([0, 0.125, 0.5, 0.75, 0.9375, 1 - 2**-20], np.float32)
    made = sweep(cost=of_leaves(each))(params, sparsities)
    for i, s in enumerate(sparsities.tolist()):
        expected = top_cost(kernels(params), each, round(total(each) * (1 - s)))
        assert_same(jax.tree.map(lambda mask, i=i: mask[i], made), expected)


def test_a_traced_sparsity_within_bounds():
    each, params = PRICES["small"], draw(8, ties=True)
    sparsities = np.array([0.3, 0.5, 0.75, 0.8], np.float32)
    made = sweep(cost=of_leaves(each), **BOUNDS)(params, sparsities)
    for i, s in enumerate(sparsities.tolist()):
        budget = round(total(each) * (1 - s))
        expected = top_cost(kernels(params), each, budget, LOWER, UPPER)
        assert_same(jax.tree.map(lambda mask, i=i: mask[i], made), expected)


# --- patterns -----------------------------------------------------------------------------------


def test_channels_pay_as_a_whole():
    """Channels of the first cost 6 = 24 / 4 and of the second 2 = 8 / 4; means 9 .. 2."""
    first = np.array([[9, 7, 5, 3]] * 3, np.float32)
    second = np.array([[8, 6, 4, 2]] * 2, np.float32)
    cost = {"0": 24, "1": 8}
    for budget, kept in ((32, (4, 4)), (24, (3, 3)), (15, (1, 1)), (16, (2, 2)), (5, (0, 0))):
        # Halves of what channels cost: 3 and 1, 16 in all.
        made = masks.make(
            [first, second], 1 - budget / 32, pattern=Channel(), scope="global", cost=cost
        )
        if budget == 15:  # round(7.5) is 8: 3 + 1 + 3 + 1
            kept = (2, 2)
        got = tuple(int(mask[0].sum()) for mask in made)
        assert got == kept, budget


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.75, 0.9])
def test_blocks_pay_as_a_whole(sparsity):
    rng = np.random.default_rng(9)
    means = [np.round(rng.normal(size=shape) * 2) for shape in ((4, 3), (2, 5))]
    leaves = [np.kron(x, np.ones((2, 2))).astype(np.float32) for x in means]
    made = masks.make(
        leaves, sparsity, pattern=Block((2, 2)), scope="global", cost={"0": 12 * 5, "1": 10 * 3}
    )
    expected = top_cost(means, (5, 3), round(90 * (1 - sparsity)))
    assert_same([mask[::2, ::2] for mask in made], expected)
    assert_same(made, [np.kron(x, np.ones((2, 2), bool)) for x in expected])


def members(w, n, m):
    """The n highest of every m along the last axis."""
    grouped = np.abs(w).reshape(*w.shape[:-1], -1, m)
    order = np.argsort(-grouped, axis=-1, kind="stable")
    chosen = np.zeros(grouped.shape, bool)
    np.put_along_axis(chosen, order[..., :n], True, axis=-1)
    return chosen.reshape(w.shape)


@pytest.mark.parametrize("bounds", [{}, {"max_sparsity": 0.875}], ids=["free", "bounded"])
@pytest.mark.parametrize("sparsity", [0.5, 0.6, 0.75, 0.84])
def test_members_of_groups_pay_first(sparsity, bounds):
    """In the end: among members, the ranking; what costs more is not kept for costing more."""
    leaves = [np.asarray(draw(i, ties=True, shapes={"a": (4, 8)})["a"]["kernel"]) for i in (1, 2)]
    leaves[1] = leaves[1] * 1e-2
    made = masks.make(
        leaves,
        sparsity,
        pattern=NM(2, 4, axis=-1),
        scope="global",
        cost={"0": 32 * 3, "1": 32 * 10},
        **bounds,
    )
    first = [members(w, 2, 4) for w in leaves]
    # What is no member ranks below NaN: as one more NaN at the end it is reached by no budget.
    ranked = [
        np.where(f, np.nan_to_num(np.abs(w), nan=-1, posinf=1e30), -2)
        for w, f in zip(leaves, first, strict=True)
    ]
    shifted = [x + 3 for x in ranked]
    lower = [4, 4] if bounds else [0, 0]
    expected = top_cost(shifted, (3, 10), round(416 * (1 - sparsity)), lower, [16, 16])
    assert_same(made, expected)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.4])
def test_others_follow_the_members(sparsity):
    """On the way to the pattern: all members are paid, and the rest of the budget by rank."""
    leaves = [np.random.default_rng(i).normal(size=(4, 8)).astype(np.float32) for i in (1, 2)]
    budget = round(13 * 32 * (1 - sparsity))
    first = [members(w, 2, 4) for w in leaves]
    ranked = [np.abs(w) + 100 * f for w, f in zip(leaves, first, strict=True)]
    tx = jaxprune.prune(
        sparsity=lambda step: jnp.where(step == 0, sparsity, 0.5),
        when=(0, 1),
        pattern=NM(2, 4, axis=-1),
        scope="global",
        cost={"0": 96, "1": 320},
    )
    zeros = [np.zeros_like(w) for w in leaves]
    _, state = jax.jit(tx.update)(zeros, tx.init(leaves), leaves)
    assert_same(jaxprune.get_masks(state), top_cost(ranked, (3, 10), budget))


# --- what it is for -----------------------------------------------------------------------------


def test_half_the_multiply_adds():
    """A convolution's weight is used at every position of 16 x 16, a dense layer's once."""
    rng = np.random.default_rng(0)
    params = {
        "conv": {"kernel": rng.normal(size=(3, 3, 4, 8)).astype(np.float32)},
        "dense": {"kernel": rng.normal(size=(512, 32)).astype(np.float32)},
    }
    macs = {"conv/kernel": 16 * 16 * 288, "dense/kernel": 512 * 32}
    made = masks.make(params, 0.5, scope="global", cost=macs)
    remaining = 256 * int(made["conv"]["kernel"].sum()) + int(made["dense"]["kernel"].sum())
    budget = sum(macs.values()) // 2
    assert 0 <= budget - remaining < 256
    by_size = masks.make(params, 0.5, scope="global")
    assert int(by_size["conv"]["kernel"].sum()) != int(made["conv"]["kernel"].sum())


def test_prune_params_takes_costs():
    params = draw(4, ties=False)
    cost = of_leaves((1, 3, 10))
    _, made = jaxprune.prune_params(params, 0.5, scope="global", cost=cost)
    assert_same(made, jax.tree.leaves(masks.make(params, 0.5, scope="global", cost=cost)))
    assert 0 <= 148 - paid(made, (1, 3, 10)) < 10


def test_a_leaf_without_weights_costs_nothing():
    params = {"empty": np.ones((0, 3), np.float32), "full": np.ones((2, 2), np.float32)}
    rules = [Rule("empty", dense=False)]
    made = masks.make(params, 0.5, scope="global", cost={"empty": 9, "full": 8}, rules=rules)
    assert [int(mask.sum()) for mask in jax.tree.leaves(made)] == [0, 2]
