"""How many units are kept at a sparsity that is known only at run time: exact integers."""

import math
from fractions import Fraction

import jax
import numpy as np
import pytest

import jaxprune
from jaxprune import masks
from jaxprune.masks._counts import kept_traced
from jaxprune.select import _wide

UNITS = [0, 1, 2, 5, 10, 127, 4096, 2**20 - 1, 2**24 + 1, 20_000_003, 2**31 - 1, 2**31, 2**32 + 3]
UNITS += [999_999_999_989, 2**40 - 1, 2**40, 2**45 - 1, 2**47 - 1]


def float32s(units, rng):
    """Float32 sparsities: of all magnitudes, and where units * (1 - s) is near a half."""
    anywhere = rng.random(200, np.float32)
    small = np.exp2(-36 * rng.random(200)).astype(np.float32)
    whole = rng.integers(0, max(units, 1), 200)
    halves = ((whole + 0.5) / max(units, 1)).astype(np.float32)
    dyadic = (rng.integers(0, 2**12, 100) / 2**12).astype(np.float32)
    ends = np.array([0, 1, np.nextafter(np.float32(1), np.float32(0)), 0.5], np.float32)
    near = [np.nextafter(halves, np.float32(side)) for side in (0, 1)]
    every = np.concatenate([anywhere, small, halves, *near, dyadic, ends])
    return np.clip(every[(every == 0) | (every >= 2.0**-36)], 0, 1)


@pytest.mark.parametrize("units", UNITS)
def test_kept_is_the_rounded_fraction(units):
    sparsity = float32s(units, np.random.default_rng(units))
    pad = np.zeros(1104 - sparsity.size, np.float32)  # one shape: nothing compiles twice
    sparsity = np.concatenate([sparsity, pad])
    high, low = np.asarray(jax.vmap(lambda s: kept_traced(units, s))(sparsity)).T.astype(np.int64)
    assert ((low >= 0) & (low < 1 << _wide.BITS)).all()
    expected = [round(units * (1 - Fraction(float(s)))) for s in sparsity]
    assert ((high << _wide.BITS) + low).tolist() == expected


def test_halves_go_to_even_as_in_python():
    sparsity = np.arange(0, 32, dtype=np.float32) / 32
    for units in (16, 48, 80):
        high, low = np.asarray(jax.vmap(lambda s, n=units: kept_traced(n, s))(sparsity)).T
        assert not high.any()
        assert low.tolist() == [round(units * (1 - float(s))) for s in sparsity]


def test_what_is_out_of_range_is_clipped():
    values = np.array([-math.inf, -0.5, -0.0, 1.0, 1.5, math.inf], np.float32)
    kept = np.asarray(jax.vmap(lambda s: kept_traced(7, s))(values))
    assert kept.tolist() == [[0, 7]] * 3 + [[0, 0]] * 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
def test_a_sparsity_of_another_dtype(dtype):
    value = jax.numpy.asarray(0 if dtype == "int32" else 0.9, dtype)
    expected = round(1000 * (1 - Fraction(float(value))))
    assert kept_traced(1000, value).tolist() == [0, expected]


@pytest.mark.parametrize(
    ("bounds", "own"), [({"max_sparsity": 0.9}, 0.99), ({"min_sparsity": 0.3}, 0.1)]
)
def test_a_leaf_with_a_sparsity_of_its_own_has_no_bounds(bounds, own):
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        n: {"kernel": jax.random.normal(k, (40, 10))} for n, k in zip("abc", keys, strict=True)
    }
    rules = [jaxprune.Rule("b/kernel", sparsity=own)]

    def make(sparsity):
        return masks.make(params, sparsity, scope="global", rules=rules, **bounds)

    known, traced = make(0.5), jax.jit(make)(0.5)
    assert int(known["b"]["kernel"].sum()) == round(400 * (1 - own))
    for a, b in zip(jax.tree.leaves(known), jax.tree.leaves(traced), strict=True):
        np.testing.assert_array_equal(a, b)
