"""OWL against the formula of its paper, and counts of outliers against counts by hand."""

import math
import re
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprune import masks
from jaxprune.allocate import Leaf, outlier_share, owl, uniform

# --- the share of outliers ----------------------------------------------------------------------


def test_shares_by_hand():
    # mean 2.8: above 5.6 is one of five, above 2.8 too; above 0.28 all
    scores = np.array([[1.0, 1.0, 1.0, 1.0, 10.0]])
    assert outlier_share(scores, 2.0) == outlier_share(scores, 1.0) == 0.2
    assert outlier_share(scores, 0.1) == 1.0
    assert outlier_share(scores) == 0.0
    assert type(outlier_share(scores)) is float


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_shares_of_any_dtype(dtype):
    scores = jnp.array([[0.5, 0.25], [0.25, 7.0]], dtype)
    assert outlier_share(scores, 3.0) == 0.25


def test_equal_to_the_multiple_is_no_outlier():
    assert outlier_share(np.array([1.0, 3.0]), 1.5) == 0.0
    assert outlier_share(np.ones(5), 1.0) == 0.0


def test_a_count_of_many_is_exact():
    """A mean in float32, added up one by one, would be far off."""
    scores = np.ones(2**25, np.float32)
    scores[:3] = 6.0
    assert outlier_share(scores) == 3 / 2**25


def test_what_is_not_finite():
    # NaN is no score. Without inf, which is an outlier, the mean is 2.
    scores = np.array([np.nan, np.inf, 1.0, 1.0, 4.0], np.float32)
    assert outlier_share(scores, 1.5) == 0.5
    assert outlier_share(scores, 3.0) == 0.25
    assert outlier_share(np.array([np.nan, np.inf])) == 1.0
    assert outlier_share(np.array([np.nan])) == outlier_share(np.zeros((0, 3))) == 0.0


# --- the allocation -----------------------------------------------------------------------------


def published(shares, sparsity, lam):
    """Sparsities of the paper, in fractions: D scaled into [0, 2 lam], then its mean to 1 - s."""
    shares = [Fraction(str(share)) for share in shares]
    low, high = min(shares), max(shares)
    scaled = [2 * lam * (share - low) / (high - low) for share in shares]
    return [1 - (d - sum(scaled) / len(scaled) + 1 - sparsity) for d in scaled]


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True),
    st.integers(30, 70),
    st.integers(0, 15),
)
def test_leaves_of_one_size_have_the_sparsities_of_the_paper(shares, percent, lam):
    shares = [share / 1000 for share in shares]
    leaves = {f"l{i}": Leaf((100, 100), 10_000) for i in range(len(shares))}
    kept = owl(dict(zip(leaves, shares, strict=True)), lam=lam / 100)(leaves, percent / 100)
    expected = published(shares, Fraction(percent, 100), Fraction(lam, 100))
    if any(abs(sparsity - Fraction(percent, 100)) > Fraction(lam, 100) for sparsity in expected):
        return  # the paper wants no leaf further away, and its formula alone does not see to it
    for number, sparsity in zip(kept.values(), expected, strict=True):
        assert abs(number - 10_000 * (1 - sparsity)) < 1


def test_leaves_of_different_sizes_by_hand():
    # d is 0, 0.08 and 0.16; its mean over 1000 units is 0.1, so that c is 0.5 - 0.1. But 0.4 is
    # further than 0.08 from 0.5: a keeps 42, and 458 = 550 (c + 0.08) + 350 (c + 0.16).
    leaves = {"a": Leaf((10, 10), 100), "b": Leaf((10, 55), 550), "c": Leaf((10, 35), 350)}
    assert owl({"a": 0.1, "b": 0.2, "c": 0.3})(leaves, 0.5) == {"a": 42, "b": 263, "c": 195}


def test_lopsided_shares_do_not_lead_further_than_lam():
    leaves = {name: Leaf((10, 10), 100) for name in "abc"}
    # d is 0, 0 and 0.5; unbounded that were 33, 33 and 83
    assert owl({"a": 0, "b": 0, "c": 1}, lam=0.25)(leaves, 0.5) == {"a": 38, "b": 37, "c": 75}


