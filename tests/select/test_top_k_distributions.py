"""Scores that mislead a search for the threshold: the masks stay exact."""

import functools
import itertools
import math

import jax
import ml_dtypes
import numpy as np
import pytest
from draws import put
from select_oracle import top_k_by_partition

from jaxprune import select

pytestmark = pytest.mark.as_users

SIZE = 1 << 20


@functools.cache
def jitted():
    return jax.jit(select.top_k_mask)


def rng():
    return np.random.default_rng(7)


def any_exponent():
    bits = rng().integers(0, 1 << 32, SIZE, dtype=np.uint32)
    scores = bits.view(np.float32)
    return np.where(np.isfinite(scores), scores, np.float32(0))


def outlier():
    scores = rng().normal(size=SIZE)
    scores[12345] = 1e38
    return scores


def heavy():
    with np.errstate(over="ignore"):
        return np.abs(rng().standard_cauchy(SIZE) ** 3).astype(np.float32)


DISTRIBUTIONS = {
    "equal": lambda: np.full(SIZE, 0.25),
    "two values": lambda: np.where(rng().random(SIZE) < 0.001, 1.0, 2.0),
    "mostly zero": lambda: np.where(
        rng().random(SIZE) < 0.97, 0.0, np.abs(rng().normal(size=SIZE))
    ),
    "heavy tails": heavy,
    "any exponent": any_exponent,
    "one outlier": outlier,
    "ascending": lambda: np.arange(SIZE),
    "descending": lambda: -np.arange(SIZE),
    "sorted normal": lambda: np.sort(rng().normal(size=SIZE)),
    "quantised": lambda: rng().normal(size=SIZE).astype(ml_dtypes.bfloat16),
    "periodic": lambda: np.arange(SIZE) % 33,
    "subnormal": lambda: rng().integers(0, 1 << 22, SIZE).astype(np.uint32).view(np.float32),
    "neighbours": lambda: 1 + rng().integers(0, 3, SIZE) * 2.0**-23,
    "two scales": lambda: np.where(np.arange(SIZE) % 2, 1e-30, 1e30) * rng().random(SIZE),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_exact(name):
    scores = DISTRIBUTIONS[name]().astype(np.float32)
    for k in (1, 1000, SIZE // 10, SIZE // 2, SIZE - 3):
        mask = jitted()(scores, k)
        np.testing.assert_array_equal(mask, top_k_by_partition(scores, k), err_msg=f"k={k}")


@pytest.mark.parametrize("shape", [(1024, 1024), (3, SIZE // 3), (SIZE // 2, 2, 1), (16,) * 5])
def test_the_layout_does_not_change_the_choice(shape):
    scores = DISTRIBUTIONS["quantised"]().astype(np.float32)[: math.prod(shape)]
    k = scores.size // 5
    mask = jitted()(scores.reshape(shape), k)
    np.testing.assert_array_equal(np.ravel(mask), top_k_by_partition(scores, k))


@pytest.mark.parametrize("name", ["two values", "quantised"])
def test_ties_are_cut_within_and_between_rows(name):
    """Large enough that its 64 rows are counted apart."""
    scores = np.tile(DISTRIBUTIONS[name]().astype(np.float32), 4).reshape(64, -1)
    for k in (5, scores.shape[1], 3 * scores.shape[1] - 1, scores.size // 2):
        mask = np.asarray(jitted()(scores, k))
        np.testing.assert_array_equal(mask, top_k_by_partition(scores, k), err_msg=f"k={k}")


ROWS, WIDTH = 64, 65_600


def top_k_of_few(leaves, k):
    """Masks of the k highest of small integers, by a stable argsort that counts."""
    flat = np.concatenate([np.ravel(x).astype(np.int8) for x in leaves])
    mask = np.zeros(flat.size, bool)
    mask[np.argsort(-flat, kind="stable")[:k]] = True
    parts = np.split(mask, np.cumsum([x.size for x in leaves])[:-1])
    return [part.reshape(x.shape) for part, x in zip(parts, leaves, strict=True)]


@pytest.mark.parametrize("value", ["zeros and ones", "one one", "equal"])
def test_ties_are_cut_at_the_borders_of_rows(value):
    """The 64 rows are counted apart; the cut falls at a border, beside it, and inside."""
    scores = np.zeros((ROWS, WIDTH), np.float32)
    if value == "zeros and ones":
        scores[:] = rng().random(scores.shape) < 0.3
    elif value == "one one":
        scores[40, 7] = 1
    ones = np.cumsum(scores.sum(1)).astype(int)
    zeros = np.cumsum((scores == 0).sum(1))
    cuts = [ones[20], ones[-1] + zeros[0], ones[-1] + zeros[30]]
    cuts = [c + d for c in cuts for d in (-1, 0, 1)] + [zeros[50] + WIDTH // 2, scores.size - 1]
    for k in {max(int(k), 1) for k in cuts}:
        (expected,) = top_k_of_few([scores], k)
        np.testing.assert_array_equal(jitted()(scores, k), expected, err_msg=f"k={k}")


@pytest.mark.parametrize("groups", [(0, 0, 0, 0), (0, 1, 0, 1)], ids=str)
def test_ties_are_cut_across_leaves_of_all_sizes(groups):
    """Two leaves are counted in rows, two are not, and the quota spans their borders."""
    shapes = [(7, 5), (ROWS, WIDTH), (300,), (3, WIDTH * 22)]
    equal = [np.full(shape, 0.5, np.float32) for shape in shapes]
    few = [(rng().random(shape) < 0.5).astype(np.float32) for shape in shapes]
    masks = jax.jit(functools.partial(select.top_k_masks, groups=groups))
    members = [[i for i, g in enumerate(groups) if g == group] for group in set(groups)]
    for leaves, border, shift in itertools.product((equal, few), range(3), (-1, 1, WIDTH)):
        k = []
        for own in members:
            ones = [np.count_nonzero(leaves[i]) for i in own]
            k.append(max(sum(ones[: border + 1]) + shift, 0))
        made = masks([put(x) for x in leaves], k)
        for own, n in zip(members, k, strict=True):
            expected = top_k_of_few([leaves[i] > 0 for i in own], n)
            for i, mask in zip(own, expected, strict=True):
                np.testing.assert_array_equal(made[i], mask, err_msg=f"leaf {i}, {k=}")


@pytest.mark.slow
@pytest.mark.parametrize("power", [23, 25])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large(dtype, power):
    """Past 2**24, where float32 counts would no longer be exact."""
    size = (1 << power) + (power == 25)
    scores = rng().standard_normal(size, dtype=np.float32)
    if dtype == "float32":
        scores = np.round(scores * 4096) / np.float32(4096)  # thousands of equal scores
    else:
        scores = scores.astype(ml_dtypes.bfloat16).astype(np.float32)
    array = put(scores, dtype)
    for k in (size // 3, size - 1):
        mask = np.asarray(jitted()(array, k))
        assert np.count_nonzero(mask) == k
        np.testing.assert_array_equal(mask, top_k_by_partition(scores, k))
