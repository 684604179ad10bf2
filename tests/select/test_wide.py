"""Limbs against Python integers, which have no width."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxprune.select import _wide

BITS = [3, 4, 5, 6, _wide.BITS]


def limbs(values, bits):
    return put(_wide.constant(values, bits=bits))


def value(wide, bits):
    """As Python integers, of limbs that are in their range."""
    wide = np.asarray(wide)
    assert wide.dtype == np.int32
    high, low = wide[..., 0].ravel().tolist(), wide[..., 1].ravel().tolist()
    assert all(0 <= limb < 1 << bits for limb in low)
    return [(h << bits) + n for h, n in zip(high, low, strict=True)]


def some(low, high, number=4):
    """Lists of so many: one shape, one compilation."""
    near = st.integers(-3, 3)
    return st.lists(
        st.integers(low, high) | near.filter(lambda x: x >= low), min_size=number, max_size=number
    )


@functools.cache
def compiled(function, bits):
    return jax.jit(functools.partial(function, bits=bits))


def sums(bits):
    """What a total may reach."""
    return (1 << (30 + bits)) - 1


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_constants(bits, data):
    values = data.draw(some(-sums(bits), sums(bits)))
    assert value(_wide.constant(values, bits=bits), bits) == values


def test_constants_nest():
    wide = _wide.constant([[0, 2**20], [2**31, 2**45 + 5]])
    assert wide.shape == (2, 2, 2)
    assert value(wide, _wide.BITS) == [0, 2**20, 2**31, 2**45 + 5]
    assert _wide.constant(2**40).shape == (2,)


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_int32_there_and_back(bits, data):
    values = data.draw(some(-(2**31), 2**31 - 1))
    wide = compiled(_wide.from_int32, bits)(np.array(values, np.int32))
    assert value(wide, bits) == values
    assert compiled(_wide.to_int32, bits)(wide).tolist() == values


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_differences_and_order(bits, data):
    a, b = data.draw(some(0, sums(bits))), data.draw(some(0, sums(bits)))
    b[0] = a[0]
    x, y = limbs(a, bits), limbs(b, bits)
    difference = compiled(_wide.subtract, bits)(x, y)
    assert value(difference, bits) == [m - n for m, n in zip(a, b, strict=True)]
    reached = compiled(_wide.at_least, bits)(x, y).tolist()
    assert reached == [m >= n for m, n in zip(a, b, strict=True)]
    assert _wide.equal(x, y).tolist() == [m == n for m, n in zip(a, b, strict=True)]


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_bounds_and_signs(bits, data):
    values, edges = data.draw(some(-sums(bits), sums(bits))), data.draw(some(0, sums(bits)))
    low, high = min(edges), max(edges)
    wide = limbs(values, bits)
    clipped = compiled(_wide.clip, bits)(wide, limbs([low], bits), limbs([high], bits))
    assert value(clipped, bits) == [min(max(v, low), high) for v in values]
    assert value(compiled(_wide.negative, bits)(wide), bits) == [-v for v in values]


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_totals_before(bits, data):
    values = data.draw(some(0, sums(bits) // 4))
    before = value(compiled(_wide.totals_before, bits)(limbs(values, bits)), bits)
    assert before == [sum(values[:i]) for i in range(4)]


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_carry_restores_the_range(bits, data):
    high, low = data.draw(some(-(2**29), 2**29)), data.draw(some(-(2**29), 2**29))
    wide = compiled(_wide.carry, bits)(np.array([high, low], np.int32).T)
    assert value(wide, bits) == [(h << bits) + n for h, n in zip(high, low, strict=True)]


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_floats_are_near(bits, data):
    values = data.draw(some(-sums(bits), sums(bits)))
    floats = compiled(_wide.to_float, bits)(limbs(values, bits)).tolist()
    for number, exact in zip(floats, values, strict=True):
        assert abs(number - exact) <= abs(exact) * 2.0**-22
        assert number == exact or abs(exact) >= 2**24


# Wide limbs leave room for few summands before a carry: 26 bits for 16, 28 bits for 4.
@pytest.mark.parametrize("bits", [*BITS, 26, 28])
@pytest.mark.parametrize("length", [1, 5, 70])
@given(data=st.data())
def test_totals(bits, length, data):
    most = min(2**31 - 1, sums(bits) // length)
    element = st.integers(0, most) | st.sampled_from([0, most])
    counts = data.draw(hnp.arrays(np.int32, (length, 3), elements=element))
    wide = compiled(_wide.total, bits)(compiled(_wide.from_int32, bits)(counts))
    assert value(wide, bits) == [sum(column) for column in counts.T.tolist()]


@pytest.mark.parametrize("length", [1023, 16384, 16385, 50000])
@pytest.mark.parametrize("count", [1, 2**20 - 1, 2**20, 2**31 - 1])
def test_totals_past_int32(length, count):
    wide = _wide.total(_wide.from_int32(jnp.full(length, count, jnp.int32)))
    assert value(wide, _wide.BITS) == [length * count]


def test_a_total_past_2_to_the_40_is_compared_to_the_unit():
    counts = np.random.default_rng(0).integers(0, 2**31, 3000).astype(np.int32)
    exact = sum(counts.tolist())
    assert exact > 2**41
    total = _wide.total(_wide.from_int32(put(counts)))
    for difference in (-(2**33), -1, 0, 1, 2**33):
        other = limbs(exact + difference, _wide.BITS)
        assert bool(_wide.at_least(total, other)) == (difference <= 0)
        assert bool(_wide.equal(total, other)) == (difference == 0)
        assert value(_wide.subtract(total, other), _wide.BITS) == [-difference]


def test_no_counts():
    assert value(_wide.total(jnp.zeros((0, 2), jnp.int32)), _wide.BITS) == [0]


# Factors are static, so nothing is compiled once: fewer examples, of more numbers each.
@pytest.mark.parametrize("bits", BITS)
@settings(max_examples=8)
@given(data=st.data())
def test_products(bits, data):
    values = data.draw(some(-sums(bits), sums(bits), 16))
    most = [sums(bits) // max(abs(v), 1) for v in values]
    factors = [data.draw(st.integers(0, m) | st.sampled_from([0, m])) for m in most]
    product = _wide.times(limbs(values, bits), factors, bits)
    assert value(product, bits) == [v * f for v, f in zip(values, factors, strict=True)]


@pytest.mark.parametrize("bits", BITS)
@settings(max_examples=8)
@given(data=st.data())
def test_how_many_times_a_factor_fits(bits, data):
    """In the range of products: most * factor <= sums, and any limit."""
    factors = data.draw(some(0, sums(bits), 16))
    most = [data.draw(st.integers(0, (sums(bits) // 2) // max(f, 1))) for f in factors]
    anywhere = data.draw(some(-sums(bits), sums(bits), 16))
    near = [m * f + data.draw(st.integers(-1, 1)) for m, f in zip(most, factors, strict=True)]
    for limit in (anywhere, near):
        number = _wide.most_times(limbs(limit, bits), factors, limbs(most, bits), bits)
        assert value(number, bits) == [
            0 if bound < 0 else m if f == 0 else min(m, bound // f)
            for bound, f, m in zip(limit, factors, most, strict=True)
        ]
