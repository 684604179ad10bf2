"""Events against sets of steps counted out in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprune import schedules
from jaxprune.schedules import Events, every, resolve_events

RAMP = schedules.polynomial(0.9, begin=10, end=25)
LAST = 2**31 - 1  # of an int32 counter


def counted(begin, end, n):
    """Every n-th step, one by one, and the last."""
    return sorted({t for t in range(begin, end + 1) if (t - begin) % n == 0} | {end})


def check(events, expected):
    """All ways to ask for the events agree with a list of them."""
    assert events.all().tolist() == expected
    assert len(events) == len(expected)
    assert (events.begin, events.end) == (expected[0], expected[-1])
    steps = np.arange(410) + max(expected[0] - 5, 0)  # one shape, compiled once
    is_event = [int(t) in set(expected) for t in steps]
    index = [sum(e <= t for e in expected) - 1 for t in steps]
    for ours, theirs, dtype in ((events.is_event, is_event, bool), (events.index, index, np.int32)):
        for got in (ours(steps), ours(jnp.asarray(steps, jnp.int32))):
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, theirs)
        assert ours(int(steps[0])) == theirs[0]
    assert type(events.is_event(0)) is bool
    assert type(events.index(0)) is int


@pytest.mark.parametrize(
    ("begin", "end", "n", "expected"),
    [
        (1500, 1900, 1000, [1500, 1900]),
        (10, 25, 10, [10, 20, 25]),
        (10, 30, 10, [10, 20, 30]),
        (0, 3, 1, [0, 1, 2, 3]),
        (7, 7, 5, [7]),
        (0, 10, 10, [0, 10]),
        (0, 10, 11, [0, 10]),
    ],
)
def test_the_end_is_always_an_event(begin, end, n, expected):
    events = resolve_events(every(n, begin=begin, end=end), lambda step: 0.5)
    assert events.steps is None
    check(events, expected)
    explicit = resolve_events(expected, lambda step: 0.5)
    for compiled in (jax.jit(events.is_event), jax.jit(explicit.is_event)):
        np.testing.assert_array_equal(compiled(events.all()), np.ones(len(events), bool))
        assert not compiled(end + 1)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 50))
def test_arithmetic_events(begin, span, n):
    check(Events(begin, begin + span, n), counted(begin, begin + span, n))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12))
def test_explicit_events(steps):
    check(resolve_events(steps, lambda step: 0.5), sorted(set(steps)))


@pytest.mark.parametrize(
    "when",
    [[30, 10, 10], (10, 30), {30, 10}, np.array([10, 30]), jnp.array([30, 10]), iter([10, 30])],
)
def test_kinds_of_explicit_steps(when):
    events = resolve_events(when, RAMP)
    assert events == Events(10, 30, steps=(10, 30))
    assert hash(events) == hash(Events(10, 30, steps=(10, 30)))


def test_bounds_come_from_the_schedule():
    assert resolve_events(every(10), RAMP) == Events(10, 25, 10)
    assert resolve_events(every(10, begin=0), RAMP) == Events(0, 25, 10)
    assert resolve_events(every(10, end=99), RAMP) == Events(10, 99, 10)
    assert resolve_events(every(10, end=99), 0.5) == Events(0, 99, 10)


def test_events_without_when():
    assert resolve_events(None, schedules.steps({5: 0.1, 9: 0.2})).steps == (5, 9)
    assert resolve_events(None, schedules.one_shot(0.5, step=7)).all().tolist() == [7]
    assert resolve_events(None, schedules.constant(0.5)).all().tolist() == [0]
    assert resolve_events(None, 0.5).all().tolist() == [0]
    assert resolve_events(None, RAMP) == Events(10, 25, 1)
    long = schedules.linear(0.5, begin=1000, end=51_000)
    assert resolve_events(None, long) == Events(1000, 51_000, 500)


@given(st.integers(100, 2**31 - 1))
def test_about_a_hundred_events_by_default(end):
    assert 67 <= len(resolve_events(None, schedules.linear(0.5, begin=0, end=end))) <= 202


def test_a_traced_target_leaves_events_static():
    def build(final):
        swept = schedules.polynomial(final, begin=10, end=25)
        assert resolve_events(every(10), swept) == Events(10, 25, 10)
        assert resolve_events(None, final).all().tolist() == [0]
        return final

    jax.vmap(build)(jnp.array([0.1, 0.2]))


@pytest.mark.parametrize(
    "events", [Events(100, 1000, 7), Events(5, 2000, steps=(5, 100, 107, 2000))]
)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32", "int32"])
def test_any_counter(events, dtype):
    steps = np.array([0, 5, 100, 107, 120])
    np.testing.assert_array_equal(
        events.is_event(jnp.asarray(steps, dtype)), np.isin(steps, events.all())
    )
    np.testing.assert_array_equal(events.index(jnp.asarray(steps, dtype)), events.index(steps))


def test_no_constant_and_one_program_for_arithmetic_events():
    events = Events(0, 2**31 - 1, 3)
    assert len(events) == 715_827_884  # 0, 3, .., 2147483646, and the end
    assert not jax.make_jaxpr(events.is_event)(jnp.int32(0)).consts
    compiled = jax.jit(events.is_event)
    assert [bool(compiled(jnp.int32(t))) for t in (0, 1, 3, 2**31 - 2, 2**31 - 1)] == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert compiled._cache_size() == 1


@pytest.mark.parametrize(
    ("n", "begin", "expected"),
    [
        (7, LAST - 20, [LAST - 20, LAST - 13, LAST - 6, LAST]),
        (1, LAST - 1, [LAST - 1, LAST]),
        (2**40, LAST - 20, [LAST - 20, LAST]),
        (3, LAST, [LAST]),
    ],
)
def test_events_at_the_end_of_a_counter(n, begin, expected):
    """Of int32, or of a wider counter that goes on beyond."""
    events = resolve_events(every(n, begin=begin, end=LAST), lambda step: 0.5)
    assert events.all().tolist() == expected
    steps = np.array([0, *range(LAST - 22, LAST + 9), 2**32 - 1])
    index = np.searchsorted(expected, steps, side="right") - 1
    for counter in (steps, steps[steps <= LAST].astype(np.int32)):
        for kind in (np.asarray, jnp.asarray) if counter.dtype == np.int32 else (np.asarray,):
            got = events.is_event(kind(counter)), events.index(kind(counter))
            np.testing.assert_array_equal(got[0], np.isin(counter, expected))
            np.testing.assert_array_equal(got[1], index[: len(counter)])
    unsigned = jnp.asarray(steps, jnp.uint32)
    np.testing.assert_array_equal(events.is_event(unsigned), np.isin(steps, expected))
    np.testing.assert_array_equal(events.index(unsigned), index)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n": 0}, ValueError, r"n=0 must be at least 1"),
        ({"n": 1.5}, TypeError, r"n=1.5 is not a whole number"),
        ({"n": 1, "begin": -1}, ValueError, r"begin=-1 must be at least 0"),
        ({"n": 1, "begin": 9, "end": 5}, ValueError, r"begin=9 comes after end=5"),
        ({"n": 1, "begin": 2**31}, ValueError, r"begin=2147483648 is beyond"),
        ({"n": 1, "end": 2**31}, ValueError, r"end=2147483648 is beyond"),
        ({"n": 1, "begin": 2**40, "end": 2**40}, ValueError, r"begin=1099511627776 is beyond"),
    ],
)
def test_errors_of_every(arguments, error, match):
    with pytest.raises(error, match=match):
        every(**arguments)


@pytest.mark.parametrize(
    ("when", "schedule", "error", "match"),
    [
        (None, lambda t: 0.5, ValueError, r"when=None.*pass when=jaxprune\.every\(n, begin=\.\.\."),
        (every(5), lambda t: 0.5, ValueError, r"leaves begin or end.*when=jaxprune\.every\(n"),
        (every(5, begin=0), lambda t: 0.5, ValueError, r"leaves begin or end"),
        (every(5, end=9), lambda t: 0.5, ValueError, r"leaves begin or end"),
        (every(5), 0.5, ValueError, r"jumps at step 0 and has no span.*when=jaxprune\.every\(n"),
        (every(5), schedules.one_shot(0.5, step=7), ValueError, r"jumps at step 7"),
        (every(5, begin=30), RAMP, ValueError, r"begin=30 after end=25"),
        (every(5, end=5), RAMP, ValueError, r"begin=10 after end=5"),
        (every(5, end=24), RAMP, ValueError, r"step 24, comes before the schedule's end=25"),
        ([10, 20], RAMP, ValueError, r"step 20, comes before the schedule's end=25.*add an event"),
        ([], RAMP, ValueError, r"when=\[\] holds no steps"),
        ([-1], RAMP, ValueError, r"when\[0\]=-1 must be at least 0"),
        ([1, 2**31], RAMP, ValueError, r"when\[1\]=2147483648 is beyond"),
        ([1.5], RAMP, TypeError, r"when\[0\]=1.5 is not a whole number"),
        ([True], RAMP, TypeError, r"when\[0\]=True is not a step"),
        (100, RAMP, TypeError, r"when=100 holds no steps; pass None, jaxprune\.every"),
        (0.5, RAMP, TypeError, r"when=0.5 holds no steps"),
        (True, RAMP, TypeError, r"when=True holds no steps"),
        ("100", RAMP, TypeError, r"when='100' does not say"),
        (RAMP, RAMP, TypeError, r"when=Polynomial.* does not say"),
        (None, "x", TypeError, r"sparsity='x' is not a number"),
        (None, 1.5, ValueError, r"sparsity=1.5 must be a fraction"),
    ],
)
def test_errors_of_resolve(when, schedule, error, match):
    with pytest.raises(error, match=match):
        resolve_events(when, schedule)


def test_errors_of_traced_events():
    for when, match in ((lambda t: t, r"when is traced"), (lambda t: [t], r"when\[0\] is traced")):
        with pytest.raises(TypeError, match=match):
            jax.jit(lambda t, when=when: resolve_events(when(t), RAMP) and t)(5)
