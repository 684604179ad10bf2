"""Which weights are kept: counts, ties and comparison groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cores_oracle import RNG, highest, highest_units
from draws import put

from jaxprune.oneshot import cores

CUTS = [cores.Cut(), cores.Cut(rows=4), cores.Cut(columns=3), cores.Cut(2, 2)]
SHAPE = (12, 6)


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("kind", ["distinct", "ties", "equal"])
def test_choose_keeps_exactly_the_highest(cut, kind):
    scores = {
        "distinct": RNG.normal(size=SHAPE),
        "ties": RNG.integers(0, 3, SHAPE).astype(float),
        "equal": np.ones(SHAPE),
    }[kind].astype(np.float32)
    units = cut.num_units(SHAPE)
    each = cut.rows * cut.columns
    assert units * each == scores.size
    for keep in (0, 1, units // 2, units - 1, units, units + 5, -1):
        mask = np.asarray(cores.choose(scores, keep, cut))
        assert mask.sum() == min(max(keep, 0), units) * each
        if kind != "distinct" or keep in (1, units // 2):
            k = min(max(keep, 0), units)
            assert (
                mask == highest_units(scores.astype(np.float64), k, cut.rows, cut.columns)
            ).all()


def test_choose_n_of_m():
    scores = RNG.normal(size=SHAPE).astype(np.float32)
    for choose in (cores.choose, cores.choose_per_output):
        mask = np.asarray(choose(scores, None, cores.Cut(nm=(1, 4))))
        for o in range(SHAPE[1]):
            for i in range(0, SHAPE[0], 4):
                assert (mask[i : i + 4, o] == highest(scores[i : i + 4, o], 1)).all()


def test_a_unit_with_nan_ranks_lowest():
    scores = jnp.arange(12.0).reshape(4, 3).at[3, 2].set(jnp.nan)
    assert not cores.choose(scores, 11, cores.Cut())[3, 2]
    assert not cores.choose(scores, 5, cores.Cut(rows=2))[2:, 2].any()


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_per_output_keeps_equally_many(cut):
    scores = RNG.normal(size=SHAPE).astype(np.float32)
    groups = SHAPE[1] // cut.columns
    units = cut.num_units(SHAPE)
    for keep in (0, 1, groups, groups + 1, units - 1, units):
        mask = np.asarray(cores.choose_per_output(scores, keep, cut))
        for g in range(groups):
            k = keep // groups + (g < keep % groups)
            part = slice(g * cut.columns, (g + 1) * cut.columns)
            expected = highest_units(scores[:, part], k, cut.rows, cut.columns)
            assert (mask[:, part] == expected).all()


def test_magnitude_and_wanda():
    W, squares = RNG.normal(size=SHAPE), RNG.uniform(0.1, 9, SHAPE[0])
    mask = cores.magnitude(put(W, jnp.float32), 20, cores.Cut())
    assert (np.asarray(mask) == highest(np.abs(W), 20)).all()
    mask = cores.wanda(put(W, jnp.float32), put(squares), 18, cores.Cut())
    scores = np.abs(W) * squares[:, None] ** 0.5
    for column, kept in zip(scores.T, np.asarray(mask).T, strict=True):
        assert (kept == highest(column, 3)).all()


def test_bfloat16_is_ranked_as_it_is():
    W = put(RNG.normal(size=SHAPE), jnp.bfloat16)
    mask = np.asarray(cores.magnitude(W, 31, cores.Cut()))
    assert (mask == highest(np.abs(np.asarray(W, np.float64)), 31)).all()
    assert cores.wanda(W, jnp.ones(12, jnp.bfloat16), 31, cores.Cut()).sum() == 31


@pytest.mark.parametrize("choose", [cores.choose, cores.choose_per_output])
def test_one_program_for_every_keep(choose):
    scores = put(RNG.normal(size=(3, *SHAPE)), jnp.float32)
    keep = jnp.array([5, 40, 72])
    together = jax.jit(jax.vmap(lambda s, k: choose(s, k, cores.Cut())))
    each = jax.jit(lambda s, k: choose(s, k, cores.Cut()))
    masks = together(scores, keep)
    for i in range(3):
        assert (masks[i] == each(scores[i], keep[i])).all()
    assert each._cache_size() == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rows": 0}, ValueError, "rows=0 must be at least 1"),
        ({"columns": 1.5}, TypeError, "columns=1.5 must be a whole number"),
        ({"rows": True}, TypeError, "rows=True must be a whole number"),
        ({"nm": 2}, TypeError, r"nm=2 must be a tuple \(n, m\)"),
        ({"nm": (2, 4, 8)}, TypeError, "must be a tuple"),
        ({"nm": (0, 4)}, ValueError, "n=0 must be at least 1"),
        ({"nm": (5, 4)}, ValueError, "keep n of every m"),
        ({"nm": (2, 4), "rows": 2}, ValueError, "with rows=2, columns=1; leave one out"),
    ],
)
def test_cut_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        cores.Cut(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: cores.Cut(rows=5).num_units(s.shape), ValueError, r"rows=5.*shape \(12, 6\)"),
        (lambda s: cores.choose(s, 1, cores.Cut(columns=4)), ValueError, "columns=4 must divide"),
        (lambda s: cores.choose(s, 1, cores.Cut(nm=(2, 8))), ValueError, "m=8 must divide"),
        (lambda s: cores.choose(s, 0.5, cores.Cut()), TypeError, "keep must be a whole number"),
        (lambda s: cores.choose_per_output(s, jnp.ones(2, int), cores.Cut()), TypeError, "keep"),
        (lambda s: cores.wanda(s, jnp.ones(6), 1, cores.Cut()), ValueError, r"squares.*\(6,\)"),
    ],
)
def test_choosing_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.ones(SHAPE))
