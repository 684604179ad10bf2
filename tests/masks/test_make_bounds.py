"""Rankings over several leaves whose sparsities have bounds, against a greedy sort."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_oracle import assert_same, counts, draw, kernels, top_k

from jaxprune import Block, Rule, linear, masks

TOTAL = 68
seeds = st.integers(0, 2**32 - 1)
dyadic = st.integers(0, 2**20 - 1).map(lambda n: n / 2**20)

# max_sparsity, min_sparsity, rules -> the bounds on what a, b and c keep of 24, 24 and 20
CONFIGS = {
    "both": ({"max_sparsity": 0.875, "min_sparsity": 0.25}, [3, 3, 2], [18, 18, 15]),
    "by rule": (
        {
            "min_sparsity": 0.125,
            "rules": [
                Rule("a/.*", max_sparsity=0.5),
                Rule("c/.*", min_sparsity=0.75, max_sparsity=0.75),
            ],
        },
        [12, 0, 5],
        [21, 21, 5],
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
@given(seeds, st.booleans(), dyadic)
def test_a_bounded_ranking_is_the_greedy_one(name, seed, ties, sparsity):
    options, lower, upper = CONFIGS[name]
    params, kept = draw(seed, ties=ties), round(TOTAL * (1 - sparsity))
    for w, scale in zip(kernels(params), (1e-3, 1.0, 30.0), strict=True):
        w *= scale  # so that the bounds bind
    if not sum(lower) <= kept <= sum(upper):
        with pytest.raises(ValueError, match="is out of reach in scope global"):
            masks.make(params, sparsity, scope="global", **options)
        return
    made = masks.make(params, sparsity, scope="global", **options)
    assert sum(counts(made)) == kept
    for count, low, high in zip(counts(made), lower, upper, strict=True):
        assert low <= count <= high
    assert_same(made, top_k(kernels(params), kept, lower, upper))


TRACED = jax.jit(lambda params, s: masks.make(params, s, scope="global", **CONFIGS["both"][0]))


@given(seeds, st.booleans(), dyadic.map(lambda s: 0.25 + 0.625 * s))
def test_a_traced_sparsity_obeys_the_same_bounds(seed, ties, sparsity):
    _, lower, upper = CONFIGS["both"]
    params, kept = draw(seed, ties=ties), round(TOTAL * (1 - sparsity))
    for w, scale in zip(kernels(params), (1e-3, 1.0, 30.0), strict=True):
        w *= scale
    assert_same(TRACED(params, sparsity), top_k(kernels(params), kept, lower, upper))


@pytest.mark.parametrize(
    ("bound", "size", "name", "kept"),
    [({"max_sparsity": 0.9}, 100, "low", 10), ({"min_sparsity": 0.7}, 10, "high", 3)],
    ids=["max", "min"],
)
def test_bounds_are_meant_as_decimals(bound, size, name, kept):
    """1 - 0.9 is a little below 0.1 and 1 - 0.7 a little above 0.3: neither moves a bound."""
    shape = (2, size // 2)
    params = {
        "low": {"kernel": np.linspace(0.1, 0.2, size, dtype=np.float32).reshape(shape)},
        "high": {"kernel": np.linspace(1, 2, size, dtype=np.float32).reshape(shape)},
    }
    made = masks.make(params, 0.75, scope="global", **bound)
    assert int(made[name]["kernel"].sum()) == kept


def test_leaf_scope_keeps_to_the_bounds_of_the_allocation():
    params = draw(0, ties=False)
    rules = [Rule("a/.*", max_sparsity=0.5)]
    made = masks.make(params, 0.75, rules=rules)
    assert counts(made)[0] == 12
    assert sum(counts(made)) == 17


def test_one_leaf_in_global_scope_is_ranked_not_allocated():
    params = {"kernel": np.arange(16, dtype=np.float32).reshape(4, 4)}
    make = jax.jit(lambda s: masks.make(params, s, scope="global", max_sparsity=0.75))
    assert counts(make(0.5)) == [8]


def test_no_leaf_is_emptied():
    """8 blocks at most 90 % sparse: one at least is left."""
    shape = (8, 16)
    params = {
        "low": {"kernel": np.full(shape, 0.1, np.float32)},
        "high": {"kernel": np.full(shape, 1.0, np.float32)},
    }
    made = masks.make(params, 0.5, scope="global", max_sparsity=0.9, pattern=Block((4, 4)))
    assert int(made["low"]["kernel"].sum()) == 16


def test_bounds_that_contradict_each_other():
    with pytest.raises(ValueError, match=r"min_sparsity=0\.6 exceeds max_sparsity=0\.5"):
        masks.make(draw(0, ties=False), 0.5, scope="global", min_sparsity=0.6, max_sparsity=0.5)


def test_bounds_of_an_allocation_need_a_sparsity_known_on_the_host():
    params = draw(0, ties=False)
    with pytest.raises(TypeError, match="min_sparsity or max_sparsity of leaves that share"):
        jax.jit(lambda s: masks.make(params, s, max_sparsity=0.5))(0.5)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.95])
def test_bounds_win_over_a_traced_sparsity_out_of_reach(sparsity):
    _, lower, upper = CONFIGS["both"]
    made = TRACED(draw(0, ties=False), sparsity)
    for count, low, high in zip(counts(made), lower, upper, strict=True):
        assert low <= count <= high


@pytest.mark.parametrize("bound", ["min_sparsity", "max_sparsity"])
def test_a_sparsity_of_its_own_has_no_use_for_bounds(bound):
    with pytest.raises(ValueError, match=f"leaves no use for {bound}"):
        Rule("a/.*", sparsity=0.5, **{bound: 0.5})


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
@pytest.mark.parametrize("scope", ["leaf", "global"])
def test_a_rule_with_a_schedule_that_falls_is_read_at_its_end(scope, sparsity):
    rules = [Rule("a/.*", sparsity=linear(0.5, begin=0, end=4, init=0.9))]
    bounds = {"min_sparsity": sparsity, "max_sparsity": 0.75}
    made = masks.make(draw(0, ties=False), sparsity, scope=scope, rules=rules, **bounds)
    assert counts(made)[0] == 12
    assert counts(made)[1:] == [24 * (1 - sparsity), 20 * (1 - sparsity)]


@pytest.mark.parametrize("scope", ["leaf", "global"])
def test_a_lower_bound_that_a_sparsity_of_0_cannot_meet(scope):
    with pytest.raises(ValueError, match=r"sparsity=0.*0\.25 to 1"):
        masks.make(draw(0, ties=False), 0.0, scope=scope, min_sparsity=0.25)


@pytest.mark.as_users
@pytest.mark.parametrize("kept", [9 << 17, 3 << 20, (3 << 20) + 1, (1 << 22) + 5000])
def test_bounds_of_a_leaf_that_is_counted_in_rows(kept):
    """Of two leaves the other takes what a bound refuses; in each the best are kept, in order."""
    zeros_and_ones = np.tile(np.arange(1 << 22) % 2, 2).astype(np.float32)
    low, high = zeros_and_ones.reshape(128, -1), np.full((1 << 10, 1 << 10), 2, np.float32)
    total = low.size + high.size
    made = masks.make(
        [low, high], 1 - kept / total, scope="global", min_sparsity=0.25, max_sparsity=0.875
    )
    of_high = min(3 << 18, max(kept - low.size // 8, 1 << 17))
    assert counts(made) == [kept - of_high, of_high]
    best = np.argsort(zeros_and_ones < 1, kind="stable")[: kept - of_high]
    expected = np.zeros(low.size, bool)
    expected[best] = True
    np.testing.assert_array_equal(np.ravel(made[0]), expected)
    np.testing.assert_array_equal(np.ravel(made[1]), np.arange(high.size) < of_high)
