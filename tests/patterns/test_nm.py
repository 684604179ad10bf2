"""N:M: the hardware's format at 1 - n/m, and an exact count on both sides of it."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern_oracle import expected, first_of_groups

import jaxprune as jp
from jaxprune import NM, Rule, masks

SHAPE = (8, 6)
seeds = st.integers(0, 2**32 - 1)
dyadic = st.integers(0, 2**16 - 1).map(lambda n: n / 2**16)


def kernels(seed, number=1):
    """Some with ties and NaN, some without, on different scales."""
    rng = np.random.default_rng(seed)
    leaves = [rng.normal(size=SHAPE).astype(np.float32) * 10**i for i in range(number)]
    for w in leaves:
        if rng.random() < 0.5:
            w[:] = np.round(w)
            w[0, 0] = np.nan
    return leaves


def groups(mask, pattern):
    rows = np.moveaxis(np.asarray(mask), pattern.axis, -1)
    return rows.reshape(-1, pattern.m)


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        (NM(2, 4), (8, 3)),
        (NM(1, 2), (3, 3, 4, 5)),
        (NM(3, 7, axis=0), (14, 2)),
    ],
    ids=str,
)
def test_every_group_keeps_n(pattern, shape):
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    exact = 1 - pattern.n / pattern.m
    mask = masks.make({"kernel": w}, exact, pattern=pattern)["kernel"]
    assert (groups(mask, pattern).sum(1) == pattern.n).all()
    np.testing.assert_array_equal(mask, first_of_groups(pattern, w))
    beyond = masks.make({"kernel": w}, (1 + exact) / 2, pattern=pattern)["kernel"]
    assert (groups(beyond, pattern).sum(1) <= pattern.n).all()
    assert int(beyond.sum()) == round(w.size * (1 - (1 + exact) / 2))


def test_the_default_axis_is_the_input_of_a_flax_kernel():
    """Where JaxPruner groups along the output, which hardware does not multiply along."""
    assert NM(2, 4) == NM(2, 4, axis=-2)
    NM(2, 4).check((8, 3), "kernel")
    with pytest.raises(ValueError, match=r"axis 0 of shape \(3, 8\)"):
        NM(2, 4).check((3, 8), "kernel")


PATTERN = NM(2, 4)
ONE = jax.jit(lambda w, s: masks.make({"kernel": w}, s, pattern=PATTERN)["kernel"])
GLOBAL = jax.jit(lambda ws, s: masks.make(ws, s, pattern=PATTERN, scope="global"))


@given(seeds, dyadic | st.just(0.5))
def test_below_at_and_beyond_the_pattern(seed, sparsity):
    """Any sparsity, as a schedule passes through them: JaxPruner jumps to the full pattern."""
    (w,) = kernels(seed)
    mask = np.asarray(ONE(w, sparsity))
    np.testing.assert_array_equal(mask, expected(PATTERN, [w], sparsity)[0])
    assert mask.sum() == round(w.size * (1 - sparsity))
    first = first_of_groups(PATTERN, w)
    if sparsity <= 0.5:
        assert mask[first].all()
    if sparsity >= 0.5:
        assert not mask[~first].any()


@settings(max_examples=40)
@given(seeds, dyadic | st.just(0.5))
def test_below_at_and_beyond_over_many_leaves(seed, sparsity):
    leaves = kernels(seed, number=3)
    made = [np.asarray(mask) for mask in GLOBAL(leaves, sparsity)]
    for mask, want in zip(made, expected(PATTERN, leaves, sparsity), strict=True):
        np.testing.assert_array_equal(mask, want)
    assert sum(int(mask.sum()) for mask in made) == round(144 * (1 - sparsity))


def test_a_schedule_prunes_more_and_more():
    (w,) = kernels(1)
    made = [np.asarray(ONE(w, s)) for s in np.linspace(0, 0.96875, 32)]
    for before, after in itertools.pairwise(made):
        assert not (after & ~before).any()


@pytest.mark.parametrize(
    ("n", "m", "axis", "error", "message"),
    [
        (0, 4, -2, ValueError, "n=0, m=4"),
        (4, 4, -2, ValueError, "n=4, m=4"),
        (5, 4, -2, ValueError, "n=5, m=4"),
        (2.0, 4, -2, TypeError, "NM: n=2.0 must be a whole number"),
        (2, "4", -2, TypeError, "NM: m='4' must be a whole number"),
        (True, 4, -2, TypeError, "NM: n=True must be a whole number"),
        (2, 4, None, TypeError, "NM: axis=None must be a whole number"),
    ],
)
def test_no_pattern(n, m, axis, error, message):
    with pytest.raises(error, match=message):
        NM(n, m, axis)


@pytest.mark.parametrize(
    ("pattern", "shape", "message"),
    [
        (NM(2, 4), (6, 8), r"enc/kernel: axis 0 of shape \(6, 8\) is not divisible by 4"),
        (NM(2, 4, axis=3), (4, 4), "enc/kernel: axis 3 of a leaf with 2 axes; choose one of -2..1"),
        (NM(2, 4, axis=-3), (4, 4), "enc/kernel: axis -3 of a leaf with 2 axes"),
    ],
)
def test_a_leaf_that_does_not_fit(pattern, shape, message):
    with pytest.raises(ValueError, match=message):
        masks.make({"enc": {"kernel": np.ones(shape)}}, 0.5, pattern=pattern)


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 0.4},
        {"sparsity": 0.4, "scope": "global"},
        {"sparsity": 0.5, "rules": [Rule("enc/.*", sparsity=0.4)]},
    ],
)
def test_a_sparsity_that_stops_short_of_the_pattern(options):
    params = {"enc": {"kernel": np.ones((4, 4))}}
    with pytest.raises(ValueError, match=r"0\.4 keeps more than 2:4 .* in enc/kernel; .* 0\.5"):
        masks.make(params, pattern=NM(2, 4), **options)


def test_a_bound_that_the_pattern_cannot_keep():
    """A leaf of which 70 % must stay cannot be 2:4."""
    params = [np.ones((8, 4), np.float32), np.full((8, 4), 2, np.float32)]
    rules = [Rule("0", max_sparsity=0.3)]
    with pytest.raises(ValueError, match="max_sparsity"):
        masks.make(params, 0.5, pattern=NM(2, 4), scope="global", rules=rules)


BOUNDS = {"max_sparsity": 0.875, "min_sparsity": 0.25}
FEWEST, MOST = [6, 6, 6], [36, 36, 36]  # of 48
BOUNDED = jax.jit(lambda ws, s: masks.make(ws, s, pattern=PATTERN, scope="global", **BOUNDS))


def greedy(leaves, k):
    """Each leaf takes its best up to its lower bound, then the best of all where there is room."""
    first = [first_of_groups(PATTERN, w) for w in leaves]
    order = sorted(
        (not first[i][place], np.isnan(w[place]), -np.nan_to_num(np.abs(w[place])), i, place)
        for i, w in enumerate(leaves)
        for place in np.ndindex(w.shape)
    )
    kept = [np.zeros(w.shape, bool) for w in leaves]
    for bound, total in ((FEWEST, sum(FEWEST)), (MOST, k)):
        for *_, i, place in order:
            if sum(m.sum() for m in kept) < total and kept[i].sum() < bound[i]:
                kept[i][place] = True
    return kept


@settings(max_examples=20)
@given(seeds, st.integers(32, 56).map(lambda n: n / 64))
def test_bounds_hold_over_many_leaves(seed, sparsity):
    """From 2:4 on; the leaves are on scales so apart that the bounds bind."""
    leaves, kept = kernels(seed, number=3), round(144 * (1 - sparsity))
    made = masks.make(leaves, sparsity, pattern=PATTERN, scope="global", **BOUNDS)
    counts = [int(mask.sum()) for mask in made]
    assert sum(counts) == kept
    assert all(6 <= count <= 36 for count in counts)
    for mask, want in zip(made, greedy(leaves, kept), strict=True):
        np.testing.assert_array_equal(mask, want)
        assert (groups(mask, PATTERN).sum(1) <= 2).all()


@given(seeds, st.floats(0, 1, width=32))
def test_bounds_win_over_a_traced_sparsity_out_of_reach(seed, sparsity):
    counts = [int(mask.sum()) for mask in BOUNDED(kernels(seed, number=3), sparsity)]
    assert all(6 <= count <= 36 for count in counts)
    if 0.25 <= sparsity <= 0.875:
        assert sum(counts) == round(144 * (1 - sparsity))


def in_groups(mask, m=4):
    """How many are kept in each group along axis -2."""
    return np.asarray(mask).reshape(mask.shape[0] // m, m, mask.shape[1]).sum(1)


def two_leaves():
    keys = jax.random.split(jax.random.key(0))
    return {
        "big": {"kernel": jax.random.normal(keys[0], (64, 64))},
        "small": {"kernel": jax.random.normal(keys[1], (8, 8))},
    }


@pytest.mark.parametrize("sparsity", [0.5, 0.75])
@pytest.mark.parametrize("allocate", [jp.allocate.uniform, jp.allocate.erdos_renyi])
def test_an_allocation_keeps_to_the_pattern(allocate, sparsity):
    params = two_leaves()
    masks = jp.masks.make(params, sparsity, pattern=jp.NM(2, 4), allocate=allocate)
    kept = [in_groups(masks[name]["kernel"]) for name in params]
    assert max(k.max() for k in kept) <= 2
    size = sum(w["kernel"].size for w in params.values())
    assert sum(int(k.sum()) for k in kept) == round(size * (1 - sparsity))


def test_a_schedule_with_an_allocation_ends_in_the_pattern():
    params = two_leaves()
    tx = jp.prune(
        sparsity=jp.linear(0.5, begin=0, end=2, init=0.2),
        when=jp.every(1),
        pattern=jp.NM(2, 4),
        allocate=jp.allocate.erdos_renyi,
    )
    state, most = tx.init(params), []
    for _ in range(3):
        _, state = tx.update(params, state, params)
        most.append(in_groups(jp.get_masks(state)["small"]["kernel"]).max())
    assert most[-1] == 2 < most[0]


def test_an_allocation_beyond_the_pattern_is_an_error():
    def all_of_small(leaves, sparsity):
        del sparsity
        return {path: leaf.units // 2 + 8 * ("small" in path) for path, leaf in leaves.items()}

    with pytest.raises(ValueError, match=r"gave 40 of 64 for small/kernel, more than the 32"):
        jp.masks.make(two_leaves(), 0.5, pattern=jp.NM(2, 4), allocate=all_of_small)


def test_a_rule_that_ends_short_of_the_pattern_is_an_error():
    short = jp.Rule("small/kernel", sparsity=jp.linear(0.2, begin=0, end=3))
    tx = jp.prune(sparsity=jp.linear(0.5, begin=0, end=3), pattern=jp.NM(2, 4), rules=[short])
    with pytest.raises(ValueError, match=r"sparsity=0.2 keeps more than 2:4 allows in small/kern"):
        tx.init(two_leaves())
    with pytest.raises(ValueError, match=r"sparsity=0.2 keeps more than 2:4 allows in small/kern"):
        jp.masks.make(two_leaves(), 0.5, pattern=jp.NM(2, 4), rules=[short])


def test_a_ranking_short_of_the_pattern_is_an_error():
    """Also where rounding hides it in each of many small leaves."""
    params = {f"l{i}": {"kernel": np.full((4, 2), i + 1, np.float32)} for i in range(100)}
    with pytest.raises(ValueError, match=r"more than 2:4 allows in scope global; .* at least 0.5"):
        jp.masks.make(params, 0.451, pattern=jp.NM(2, 4), scope="global")
