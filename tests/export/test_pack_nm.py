"""N:M arrays as values and indices, against a loop."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxprune import NM, export


def by_loop(w, kept, n, m, axis):
    """Values and places of each group, one after the other."""
    lines = np.moveaxis(w, axis, -1)
    marks = np.moveaxis(kept, axis, -1)
    shape = (*lines.shape[:-1], lines.shape[-1] // m * n)
    values, places = np.zeros(shape, w.dtype), np.zeros(shape, int)
    for at in np.ndindex(lines.shape[:-1]):
        for g in range(lines.shape[-1] // m):
            chosen = [j for j in range(m) if marks[at][g * m + j]]
            free = [j for j in range(m) if j not in chosen]
            for i, j in enumerate(sorted(chosen + free[: n - len(chosen)])):
                places[at][g * n + i] = j
                values[at][g * n + i] = lines[at][g * m + j] if j in chosen else 0
    return np.moveaxis(values, -1, axis), np.moveaxis(places, -1, axis)


@st.composite
def cases(draw):
    m = draw(st.integers(2, 9))
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] *= m
    return draw(st.integers(1, m - 1)), m, axis, tuple(shape), draw(st.booleans())


@given(case=cases(), seed=st.integers(0, 1000))
@example(case=(2, 4, -2, (8, 3), False), seed=0)
@example(case=(2, 4, -1, (0, 4), True), seed=0)
def test_against_a_loop_and_back(case, seed):
    n, m, axis, shape, masked = case
    rng, pattern = np.random.default_rng(seed), NM(n, m, axis)
    w = rng.standard_normal(shape).astype(np.float32)
    order = np.argsort(np.moveaxis(rng.random(shape), axis, -1).reshape(-1, m), axis=-1)
    kept = (order < rng.integers(0, n + 1, (order.shape[0], 1))).reshape(
        np.moveaxis(w, axis, -1).shape
    )
    kept = np.moveaxis(kept, -1, axis)
    sparse = np.where(kept, w, np.float32(0))
    values, indices = export.pack_nm(w if masked else sparse, pattern, kept if masked else None)
    expected, places = by_loop(sparse, kept, n, m, axis)
    np.testing.assert_array_equal(values, expected, strict=True)
    width = (m - 1).bit_length()
    text = "".join(f"{place:0{width}b}" for place in places.reshape(-1))
    wanted = [int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8)]
    np.testing.assert_array_equal(indices, np.array(wanted, np.uint8), strict=True)
    np.testing.assert_array_equal(export.unpack_nm(values, indices, pattern), sparse, strict=True)


def test_2_of_4_takes_half_the_values_and_a_bit_for_each_weight():
    w = np.zeros((64, 32), np.float32)
    w[1::4], w[3::4] = 1, 2
    values, indices = export.pack_nm(w, NM(2, 4))
    assert values.nbytes == w.nbytes // 2
    assert indices.nbytes == w.size // 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: export.pack_nm(np.ones((4, 4)), NM(2, 4)), "a group of 4 keeps 4, more than 2"),
        (lambda: export.pack_nm(np.ones((6, 4)), NM(2, 4)), "not divisible by 4"),
        (lambda: export.pack_nm(np.ones(4), NM(2, 4)), "axis -2 of a leaf with 1 axes"),
        (lambda: export.pack_nm(np.ones(4), NM(2, 4, -1), np.ones(4)), "mask is float64"),
        (lambda: export.pack_nm(np.ones(4), NM(2, 4, -1), np.ones(8, bool)), r"mask is bool\[8\]"),
    ],
)
def test_packing_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("values", "indices", "message"),
    [
        ([5, 7], [0b11010000], "must rise"),
        ([5, 7], [0b01010000], "must rise"),
        ([5, 7], [0b01110001], "bits are set after the last index"),
        ([5, 7], [0b01110000, 0], r"indices are uint8\[2\]; 2 values take uint8\[1\]"),
        ([5, 7, 9], [0b01110000], "not divisible by 2"),
    ],
)
def test_damaged_indices(values, indices, message):
    with pytest.raises(ValueError, match=message):
        export.unpack_nm(np.array(values), np.array(indices, np.uint8), NM(2, 4, -1))


def test_an_index_beyond_the_group():
    with pytest.raises(ValueError, match="must rise and be below 3"):
        export.unpack_nm(np.ones(1), np.array([0b11000000], np.uint8), NM(1, 3, -1))
    with pytest.raises(ValueError, match="indices are int64"):
        export.unpack_nm(np.ones(1), np.array([0]), NM(1, 3, -1))
