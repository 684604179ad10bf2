"""Scores that mislead a search for the threshold: the masks stay exact."""

import functools
import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from select_oracle import top_k_by_partition

from jaxprune import select

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
    array = jnp.asarray(scores, dtype)
    for k in (size // 3, size - 1):
        mask = np.asarray(jitted()(array, k))
        assert np.count_nonzero(mask) == k
        np.testing.assert_array_equal(mask, top_k_by_partition(scores, k))
