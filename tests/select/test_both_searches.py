"""The engine with either search, and with totals of either width: masks by sorting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from select_oracle import top_cost, top_k, top_k_rows

from jaxprune.patterns import NM
from jaxprune.select import _wide
from jaxprune.select._search import Bracket, divide_evenly, search
from jaxprune.select._select import select
from jaxprune.select._source import Source

SHAPES = [(8, 5), (0, 4), (16, 4), (2, 4, 3)]
GROUPS = (0, 0, 1, 0)
SIZES = [40, 0, 64, 24]
POOL = [0.0, -0.0, 1.0, -1.0, 2.0, 1e-40, -1e-40, np.inf, -np.inf, np.nan]
PRICES = (3, 1, 5, 2**33)


def draws(dtype):
    """Scores of leaves: many values, few with special ones among them, and one."""
    rng = np.random.default_rng(0)
    for one in (
        lambda shape: rng.normal(size=shape),
        lambda shape: rng.choice(POOL, shape),
        np.ones,
    ):
        yield [one(shape).astype(dtype) for shape in SHAPES]


def two_of_four(x):
    """Along the axis before the last."""
    groups = x.reshape(*x.shape[:-2], -1, 4, x.shape[-1])
    return top_k_rows(groups, 2, -2).reshape(x.shape) if x.size else np.zeros(x.shape, bool)


def members(x):
    """The two highest of four as the only candidates."""
    source = NM(2, 4).units(Source(x))
    return Source(
        x, member=source.member, wanted=jnp.array(True), num_members=x.size // 2, unit=source.unit
    )


def check(dtype=np.float32, *, bounds=False, costs=(1, 1, 1, 1), of_members=False):
    """Each draw, with budgets from nothing to all, in one program."""
    sizes = [size // (1 + of_members) for size in SIZES]
    lower = [size // 8 if bounds else 0 for size in sizes]
    upper = [size - size // 4 if bounds else size for size in sizes]
    wide = [put(_wide.constant(x)) if bounds else None for x in (lower, upper)]

    @jax.jit
    def run(leaves, num_keep):
        sources = [members(x) if of_members else Source(x) for x in leaves]
        prices = None if set(costs) == {1} else costs
        return select(sources, GROUPS, num_keep, lower=wide[0], upper=wide[1], costs=prices)

    for leaves in draws(dtype):
        candidates = [two_of_four(x) if of_members else np.ones(x.shape, bool) for x in leaves]
        for share in (0, 0.3, 0.5, 0.77, 1):
            budgets = []
            for group in (0, 1):
                own = [i for i in range(4) if GROUPS[i] == group]
                least, most = (sum(costs[i] * x[i] for i in own) for x in (lower, upper))
                budgets.append(least + int((most - least) * share))
            made = run([put(x) for x in leaves], put(_wide.constant(budgets)))
            for group in (0, 1):
                own = [i for i in range(4) if GROUPS[i] == group]
                expected = top_cost(
                    [leaves[i][candidates[i]] for i in own],
                    [costs[i] for i in own],
                    budgets[group],
                    [lower[i] for i in own],
                    [upper[i] for i in own],
                )
                for i, mask in zip(own, expected, strict=True):
                    assert not np.any(made[i] & ~candidates[i])
                    np.testing.assert_array_equal(np.asarray(made[i])[candidates[i]], mask)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("bounds", [False, True], ids=["free", "bounds"])
def test_either_keeps_the_highest(bounds):
    check(bounds=bounds)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (np.float32, {"costs": PRICES, "bounds": True}),
        (np.float32, {"costs": PRICES, "of_members": True}),
        (np.float32, {"bounds": True, "of_members": True}),
        (np.float16, {"costs": PRICES}),
        (jnp.bfloat16, {}),
        (np.float64, {}),
    ],
    ids=["costs and bounds", "costs of members", "bounds of members", "f16", "bf16", "f64"],
)
def test_from_a_sample(dtype, options, sample):
    sample(8)
    with jax.enable_x64(dtype == np.float64):
        check(dtype, **options)


def traced(size, num_keep=None):
    """The program of a mask."""
    scores = jax.ShapeDtypeStruct((size,), jnp.float32)
    keep = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return str(jax.make_jaxpr(lambda x, k: select([Source(x)], (0,), k))(scores, keep))


def test_few_are_searched_without_a_sample(sample):
    sample(40)
    few, many = traced(40), traced(41)
    assert "gather" not in few
    assert "gather" in many
    assert few.count("while[") == many.count("while[") == 1


@pytest.mark.parametrize(
    ("shape", "limbs"), [((2**31 - 1,), 1), ((2**16, 2**15), 2)], ids=["2**31 - 1", "2**31"]
)
def test_totals_past_int32_have_two_limbs(shape, limbs):
    """The ends of brackets have a key, a count, and as many limbs."""
    scores = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    keep = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    program = jax.make_jaxpr(lambda x, k: select([Source(x)], (0,), k))(scores, keep)
    (loop,) = (eqn for eqn in program.eqns if eqn.primitive.name == "while")
    low, high = (v.aval.shape for v in loop.outvars[:2])
    assert low == high == (low[0], 2 + limbs)


LOWEST = -(2**31)


@pytest.mark.parametrize("equal", [1, 4, 2**15], ids="{} equal".format)
@pytest.mark.parametrize("kept", [1, 12345, 2**15 - 1])
def test_few_keys_take_19_turns_at_most(equal, kept):
    """13 divide all of float32 into six parts each, and 6 the indices of 2**15 keys."""
    number = 2**15
    rng = np.random.default_rng(0)
    keys = rng.integers(LOWEST + 2, 2**31 - 1, number // equal).astype(np.int32).repeat(equal)
    index = np.arange(number, dtype=np.int32)

    def count_rows(probes, tie, at):
        own = jnp.where(
            tie[:, None], jnp.where(keys[None] == at[:, None], -index[None], LOWEST), keys[None]
        )
        return jnp.stack([(own >= p[:, None]).sum(1, dtype=jnp.int32) for p in probes.T], 1)

    def share(spare, bracket):
        return bracket.missing[:, 0]

    every = jnp.array([[LOWEST + 1, 2**31 - 1]], jnp.int32)
    counts = jnp.array([[number, 0]], jnp.int32)
    start = Bracket.of(every, counts, counts[..., None] - kept)
    found = jax.jit(
        lambda: search(
            count_rows,
            lambda counts: counts[..., None] - kept,
            start,
            divide_evenly(start),
            np.array([number], np.int32),
            share,
            interpolated=False,
        )
    )()
    threshold, cut = found.threshold[0], found.cut[0]
    mask = (keys >= threshold) | ((keys == threshold - 1) & (index < cut))
    np.testing.assert_array_equal(mask, top_k([keys], kept)[0])
    assert found.turns <= 19