@given(
    st.lists(st.tuples(st.integers(10, 5000), st.integers(0, 100)), min_size=1, max_size=6),
    st.integers(1, 99),
)
def test_all_sparsities_are_within_lam_of_the_target(leaves_and_shares, percent):
    leaves = {f"l{i}": Leaf((n,), n) for i, (n, _) in enumerate(leaves_and_shares)}
    shares = {f"l{i}": share / 100 for i, (_, share) in enumerate(leaves_and_shares)}
    kept = owl(shares, lam=0.08)(leaves, percent / 100)
    total = sum(leaf.units for leaf in leaves.values())
    assert sum(kept.values()) == round(total * (1 - percent / 100))
    for a, leaf in leaves.items():
        away = Fraction(kept[a]) - leaf.units * Fraction(100 - percent, 100)
        assert abs(away) < leaf.units * Fraction(8, 100) + 1
        for b, other in leaves.items():  # more outliers, denser
            if shares[a] > shares[b]:
                assert Fraction(kept[a] + 1, leaf.units) > Fraction(kept[b] - 1, other.units)


def test_bounds_come_before_lam():
    leaves = {"a": Leaf((10, 10), 100, max_keep=20), "b": Leaf((10, 10), 100)}
    # within 0.08 of 0.5 b would keep 58 at most
    assert owl({"a": 0.1, "b": 0.2})(leaves, 0.5) == {"a": 20, "b": 80}


@pytest.mark.parametrize("outliers", [{"a": 0.3, "b": 0.3}, {"a": 0.0, "b": 0.0}])
def test_equal_shares_are_uniform(outliers):
    leaves = {"a": Leaf((10, 10), 100), "b": Leaf((30, 10), 300)}
    assert owl(outliers)(leaves, 0.7) == uniform(leaves, 0.7)
    assert owl({"a": 0.1, "b": 0.9}, lam=0)(leaves, 0.7) == uniform(leaves, 0.7)


def test_what_would_be_overfull_is_dense():
    leaves = {name: Leaf((10, 10), 100) for name in "abc"}
    # d is 0, 0 and 0.5; c is full, and the others share 170
    assert owl({"a": 0, "b": 0, "c": 1}, lam=0.25)(leaves, 0.1) == {"a": 85, "b": 85, "c": 100}
    leaves["c"] = Leaf((10, 10), 100, max_keep=40)
    assert owl({"a": 0, "b": 0, "c": 1}, lam=0.25)(leaves, 0.5) == {"a": 55, "b": 55, "c": 40}


def test_paths_that_are_not_asked_for_count_for_nothing():
    leaves = {"a": Leaf((10, 10), 100), "b": Leaf((10, 10), 100), "empty": Leaf((0, 3), 0)}
    shares = {"a": 0.1, "b": 0.2}
    alone = owl(shares)(leaves, 0.5)
    assert alone == {"a": 42, "b": 58, "empty": 0}
    assert owl({**shares, "head": 0.9, "other": 0.0})(leaves, 0.5) == alone


def test_masks_by_outliers():
    params = {"a": np.arange(1.0, 101.0).reshape(10, 10), "b": np.ones((10, 10))}
    params["b"][0] = 50.0
    shares = {path: outlier_share(w) for path, w in params.items()}
    assert shares == {"a": 0.0, "b": 0.1}
    made = masks.make(params, 0.5, allocate=owl(shares))
    assert [int(mask.sum()) for mask in made.values()] == [42, 58]


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: owl({"a/b": 1.5}), ValueError, "outliers['a/b']=1.5 is not in [0, 1]"),
        (lambda: owl({"a": -0.1}), ValueError, "outliers['a']=-0.1 is not in [0, 1]"),
        (lambda: owl({"a": math.nan}), TypeError, "outliers['a']=nan is not a finite number"),
        (lambda: owl({"a": "x"}), TypeError, "outliers['a']='x' is not a finite number"),
        (lambda: owl({}, lam=0.6), ValueError, "lam=0.6 must be in [0, 0.5]"),
        (lambda: owl({}, lam=-1), ValueError, "lam=-1 must be in [0, 0.5]"),
        (lambda: owl({}, lam=None), TypeError, "lam=None is not a finite number"),
        (
            lambda: owl({"b": 0.1})({"a": Leaf((2,), 2)}, 0.5),
            ValueError,
            "outliers has no entry for leaf 'a'; add its allocate.outlier_share, or give the leaf "
            "a sparsity of its own by a Rule. It has entries for ['b'].",
        ),
        (lambda: outlier_share(np.ones(3), 0), ValueError, "multiple=0 must be above 0"),
        (lambda: outlier_share(np.ones(3), "5"), TypeError, "multiple='5' is not a finite number"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
