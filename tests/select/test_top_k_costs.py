"""Budgets: the longest run of a ranking that can be paid, against Python integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from select_oracle import DTYPES, special_bits, top_cost

from jaxprune import select
from jaxprune.select import _wide
from jaxprune.select._select import select as select_sources
from jaxprune.select._source import Source

SHAPES = [(7, 5), (0, 3), (), (64,), (2, 3, 4), (1,)]
MIXED = ["float32", "bfloat16", "float16", "float32", "float16", "bfloat16"]
GROUPS = {"one": (0,) * 6, "two": (0, 1, 0, 1, 1, 0), "reversed": (2, 2, 1, 1, 0, 0)}
COSTS = {
    "small": (3, 1, 5, 2, 7, 1),
    "zeros": (0, 4, 0, 3, 0, 0),
    "huge": (2**40 // 64, 1, 2**40, 3, 2**35 + 1, 2**40 - 1),
    "limit": (3, 1, 5, (2**45 - 1000) // 64, 7, 1),
    "equal": (6, 6, 6, 6, 6, 6),
}


def check(leaves, k, groups, costs):
    masks = select.top_k_masks(list(map(jnp.asarray, leaves)), k, groups=groups, costs=costs)
    for group, budget in enumerate(k):
        own = [i for i, g in enumerate(groups) if g == group]
        expected = top_cost([leaves[i] for i in own], [costs[i] for i in own], budget)
        for i, mask in zip(own, expected, strict=True):
            np.testing.assert_array_equal(masks[i], mask, err_msg=f"leaf {i}, {k=}")
    return masks


def totals(groups, costs):
    total = [0] * (max(groups) + 1)
    for shape, group, cost in zip(SHAPES, groups, costs, strict=True):
        total[group] += int(np.prod(shape, dtype=np.int64)) * cost
    return total


KEY_CASES = [*((name, "small") for name in GROUPS), *(("two", price) for price in COSTS)]


@pytest.mark.parametrize(("name", "price"), dict.fromkeys(KEY_CASES))
@settings(max_examples=25)
@given(data=st.data())
def test_any_scores(name, price, data):
    leaves = []
    for shape, dtype in zip(SHAPES, MIXED, strict=True):
        kind, unsigned, _ = DTYPES[dtype]
        bits = st.sampled_from(special_bits(dtype)) | hnp.from_dtype(np.dtype(unsigned))
        leaves.append(data.draw(hnp.arrays(unsigned, shape, elements=bits)).view(kind))
    k = [data.draw(st.integers(0, total)) for total in totals(GROUPS[name], COSTS[price])]
    check(leaves, k, GROUPS[name], COSTS[price])


@pytest.mark.parametrize(
    ("dtype", "price"), [("float32", "huge"), ("bfloat16", "zeros"), ("float16", "small")]
)
def test_ties_are_paid_in_order(dtype, price):
    """All equal: the first array that cannot be paid in full is the last that keeps any."""
    leaves = [np.full(shape, 0.5, DTYPES[dtype][0]) for shape in SHAPES]
    for fraction in (0, 0.1, 0.5, 0.93, 1):
        for groups in (GROUPS["one"], GROUPS["two"]):
            k = [int(total * fraction) for total in totals(groups, COSTS[price])]
            check(leaves, k, groups, COSTS[price])


def test_every_budget():
    rng = np.random.default_rng(0)
    leaves = [np.round(rng.normal(size=s) * 2).astype(np.float32) for s in ((9,), (2, 4), (5,))]
    for costs in ((1, 4, 9), (0, 2, 3), (5, 0, 0)):
        total = sum(x.size * cost for x, cost in zip(leaves, costs, strict=True))
        for k in range(total + 2):
            check(leaves, [k], (0, 0, 0), costs)


def test_what_costs_nothing_follows_as_far_as_the_ranking_goes():
    free, paid = np.array([4, 3, 1], np.float32), np.array([5, 2], np.float32)
    for k, kept in ((0, 0), (1, 3), (2, 5)):
        masks = check([free, paid], [k], (0, 0), (0, 1))
        assert sum(int(mask.sum()) for mask in masks) == kept


def test_costs_of_1_are_counts():
    rng = np.random.default_rng(1)
    leaves = [put(rng.normal(size=n), jnp.float32) for n in (30, 50)]
    for k in (0, 17, 80):
        one = select.top_k_masks(leaves, [k], groups=(0, 0), costs=(1, 1))
        for a, b in zip(one, select.top_k_masks(leaves, [k], groups=(0, 0)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_traced_budget_under_vmap():
    rng = np.random.default_rng(2)
    leaves = [np.round(rng.normal(size=n) * 4).astype(np.float32) for n in (40, 60)]
    budgets = np.array([-5, 0, 1, 99, 250, 460, 1000], np.int32)

    def run(k):
        return select.top_k_masks(list(map(jnp.asarray, leaves)), [k], groups=(0, 0), costs=(7, 3))

    made = jax.jit(jax.vmap(run))(budgets)
    for i, k in enumerate(budgets.tolist()):
        for mask, expected in zip(made, top_cost(leaves, (7, 3), k), strict=True):
            np.testing.assert_array_equal(mask[i], expected)


@pytest.mark.usefixtures("search_kind")
@pytest.mark.parametrize("longest", [1, 2, 7, 60])
def test_budgets_do_not_depend_on_rows(longest):
    rng = np.random.default_rng(longest)
    exact = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4, 5), (2, 15))]
    costs = (2, 11)

    @jax.jit
    def run(arrays, budget):
        sources = [Source(x) for x in arrays]
        return select_sources(sources, (0, 0), budget, costs=costs, longest=longest)

    for leaves in (exact, [np.round(x) for x in exact]):  # of the second many are equal
        for k in (0, 1, 40, 200, 333, 449, 450):
            made = run(leaves, _wide.constant([k]))
            for mask, expected in zip(made, top_cost(leaves, costs, k), strict=True):
                np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("costs", "error", "message"),
    [
        ((1,), ValueError, "costs has 1 entries for 2 arrays"),
        ((1, 2.0), TypeError, r"costs holds 2\.0"),
        ((True, 1), TypeError, "costs holds True"),
        ((1, -2), ValueError, "costs holds -2"),
        ((1, 2**44), ValueError, r"all of a group costs .* less than 2\*\*45"),
    ],
)
def test_costs_that_do_not_fit(costs, error, message):
    with pytest.raises(error, match=message):
        select.top_k_masks([jnp.ones(2), jnp.ones(3)], [1], groups=(0, 0), costs=costs)
