"""`masks.make` without structure: exact counts, and the weights that a sort would keep."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_oracle import SHAPES, assert_same, counts, draw, kernels, top_k

from jaxprune import Rule, allocate, masks, scores

pytestmark = pytest.mark.as_users

SIZES = [24, 24, 20]
TOTAL = 68
seeds = st.integers(0, 2**32 - 1)
sparsities = st.floats(0, 1, exclude_max=True) | st.integers(0, 99).map(lambda n: n / 100)


def label(path):
    return "one" if path.startswith("b") else "other"


# --- counts -------------------------------------------------------------------------------------


@given(sparsities)
def test_every_leaf_keeps_what_python_rounds_to(sparsity):
    shapes = [(3, 2), (5, 3), (7, 5), (16, 16), (0, 4)]
    params = [np.arange(np.prod(s), dtype=np.float32).reshape(s) for s in shapes]
    made = masks.make(params, sparsity, rules=[Rule(".*", dense=False)])
    assert [mask.shape for mask in made] == shapes
    assert counts(made) == [round(int(np.prod(s)) * (1 - sparsity)) for s in shapes]


def test_counts_past_what_float32_holds():
    size = 20_000_003
    w = jnp.arange(size, dtype=jnp.uint32).astype(jnp.bfloat16).reshape(1, size)
    for sparsity in (0.9, 1e-7, 0.333):
        made = masks.make(w, sparsity, rules=[Rule(".*", dense=False)])
        assert masks.density(made) == round(size * (1 - sparsity)) / size


@pytest.mark.parametrize("sparsity", [np.float32(0.9), np.float64(0.9), jnp.float32(0.9)])
def test_a_float32_sparsity_is_its_decimal(sparsity):
    # 5 * (1 - 0.9) is below one half, 5 * (1 - float32(0.9)) above it.
    w = [np.ones((1, 5), np.float32)]
    assert counts(masks.make(w, sparsity, rules=[Rule(".*", dense=False)])) == [
        round(5 * (1 - 0.9))
    ]


# --- which weights ------------------------------------------------------------------------------


@given(seeds, st.booleans(), sparsities)
def test_leaf_scope(seed, ties, sparsity):
    params = draw(seed, ties=ties)
    expected = [top_k([w], round(w.size * (1 - sparsity)))[0] for w in kernels(params)]
    assert_same(masks.make(params, sparsity), expected)


@given(seeds, st.booleans(), sparsities)
def test_global_scope(seed, ties, sparsity):
    params = draw(seed, ties=ties)
    expected = top_k(kernels(params), round(TOTAL * (1 - sparsity)))
    assert_same(masks.make(params, sparsity, scope="global"), expected)


@given(seeds, st.booleans(), sparsities)
def test_labelled_scope(seed, ties, sparsity):
    params = draw(seed, ties=ties)
    a, b, c = kernels(params)
    first, last = top_k([a, c], round(44 * (1 - sparsity)))
    (middle,) = top_k([b], round(24 * (1 - sparsity)))
    assert_same(masks.make(params, sparsity, scope=label), [first, middle, last])


@given(seeds, st.booleans(), sparsities)
def test_global_scope_over_dtypes(seed, ties, sparsity):
    params = draw(seed, ties=ties)
    dtypes = {"a": ml_dtypes.bfloat16, "b": np.float16, "c": np.float32}
    with np.errstate(under="ignore"):
        params = {n: {"kernel": params[n]["kernel"].astype(dtypes[n])} for n in dtypes}
    expected = top_k(kernels(params), round(TOTAL * (1 - sparsity)))
    assert_same(masks.make(params, sparsity, scope="global"), expected)


@given(seeds, sparsities)
def test_every_float_dtype(seed, sparsity):
    rng = np.random.default_rng(seed)
    dtypes = [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float8_e4m3fn, jnp.float8_e5m2]
    params = [rng.integers(-4, 5, (4, 7)).astype(dtype) for dtype in dtypes]
    params[3].view(np.uint8)[0, 0] = 0x7F  # NaN
    expected = [top_k([w], round(28 * (1 - sparsity)))[0] for w in params]
    assert_same(masks.make(params, sparsity), expected)


def test_one_nan_costs_one_weight():
    """JaxPruner's global pruning keeps 0 of 10,000 here."""
    w = np.linspace(1, 2, 10_000, dtype=np.float32).reshape(100, 100)
    w[3, 4] = np.nan
    made = masks.make({"kernel": w}, 0.0, scope="global")
    assert masks.density(made) == 1
    made = masks.make({"kernel": w}, 1e-4, scope="global")
    assert not made["kernel"][3, 4]
    assert counts(made) == [9_999]


def test_global_scores_are_compared_as_they_are():
    params = {"small": {"kernel": np.full((4, 4), 1e-3)}, "large": {"kernel": np.full((4, 4), 1.0)}}
    made = masks.make(params, 0.5, scope="global")
    assert np.asarray(made["large"]["kernel"]).all()
    assert not np.asarray(made["small"]["kernel"]).any()


# --- allocations and rules ----------------------------------------------------------------------


@given(seeds, sparsities)
def test_an_allocation_gives_exact_totals(seed, sparsity):
    params = draw(seed, ties=False)
    made = masks.make(params, sparsity, allocate=allocate.erdos_renyi_kernel)
    leaves = {
        f"{name}/kernel": allocate.Leaf(shape, int(np.prod(shape)))
        for name, shape in SHAPES.items()
    }
    kept = allocate.erdos_renyi_kernel(leaves, sparsity)
    assert counts(made) == list(kept.values())
    assert sum(counts(made)) == round(TOTAL * (1 - sparsity))
    assert_same(
        made, [top_k([w], k)[0] for w, k in zip(kernels(params), counts(made), strict=True)]
    )


