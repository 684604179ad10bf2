"""Orders of channels for N:M: what they keep by definition, and that none of few is better."""

import io
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put

from jaxprune import NM, masks
from jaxprune.patterns import permutation


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def kept(w, pattern, order=None):
    """By definition, in float64: sort each group of each row, add the last n."""
    rows = np.moveaxis(np.abs(np.asarray(w, np.float64)), pattern.axis, -1)
    rows = rows if order is None else rows[..., order]
    groups = np.sort(rows.reshape(-1, pattern.m), axis=1)
    return groups[:, pattern.m - pattern.n :].sum()


def partitions(channels, m):
    """Every way to divide channels into groups of m."""
    if not channels:
        yield ()
    first, *others = channels or [None]
    for group in itertools.combinations(others, m - 1) if channels else ():
        for more in partitions([c for c in others if c not in group], m):
            yield ((first, *group), *more)


def optimum(w, pattern):
    """The most that any order keeps; what each group keeps is looked up."""
    axis = pattern.axis % w.ndim
    channels = range(w.shape[axis])
    keeps = {
        group: kept(np.take(w, group, axis), pattern)
        for group in itertools.combinations(channels, pattern.m)
    }
    return max(sum(keeps[g] for g in each) for each in partitions(list(channels), pattern.m))


def check(found, ws, pattern):
    """What holds of every result: a permutation, sums by definition, never worse."""
    ws = [np.asarray(w, np.float32) for w in ws]
    channels = ws[0].shape[pattern.axis]
    assert found.order.dtype == found.inverse.dtype == np.int32
    np.testing.assert_array_equal(np.sort(found.order), np.arange(channels))
    np.testing.assert_array_equal(found.order[found.inverse], np.arange(channels))
    groups = found.order.reshape(-1, pattern.m)
    assert (np.diff(groups, axis=1) > 0).all()
    assert (np.diff(groups[:, 0]) > 0).all()
    before = sum(kept(w, pattern) for w in ws)
    after = sum(kept(w, pattern, found.order) for w in ws)
    np.testing.assert_allclose([found.before, found.after], [before, after], rtol=1e-12)
    total = sum(np.abs(w.astype(np.float64)).sum() for w in ws)
    np.testing.assert_allclose(found.total, total, rtol=1e-12)
    assert found.before <= found.after <= found.total * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(3, 4)], ids=str)
def test_of_two_groups_all_splits_are_tried(seed, pattern):
    w = normal(seed, 8, 6)
    found = permutation(w, pattern)
    check(found, [w], pattern)
    np.testing.assert_allclose(found.after, optimum(w, pattern), rtol=1e-7)
    assert found.after > found.before


@pytest.mark.parametrize("seed", range(5))
def test_of_three_groups_the_best_is_found(seed):
    """5775 partitions; without escapes some seeds end in a local optimum."""
    w = normal(seed, 12, 6)
    found = permutation(w, NM(2, 4), escapes=10, key=jax.random.key(seed))
    check(found, [w], NM(2, 4))
    np.testing.assert_allclose(found.after, optimum(w, NM(2, 4)), rtol=1e-7)


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [(NM(1, 2), (6, 5)), (NM(2, 5), (20, 7)), (NM(2, 3, axis=0), (9, 4)), (NM(2, 4, 1), (3, 16))],
    ids=str,
)
def test_other_patterns_and_axes(pattern, shape):
    w = normal(0, *shape)
    found = permutation(w, pattern)
    check(found, [w], pattern)
    assert found.after > found.before


@pytest.mark.parametrize("n", [1, 2, 7])
def test_groups_too_wide_for_all_splits_exchange_channels(n):
    """The end is a local optimum: no exchange between two groups keeps more."""
    pattern, w = NM(n, 8), normal(n, 24, 5)
    found = permutation(w, pattern)
    check(found, [w], pattern)
    assert found.after > found.before
    for i, j in itertools.combinations(range(24), 2):
        order = found.order.copy()
        order[[i, j]] = order[[j, i]]
        assert kept(w, pattern, order) <= found.after * (1 + 1e-6)


