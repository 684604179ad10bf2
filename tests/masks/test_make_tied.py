"""Masks of tied axes, against loops in NumPy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tied_oracle as oracle
from compilations import heard
from draws import put
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxprune as jp
from jaxprune.patterns import Group, Member, Tied

seeds = st.integers(0, 2**32 - 1)
sparsities = st.integers(0, 2**8 - 1).map(lambda n: n / 2**8)
NET, MLP = oracle.net(), oracle.mlp()
SIZES = [group.size for group in NET.groups]


def tree(leaves):
    return oracle.nested({path: put(w) for path, w in leaves.items()})


def rounded(sparsity):
    return [round(size * (1 - sparsity)) for size in SIZES]


@settings(max_examples=25)
@given(seeds, sparsities)
def test_each_group_keeps_its_best_units(seed, sparsity):
    """Exactly round(size * (1 - s)); of equal units the earlier; a NaN is the lowest."""
    leaves = oracle.integers(seed, nan=0.02)
    masks = jp.masks.make(tree(leaves), sparsity, pattern=NET)
    oracle.assert_masks(masks, oracle.masks_of(NET, leaves, rounded(sparsity)))


@settings(max_examples=25)
@given(seeds, sparsities)
def test_jit_with_a_traced_sparsity_is_eager(seed, sparsity):
    leaves = oracle.integers(seed, nan=0.02)
    oracle.assert_masks(
        COMPILED(tree(leaves), sparsity), oracle.masks_of(NET, leaves, rounded(sparsity))
    )


COMPILED = jax.jit(lambda params, s: jp.masks.make(params, s, pattern=NET))


def test_units_of_equal_score_and_of_nan():
    leaves = {path: np.ones(shape, np.float32) for path, shape in oracle.MLP.items()}
    made = jp.masks.make(tree(leaves), 0.6, pattern=MLP)
    assert made["a"]["bias"].tolist() == [True, True, False, False, False]
    assert made["b"]["bias"] is None
    leaves["a/bias"][0] = np.nan  # which one weight of a unit is enough for
    made = jp.masks.make(tree(leaves), 0.2, pattern=MLP)
    assert made["a"]["bias"].tolist() == [False, True, True, True, True]


def test_groups_that_say_how_many_they_keep():
    leaves = oracle.integers(7)
    tied = oracle.net(stream=3, heads=2, left=0)
    masks = jp.masks.make(tree(leaves), 0.5, pattern=tied)
    oracle.assert_masks(masks, oracle.masks_of(tied, leaves, [3, 2, round(3 * 0.5), 0, 1]))
    assert not masks["left"]["kernel"].any()


@pytest.mark.parametrize("size", [3, 7, 100, 1001])
def test_keep_is_exact(size):
    """Also where 1 - keep / size is no float, at a traced sparsity, too."""
    w = {"w": jnp.arange(1.0, size + 1)}
    made = jax.jit(lambda s, tied: jp.masks.make(w, s, pattern=tied), static_argnums=1)
    for keep in {0, 1, size // 3, size - 1, size}:
        tied = Tied([Group("g", size, keep)], [Member("w", (size,), 0, 0, range(size))])
        expected = np.arange(size) >= size - keep
        np.testing.assert_array_equal(jp.masks.make(w, 0.5, pattern=tied)["w"], expected)
        if size == 7:
            np.testing.assert_array_equal(made(0.5, tied)["w"], expected)


def test_groups_that_are_ranked_together():
    leaves = oracle.integers(8)
    sums = oracle.unit_scores(NET, {path: np.abs(w) for path, w in leaves.items()})
    masks = jp.masks.make(tree(leaves), 0.5, pattern=NET, scope="global")
    kept = oracle.best(sums, round(sum(SIZES) * 0.5))
    oracle.assert_masks(masks, oracle.expand(NET, kept))
    masks = jp.masks.make(
        tree(leaves), 0.5, pattern=NET, scope=lambda name: "cat" if name in "left right" else name
    )
    numbers = rounded(0.5)
    kept = [oracle.best([x], n)[0] for x, n in zip(sums[:3], numbers[:3], strict=True)]
    kept += oracle.best(sums[3:], round(5 * 0.5))
    oracle.assert_masks(masks, oracle.expand(NET, kept))


def test_a_group_with_a_number_is_left_out_of_a_ranking():
    leaves, tied = oracle.integers(9), oracle.net(stream=1)
    sums = oracle.unit_scores(tied, {path: np.abs(w) for path, w in leaves.items()})
    masks = jp.masks.make(tree(leaves), 0.5, pattern=tied, scope="global")
    kept = [*oracle.best(sums[:1], 1), *oracle.best(sums[1:], round(10 * 0.5))]
    oracle.assert_masks(masks, oracle.expand(tied, kept))


def test_bounds_are_those_of_groups():
    leaves = oracle.integers(10)
    masks = jp.masks.make(tree(leaves), 0.6, pattern=NET, scope="global", max_sparsity=0.75)
    kept = oracle.kept_units(NET, masks)
    assert sum(kept) == round(14 * 0.4)
    assert all(k >= max(1, int(size * 0.25)) for k, size in zip(kept, SIZES, strict=True))


def test_a_mapping_names_groups():
    leaves = oracle.integers(11)
    masks = jp.masks.make(
        tree(leaves), 0.0, pattern=NET, allocate={"stream": 0.75, "left|right": 0.4}
    )
    numbers = [1, 2, 3, round(3 * 0.6), round(2 * 0.6)]
    oracle.assert_masks(masks, oracle.masks_of(NET, leaves, numbers))


def test_an_allocation_sees_groups():
    def one_more(leaves, sparsity):
        assert {name: leaf.shape for name, leaf in leaves.items()} == {
            group.name: (group.size,) for group in NET.groups
        }
        return dict.fromkeys(leaves, 1)

    leaves = oracle.integers(12)
    masks = jp.masks.make(tree(leaves), 0.5, pattern=NET, allocate=one_more)
    oracle.assert_masks(masks, oracle.masks_of(NET, leaves, [1] * 5))


def test_costs_are_those_of_groups():
    """A unit of the stream costs as much as all else: a budget of a quarter pays for one."""
    params = {"w": jnp.array([9.0, 1.0]), "v": jnp.array([5.0, 4.0])}
    tied = Tied(
        [Group("dear", 2), Group("cheap", 2)],
        [Member("w", (2,), 0, 0, [0, 1]), Member("v", (2,), 0, 1, [0, 1])],
    )
    cost = {"dear": 6, "cheap": 2}
    masks = jp.masks.make(params, 0.375, pattern=tied, scope="global", cost=cost)
    assert masks["w"].tolist() == [True, False]
    assert masks["v"].tolist() == [True, True]


def test_rules_may_give_members_a_score():
    """Network slimming: the scale of the norm alone says which channels of the stream go."""
    leaves = oracle.integers(13)
    rules = [jp.Rule(".*/scale", score=jnp.abs), jp.Rule(".*", score=jnp.zeros_like)]
    masks = jp.masks.make(tree(leaves), 0.5, pattern=NET, rules=rules)
    scores = {path: np.abs(w) * (path == "norm/scale") for path, w in leaves.items()}
    sums = oracle.unit_scores(NET, scores)
    kept = [oracle.best([x], n)[0] for x, n in zip(sums, rounded(0.5), strict=True)]
    oracle.assert_masks(masks, oracle.expand(NET, kept))


def test_what_is_in_no_group_is_dense():
    params = tree(oracle.integers(14)) | {"other": {"kernel": jnp.ones((4, 4))}, "n": jnp.arange(2)}
    rules = [jp.Rule("other/.*", dense=True), jp.Rule(".*kernel", score=jnp.square)]
    masks = jp.masks.make(params, 0.5, pattern=NET, rules=rules)
    assert masks["other"]["kernel"] is None
    assert masks["n"] is None
    plan = jp.plan(params, 0.5, pattern=NET, rules=rules)
    by_path = {leaf.path: leaf for leaf in plan.leaves}
    assert by_path["other/kernel"].dense == "rule"
    assert by_path["n"].dense == "in no tied group"


def uneven(w):
    """Below 0, and not alike for weights that are 0."""
    return w - (np.arange(w.size, dtype=np.float32) % 7 + 1).reshape(w.shape)


def dead_and_alive(leaves, alive):
    """Sums where a pruned weight counts nothing, and a unit without weights is the lowest."""
    scores = {path: np.where(alive[path], uneven(w), 0) for path, w in leaves.items()}
    left = oracle.unit_scores(NET, {path: mask.astype(float) for path, mask in alive.items()})
    sums = oracle.unit_scores(NET, scores)
    return [
        np.where(n > 0, np.where(np.isnan(x), -1e30, x), -np.inf)
        for x, n in zip(sums, left, strict=True)
    ]


@settings(max_examples=10)
@given(seeds)
def test_what_a_round_prunes_stays_pruned(seed):
    """Scores below 0: a unit that is gone scores 0, and one that lives less."""
    leaves = {path: -np.abs(w) for path, w in oracle.integers(seed, nan=0.01).items()}
    pruned, masks = jp.prune_params(tree(leaves), 0.75, pattern=NET, score=uneven, rounds=2)
    alive = {path: np.ones(w.shape, bool) for path, w in leaves.items()}
    for sparsity in (0.5, 0.75):
        leaves = {path: np.where(alive[path], w, 0) for path, w in leaves.items()}
        sums = dead_and_alive(leaves, alive)
        kept = [oracle.best([x], n)[0] for x, n in zip(sums, rounded(sparsity), strict=True)]
        alive = oracle.expand(NET, kept)
    oracle.assert_masks(masks, alive)
    assert all((w[~alive[path]] == 0).all() for path, w in oracle.flat(pruned).items())


def test_a_nan_is_above_what_is_pruned():
    """Four units of five are NaN: of the two that round 1 keeps, round 2 keeps the first."""
    leaves = {path: np.ones(shape, np.float32) for path, shape in oracle.MLP.items()}
    leaves["a/bias"][:4] = np.nan
    _, masks = jp.prune_params(tree(leaves), 0.6, pattern=MLP, rounds=2)
    assert masks["a"]["bias"].tolist() == [True, False, False, False, True]


def test_gradients_and_memories():
    """Of every member, those of biases and scales, too."""
    leaves, grads = oracle.integers(15), oracle.integers(16)
    masks = jp.masks.make(
        tree(leaves), 0.5, pattern=NET, score=jp.scores.saliency, grads=tree(grads)
    )
    products = {path: w * grads[path] for path, w in leaves.items()}
    oracle.assert_masks(masks, oracle.masks_of(NET, products, rounded(0.5)))
    _, masks = jp.prune_params(
        tree(leaves),
        0.5,
        pattern=NET,
        score=jp.scores.snip,
        loss=lambda params, g: sum(
            jnp.sum(x * y) for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(g), strict=True)
        ),
        batches=[tree(grads)],
    )
    oracle.assert_masks(masks, oracle.masks_of(NET, products, rounded(0.5)))


def test_any_float_dtype():
    leaves = oracle.integers(17)
    params = {p: put(w, jnp.bfloat16) for p, w in leaves.items()}
    params["norm/scale"] = params["norm/scale"].astype(jnp.float16)
    params["mix/kernel"] = params["mix/kernel"].astype(jnp.float8_e4m3fn)
    masks = jp.masks.make(oracle.nested(params), 0.5, pattern=NET)
    oracle.assert_masks(masks, oracle.masks_of(NET, leaves, rounded(0.5)))


def test_under_vmap():
    each = [oracle.integers(seed) for seed in (18, 19)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *map(tree, each))
    made = jax.vmap(lambda params, s: jp.masks.make(params, s, pattern=NET))(
        stacked, jnp.array([0.5, 0.25])
    )
    for i, sparsity in enumerate((0.5, 0.25)):
        own = jax.tree.map(lambda x: x[i], made)  # noqa: B023
        oracle.assert_masks(own, oracle.masks_of(NET, each[i], rounded(sparsity)))


def test_nothing_recompiles_when_the_sparsity_or_the_plan_changes():
    params = tree(oracle.integers(20))
    jp.masks.make(params, 0.5, pattern=NET)

    with heard() as compiled:
        jp.masks.make(params, 0.25, pattern=oracle.net())
        jp.masks.make(params, 0.25, pattern=NET.planned({"stream": 2, "left": 1}))
    assert not compiled
    made = jax.jit(lambda s: jp.masks.make(params, s, pattern=NET))
    for sparsity in (0.5, 0.25):
        made(sparsity)
    assert made._cache_size() == 1


def test_plan():
    params = tree(oracle.integers(21))
    masks = oracle.flat(jp.masks.make(params, 0.5, pattern=NET))
    leaves = jp.plan(params, jp.linear(0.5, begin=0, end=9), pattern=NET).leaves
    assert [leaf.kept for leaf in leaves] == [int(masks[leaf.path].sum()) for leaf in leaves]
    by_path = {leaf.path: leaf for leaf in leaves}
    assert by_path["attn/in/kernel"].ranked_with == "stream, heads, dims"
    assert by_path["attn/in/kernel"].pattern == "tied"
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    assert {leaf.kept for leaf in jp.plan(shapes, 0.5, pattern=NET).leaves} == {None}
    assert "stream, heads" in jp.plan(params, 0.5, pattern=NET).leaves[0].ranked_with
    assert "mix/kernel" in str(jp.summary(params, jp.masks.make(params, 0.5, pattern=NET)))


def without(params, path):
    leaves = oracle.flat(params)
    del leaves[path]
    return oracle.nested(leaves)


PARAMS = tree(oracle.integers(22))


@pytest.mark.parametrize(
    ("params", "options", "error", "message"),
    [
        (
            without(PARAMS, "norm/scale"),
            {},
            ValueError,
            "the groups were traced on another model: they tie norm/scale of shape (4,), which "
            "the params lack",
        ),
        (
            PARAMS | {"norm": {"scale": jnp.ones(5)}},
            {},
            ValueError,
            "they tie norm/scale of shape (4,), which the params have of shape (5,)",
        ),
        (
            PARAMS | {"norm": {"scale": jnp.arange(4)}},
            {},
            TypeError,
            "the groups tie norm/scale, whose dtype is int32",
        ),
        (PARAMS, {"pattern": Tied([], [])}, ValueError, "the pattern ties nothing"),
        *(
            (
                PARAMS,
                {"rules": [jp.Rule("norm/.*", **{name: value})]},
                ValueError,
                f"Rule('norm/.*'): {name}={value} for norm/scale, which is in tied groups",
            )
            for name, value in [
                ("dense", True),
                ("dense", False),
                ("sparsity", 0.5),
                ("pattern", jp.Channel()),
                ("min_sparsity", 0.1),
                ("max_sparsity", 0.1),
            ]
        ),
        (
            PARAMS | {"other": jnp.ones((4, 4))},
            {"rules": [jp.Rule("other", dense=False)]},
            ValueError,
            "Rule('other') would prune other, which is in no tied group",
        ),
        (
            PARAMS | {"other": jnp.ones((4, 4))},
            {"rules": [jp.Rule("other", score=jnp.square)]},
            ValueError,
            "Rule('other') matches no leaf that is in a tied group",
        ),
        (
            PARAMS,
            {"rules": [jp.Rule("norm/.*", pattern=MLP)]},
            TypeError,
            "Rule('norm/.*'): tied groups are of several leaves; give them as pattern=",
        ),
        (
            PARAMS,
            {"score": jp.scores.geometric_median},
            ValueError,
            "the criterion for attn/in/kernel asks for the pattern of a leaf",
        ),
        (
            PARAMS,
            {"allocate": {"streams": 0.5}},
            ValueError,
            "allocate: 'streams' matches no tied group; they are stream, heads, dims, left, right",
        ),
        (
            PARAMS,
            {"allocate": {"stream": 0.5}, "pattern": oracle.net(stream=2)},
            ValueError,
            "allocate gives the tied group 'stream' the sparsity 0.5, but it keeps 2 of 4",
        ),
        (
            PARAMS,
            {"scope": "global", "pattern": NET.planned({g.name: 1 for g in NET.groups})},
            ValueError,
            "scope='global' ranks groups together, but every tied group says how many",
        ),
        (
            PARAMS,
            {"scope": lambda name: None},
            TypeError,
            "scope gave None for stream; it must give a label",
        ),
        (
            PARAMS,
            {"scope": "global", "cost": {"stream": 1}},
            ValueError,
            "cost has nothing for heads",
        ),
        (PARAMS, {"pattern": Tied}, TypeError, "is no pattern"),
    ],
)
def test_what_does_not_fit_is_said(params, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        jp.masks.make(params, 0.5, **{"pattern": NET} | options)


def test_what_looks_at_leaves_one_by_one_is_refused():
    message = "looks at leaves one by one, and tied groups are of several"
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=f"group_lasso {message}"):
        jp.group_lasso(0.1, pattern=NET)
    with pytest.raises(ValueError, match=f"legr {message}"):
        jp.iterate.legr(lambda params: 0.0, PARAMS, sparsity=0.5, key=key, pattern=NET)
    with pytest.raises(ValueError, match=f"sensitivity {message}"):
        jp.analysis.sensitivity(lambda params: 0.0, PARAMS, pattern=NET)
    with pytest.raises(ValueError, match=f"prune_model {message}"):
        jp.oneshot.prune_model(lambda p, x: x, PARAMS, [jnp.ones(3)], sparsity=0.5, pattern=NET)