def test_a_mapping_gives_sparsities_by_path():
    params = draw(0, ties=False)
    made = masks.make(params, 0.5, allocate={"a/kernel": 0.75, "c/.*": 0.0})
    assert counts(made) == [6, 12, 20]


@given(seeds, st.booleans(), sparsities)
def test_a_rule_with_a_sparsity_of_its_own_stands_outside_the_ranking(seed, ties, sparsity):
    params = draw(seed, ties=ties)
    a, b, c = kernels(params)
    first, last = top_k([a, c], round(44 * (1 - sparsity)))
    (own,) = top_k([b], 6)
    made = masks.make(params, sparsity, scope="global", rules=[Rule("b/.*", sparsity=0.75)])
    assert_same(made, [first, own, last])


def test_a_rule_with_a_score_of_its_own():
    params = draw(0, ties=False)
    a, b, c = kernels(params)
    rules = [Rule("b/.*", score=lambda w: -jnp.abs(w))]
    made = masks.make(params, 0.25, rules=rules)
    assert_same(made, [top_k([a], 18)[0], ~top_k([b], 6)[0], top_k([c], 15)[0]])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"a/kernel": 100, "b/kernel": 1, "c/kernel": 1}, ValueError),
        ({"a/kernel": 2.5, "b/kernel": 1, "c/kernel": 1}, (TypeError, ValueError)),
        ({"a/kernel": -1, "b/kernel": 1, "c/kernel": 1}, ValueError),
        ({"b/kernel": 1, "c/kernel": 1}, (TypeError, ValueError)),
    ],
    ids=["too many", "no integer", "negative", "a leaf forgotten"],
)
def test_an_allocation_that_does_not_fit_names_the_leaf(answer, error):
    with pytest.raises(error, match="a/kernel"):
        masks.make(draw(0, ties=False), 0.5, allocate=lambda leaves, sparsity: answer)


# --- jit and vmap -------------------------------------------------------------------------------

TRACED = jax.jit(lambda params, s: masks.make(params, s, scope=label))


@given(seeds, st.booleans(), st.integers(0, 2**24 - 1))
def test_a_traced_sparsity_is_as_exact_as_a_static_one(seed, ties, numerator):
    params, sparsity = draw(seed, ties=ties), numerator / 2**24
    static = masks.make(params, sparsity, scope=label)
    assert_same(TRACED(params, sparsity), jax.tree.leaves(static))


def test_nothing_recompiles_when_the_sparsity_changes():
    made = jax.jit(lambda w, s: masks.make({"kernel": w}, s))
    w = np.arange(12, dtype=np.float32).reshape(3, 4)
    for sparsity in (0.0, 0.1, 0.5, 0.999):
        assert counts(made(w, sparsity)) == [round(12 * (1 - np.float32(sparsity)))]
    assert made._cache_size() == 1


def test_vmap_over_params_and_sparsities():
    members = [draw(seed, ties=seed % 2 == 0) for seed in range(4)]
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *members)
    sparsities = np.array([0.0, 0.25, 0.5, 0.875], np.float32)
    made = jax.vmap(lambda p, s: masks.make(p, s, scope="global"))(stacked, sparsities)
    for i, (params, s) in enumerate(zip(members, sparsities.tolist(), strict=True)):
        assert_same(
            jax.tree.map(lambda x, i=i: x[i], made), top_k(kernels(params), round(TOTAL * (1 - s)))
        )


def test_a_rules_own_sparsity_is_static_also_beside_a_traced_one():
    """5 * (1 - 0.9) is 0.4999... in Python, and 0.5000001 in float32."""
    params = {"w1": np.ones((1, 5), np.float32), "w2": np.ones((2, 5), np.float32)}
    rules = [Rule("w1", dense=False, sparsity=0.9)]
    traced = jax.jit(lambda s: masks.make(params, s, rules=rules))(0.5)
    assert counts(traced) == counts(masks.make(params, 0.5, rules=rules)) == [0, 5]


def test_sparsities_out_of_range_are_clipped_under_jit():
    made = jax.jit(lambda w, s: masks.make({"kernel": w}, s))
    w = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert counts(made(w, -0.5)) == [12]
    assert counts(made(w, 1.5)) == [0]


# --- trees --------------------------------------------------------------------------------------


def test_the_tree_of_the_params_is_kept():
    w = np.arange(8, dtype=np.float32).reshape(2, 4)
    params = {"layers": [(w, w[0]), (w, None)], "empty": {}, "step": 3}
    made = masks.make(params, 0.5)
    assert made["empty"] == {}
    assert made["step"] is None
    assert [bias for _, bias in made["layers"]] == [None, None]
    for mask, _ in made["layers"]:
        np.testing.assert_array_equal(mask, w >= 4)


def test_numpy_and_jax_arrays_give_the_same():
    params = draw(5, ties=True)
    on_device = jax.tree.map(jnp.asarray, params)
    assert_same(masks.make(on_device, 0.5), jax.tree.leaves(masks.make(params, 0.5)))


def test_grads_reach_the_criterion_also_with_none_in_the_tree():
    score = scores.Criterion(lambda w, *, grad: jnp.abs(w * grad), needs=("grad",))
    w = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    grads = {"kernel": w[::-1, ::-1] ** 3, "bias": None}
    made = masks.make({"kernel": w, "bias": None}, 0.5, score=score, grads=grads)
    np.testing.assert_array_equal(made["kernel"], [[True, True], [False, False]])
    assert made["bias"] is None