def test_no_pair_of_groups_gains_at_the_end():
    pattern, w = NM(2, 4), normal(3, 24, 5)
    found = permutation(w, pattern)
    for pair in itertools.combinations(found.order.reshape(-1, 4), 2):
        both = w[np.concatenate(pair)]
        assert optimum(both, pattern) <= kept(both, pattern) * (1 + 1e-6)


def test_large_weights_that_share_groups():
    """In the order given two of every four large channels are lost, and all small ones kept."""
    w = 1 + 0.01 * normal(0, 64, 16)
    w[:32] *= 1000
    found = permutation(w, NM(2, 4))
    check(found, [w], NM(2, 4))
    assert found.before / found.total < 0.51
    assert found.after / found.total > 0.999
    assert found.regained > 0.997


def test_the_mask_of_the_permuted_array_keeps_what_was_found():
    w = normal(0, 16, 4)
    found = permutation(w, NM(2, 4))
    moved = jnp.take(put(w), found.order, axis=-2)
    mask = masks.make({"kernel": moved}, 0.5, pattern=NM(2, 4))["kernel"]
    np.testing.assert_allclose(np.abs(moved)[np.asarray(mask)].sum(), found.after, rtol=1e-6)
    np.testing.assert_array_equal(jnp.take(moved, found.inverse, axis=-2), w)


def test_arrays_that_share_their_inputs_get_one_order():
    """A compromise between orders that are best for each."""
    q, k, v = normal(0, 12, 6), 3 * normal(1, 12, 2), normal(2, 12, 3)
    options = {"escapes": 10, "key": jax.random.key(0)}
    found = permutation([q, k, v], NM(2, 4), **options)
    check(found, [q, k, v], NM(2, 4))
    best = optimum(np.concatenate([q, k, v], axis=1), NM(2, 4))
    np.testing.assert_allclose(found.after, best, rtol=1e-7)
    alone = permutation(q, NM(2, 4), **options)
    assert kept(q, NM(2, 4), alone.order) > kept(q, NM(2, 4), found.order)


def test_each_position_of_a_convolution_counts():
    w = normal(0, 3, 2, 12, 4)
    found = permutation(w, NM(2, 4))
    check(found, [w], NM(2, 4))
    rows = np.moveaxis(w, 2, 0).reshape(12, -1)
    np.testing.assert_array_equal(found.order, permutation(rows, NM(2, 4)).order)


def test_nothing_better_leaves_the_order():
    for w in [np.ones((16, 3), np.float32), normal(0, 4, 3), np.zeros((16, 3), np.float32)]:
        found = permutation(w, NM(2, 4), escapes=3, key=jax.random.key(0))
        np.testing.assert_array_equal(found.order, np.arange(len(w)))
        assert found.after == found.before
        assert found.regained == 0


@pytest.mark.parametrize("shape", [(0, 3), (8, 0)])
def test_no_weights(shape):
    found = permutation(np.zeros(shape, np.float32), NM(2, 4), escapes=1, key=jax.random.key(0))
    np.testing.assert_array_equal(found.order, np.arange(shape[0]))
    assert (found.before, found.after, found.total) == (0, 0, 0)


def test_escapes_leave_local_optima():
    w = normal(0, 64, 16)
    without = permutation(w, NM(2, 4))
    found = permutation(w, NM(2, 4), escapes=20, key=jax.random.key(0))
    check(found, [w], NM(2, 4))
    assert found.after > without.after


