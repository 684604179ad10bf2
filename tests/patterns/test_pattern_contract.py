"""What holds of every pattern: the count, ties, NaN, no weights at all, once more, any dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern_oracle import expected, unit_ids, unit_sums

from jaxprune import NM, Block, Channel, Heads, Rule, Unstructured, masks

# (pattern, shape of a leaf, its units, the sparsity from which the pattern holds)
CASES = {
    "unstructured": (Unstructured(), (5, 6), 30, 0.0),
    "2:4": (NM(2, 4), (8, 5), 40, 0.5),
    "3:4 of a conv kernel": (NM(3, 4), (2, 2, 4, 3), 48, 0.25),
    "block": (Block((2, 3)), (5, 7), 9, 0.0),
    "block of a conv kernel": (Block((2, 2)), (3, 3, 4, 5), 54, 0.0),
    "block axes (2, 0)": (Block((2, 3), axes=(2, 0)), (4, 2, 3), 8, 0.0),
    "channel": (Channel(), (4, 7), 7, 0.0),
    "channel axes (0, -1)": (Channel((-1, 0)), (3, 4, 5), 15, 0.0),
    "heads": (Heads(3, axis=-1), (4, 6), 3, 0.0),
    "heads with an axis": (Heads(3, axis=-2), (4, 3, 2), 3, 0.0),
    "heads of a fused qkv stack": (Heads(2, axis=(0, -1), parts=3), (3, 2, 12), 6, 0.0),
}
FEW = ["unstructured", "2:4", "block", "channel", "heads"]
every_case = pytest.mark.parametrize("name", CASES)
a_few = pytest.mark.parametrize("name", FEW)
seeds = st.integers(0, 2**32 - 1)
fractions = st.integers(0, 2**16 - 1).map(lambda n: n / 2**16)


def integers(seed, shape, *, nan=False):
    """Small whole numbers, whose sums and ties are exact, and now and then a NaN."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-4, 5, shape).astype(np.float32)
    w[rng.random(shape) < (0.05 if nan else 0)] = np.nan
    return w


def between(lowest, fraction):
    return lowest + fraction * (1 - lowest)


@every_case
def test_units_are_counted(name):
    pattern, shape, units, _ = CASES[name]
    assert pattern.num_units(shape) == units
    assert unit_ids(pattern, shape).max() + 1 == units


@every_case
def test_sums_and_values_of_units(name):
    pattern, shape, units, _ = CASES[name]
    ids, values = unit_ids(pattern, shape), integers(0, shape)
    sums = pattern.sums(jnp.asarray(values))
    np.testing.assert_array_equal(np.ravel(sums), unit_sums(ids, values))
    np.testing.assert_array_equal(pattern.expand(sums, shape), unit_sums(ids, values)[ids])
    numbers = np.arange(units, dtype=np.float32) + 0.5
    np.testing.assert_array_equal(pattern.expand(jnp.asarray(numbers), shape), numbers[ids])


@every_case
@given(seeds, fractions)
def test_the_best_units_are_kept(name, seed, fraction):
    """Exactly round(units * (1 - s)); of equal units the earlier; a NaN is the lowest."""
    pattern, shape, units, lowest = CASES[name]
    w, sparsity = integers(seed, shape, nan=True), between(lowest, fraction)
    mask = np.asarray(masks.make({"kernel": w}, sparsity, pattern=pattern)["kernel"])
    np.testing.assert_array_equal(mask, expected(pattern, [w], sparsity)[0])
    ids = unit_ids(pattern, shape)
    whole = [mask[ids == unit] for unit in range(units)]
    assert sum(unit.all() for unit in whole) == round(units * (1 - sparsity))
    assert all(unit.all() or not unit.any() for unit in whole)


@every_case
@settings(max_examples=20)
@given(seeds, fractions)
def test_masking_again_changes_nothing(name, seed, fraction):
    pattern, shape, _, lowest = CASES[name]
    params, sparsity = {"kernel": integers(seed, shape)}, between(lowest, fraction)
    made = masks.make(params, sparsity, pattern=pattern)
    again = masks.make(masks.apply(params, made), sparsity, pattern=pattern)
    np.testing.assert_array_equal(made["kernel"], again["kernel"])


@a_few
@settings(max_examples=20)
@given(seeds, st.integers(0, 2**16 - 1))
def test_jit_is_eager(name, seed, numerator):
    pattern, shape, _, _ = CASES[name]
    params = {"kernel": integers(seed, shape, nan=True)}
    sparsity = between(0.5, numerator / 2**16)
    traced = COMPILED[name](params, sparsity)
    eager = masks.make(params, sparsity, pattern=pattern)
    np.testing.assert_array_equal(traced["kernel"], eager["kernel"])


COMPILED = {
    name: jax.jit(lambda params, s, name=name: masks.make(params, s, pattern=CASES[name][0]))
    for name in FEW
}


@a_few
@settings(max_examples=10)
@given(seeds, fractions)
def test_any_float_dtype(name, seed, fraction):
    pattern, shape, _, lowest = CASES[name]
    w, sparsity = integers(seed, shape), between(lowest, fraction)
    params = [w.astype(dtype) for dtype in (jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn)]
    made = masks.make(params, sparsity, pattern=pattern)
    for mask in made:
        np.testing.assert_array_equal(mask, expected(pattern, [w], sparsity)[0])


@pytest.mark.parametrize("scope", ["leaf", "global"])
@a_few
def test_a_leaf_without_weights(name, scope):
    pattern, shape, _, _ = CASES[name]
    empty = np.zeros((0, *shape[1:]), np.float32)
    only = masks.make([empty], 0.5, pattern=pattern, scope=scope, rules=[Rule(".*", dense=False)])
    assert only[0].shape == empty.shape
    if scope == "leaf":
        return
    w = integers(0, shape)
    made = masks.make(
        [empty, w], 0.5, pattern=pattern, scope=scope, rules=[Rule(".*", dense=False)]
    )
    assert made[0].shape == empty.shape
    np.testing.assert_array_equal(made[1], expected(pattern, [w], 0.5)[0])


@a_few
@settings(max_examples=20)
@given(seeds, fractions)
def test_leaves_ranked_together(name, seed, fraction):
    pattern, shape, _, lowest = CASES[name]
    leaves = [integers(seed, shape, nan=True), integers(seed + 1, shape)]
    sparsity = between(lowest, fraction)
    made = masks.make(leaves, sparsity, pattern=pattern, scope="global")
    for mask, want in zip(made, expected(pattern, leaves, sparsity), strict=True):
        np.testing.assert_array_equal(mask, want)


def test_two_patterns_under_one_roof():
    params = {"a": integers(0, (8, 5)), "c": integers(1, (5, 7))}
    rules = [Rule("c", pattern=Block((2, 3)))]
    made = masks.make(params, 0.5, pattern=NM(2, 4), rules=rules)
    np.testing.assert_array_equal(made["a"], expected(NM(2, 4), [params["a"]], 0.5)[0])
    np.testing.assert_array_equal(made["c"], expected(Block((2, 3)), [params["c"]], 0.5)[0])