def test_the_key_decides():
    w = normal(0, 64, 16)
    a, b, c = (
        permutation(w, NM(2, 4), escapes=10, key=jax.random.key(seed)).order for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_a_bound_on_what_is_compared():
    """More sweeps, more kept; enough of them are no bound."""
    w = normal(0, 64, 16)
    given = [permutation(w, NM(2, 4), sweeps=s) for s in (0, 0.1, 0.5, 1000, None)]
    after = [found.after for found in given]
    assert after[0] == given[0].before
    assert after[0] < after[1] < after[2] < after[3]
    np.testing.assert_array_equal(given[3].order, given[4].order)
    options = {"escapes": 5, "key": jax.random.key(0)}
    bounded = permutation(w, NM(2, 4), sweeps=0.5, **options)
    np.testing.assert_array_equal(bounded.order, given[2].order)


def test_values_that_are_no_magnitudes():
    """NaN counts as 0, an infinity as the largest finite weight."""
    w = normal(0, 16, 4)
    finite = w.copy()
    w[0, 0], w[5, 1], w[6, 2] = np.nan, np.inf, -np.inf
    finite[0, 0], finite[[5, 6], [1, 2]] = 0, np.nanmax(np.abs(w), where=np.isfinite(w), initial=0)
    found, expected = permutation(w, NM(2, 4)), permutation(finite, NM(2, 4))
    check(found, [finite], NM(2, 4))
    np.testing.assert_array_equal(found.order, expected.order)


@pytest.mark.parametrize("scale", [2.0**-140, 2.0**-60, 2.0**120])
def test_any_scale(scale):
    """Sums of float32 neither overflow nor vanish."""
    w = np.round(normal(0, 16, 4) * 100)
    found = permutation((w * scale).astype(np.float32), NM(2, 4))
    np.testing.assert_array_equal(found.order, permutation(w, NM(2, 4)).order)
    check(found, [w * np.float64(scale)], NM(2, 4))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_dtypes_count_as_float32(dtype):
    w = np.asarray(normal(0, 16, 4)).astype(dtype)
    found = permutation(w, NM(2, 4))
    check(found, [w], NM(2, 4))
    np.testing.assert_array_equal(found.order, permutation(w.astype(np.float32), NM(2, 4)).order)


def test_a_float64_beyond_float32_counts_as_infinite():
    w = np.ones((8, 2))
    w[0, 0] = 1e300
    assert permutation(w, NM(2, 4)).total == 16


def test_the_bar_counts_pairs(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    w = normal(0, 8, 6)
    found = permutation(w, NM(2, 4), progress=True)
    assert "pairs" in shown.getvalue()
    np.testing.assert_array_equal(found.order, permutation(w, NM(2, 4)).order)


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"needs tqdm.*pip install 'jaxprune\[report\]'"):
        permutation(normal(0, 8, 4), NM(2, 4), progress=True)


W = np.ones((8, 4), np.float32)


@pytest.mark.parametrize(
    ("w", "options", "error", "match"),
    [
        (W[:6], {}, ValueError, r"axis=-2\) for w: axis 0 of shape \(6, 4\) is not divisible by 4"),
        ([W, W[:6]], {}, ValueError, r"for w\[1\]: axis 0 of shape \(6, 4\) is not divisible"),
        ([W, W[:4]], {}, ValueError, r"\{'w\[0\]': 8, 'w\[1\]': 4\} channels along axis -2"),
        (W[0], {}, ValueError, "for w: axis -2 of a leaf with 1 axes"),
        ([], {}, ValueError, "w holds no array"),
        (W.astype(np.int32), {}, TypeError, "w must be a float array, not int32"),
        (W, {"pattern": "2:4"}, TypeError, "pattern='2:4': only groups of N:M"),
        (W, {"escapes": 2}, ValueError, r"escapes=2 .*pass key=jax.random.key\(seed\)"),
        (W, {"escapes": -1}, ValueError, "escapes=-1 must be at least 0"),
        (W, {"escapes": 1.5}, TypeError, "escapes=1.5 must be a whole number"),
        (W, {"sweeps": -1}, ValueError, "sweeps=-1 must be finite and at least 0"),
        (W, {"sweeps": float("nan")}, ValueError, "sweeps=nan must be finite"),
        (W, {"sweeps": float("inf")}, ValueError, "sweeps=inf must be finite .*; None is no bound"),
        (W, {"sweeps": "all"}, TypeError, "sweeps='all' must be a number"),
    ],
)
def test_errors(w, options, error, match):
    options = {"pattern": NM(2, 4), **options}
    with pytest.raises(error, match=match):
        permutation(w, **options)


def test_the_search_is_not_traced():
    with pytest.raises(TypeError, match=r"w is traced, but .* outside jit"):
        jax.jit(lambda w: permutation(w, NM(2, 4)).after)(W)
