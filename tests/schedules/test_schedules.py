"""Schedules against closed forms worked out by hand, optax, and each other under jit."""

import dataclasses
import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprune import schedules

RAMPS = {
    "polynomial": schedules.polynomial,
    "linear": schedules.linear,
    "cosine": schedules.cosine,
    "exponential": schedules.exponential,
}
MODULES = ("_base", "_schedules", "_events")
ALL = {
    "constant": schedules.constant(0.3),
    "one_shot": schedules.one_shot(0.7, step=4),
    "steps": schedules.steps({5: 0.1, 9: 0.6}),
    **{name: ramp(0.9, begin=3, end=12, init=0.05) for name, ramp in RAMPS.items()},
}

sparsities = st.floats(0.0, 0.99)
spans = st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)).map(sorted)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 0.8 - 0.8 (1 - x)^3 at x = 0, 1/4, 1/2, 3/4, 1
        (schedules.polynomial(0.8, begin=8, end=16), [0, 0.4625, 0.7, 0.7875, 0.8]),
        # 0.9 - 0.8 (1 - x)^2
        (
            schedules.polynomial(0.9, begin=8, end=16, init=0.1, power=2),
            [0.1, 0.45, 0.7, 0.85, 0.9],
        ),
        (schedules.linear(0.5, begin=8, end=16, init=0.1), [0.1, 0.2, 0.3, 0.4, 0.5]),
        # 0.4 (1 - cos(pi x)), cos(pi / 4) = sqrt(1/2)
        (
            schedules.cosine(0.8, begin=8, end=16),
            [0, 0.4 - 0.4 * 0.5**0.5, 0.4, 0.4 + 0.4 * 0.5**0.5, 0.8],
        ),
        # four halvings of the density
        (schedules.exponential(0.9375, begin=8, end=16), [0, 0.5, 0.75, 0.875, 0.9375]),
        (schedules.exponential(0.75, begin=8, end=16, init=0.75), [0.75] * 5),
        (schedules.linear(0.2, begin=8, end=16, init=0.6), [0.6, 0.5, 0.4, 0.3, 0.2]),
    ],
)
def test_closed_forms(schedule, expected):
    steps = np.array([0, 7, 8, 10, 12, 14, 16, 17, 1000])
    expected = [0, 0, *expected, expected[-1], expected[-1]]
    np.testing.assert_allclose(schedule(steps), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(jax.jit(schedule)(steps.astype(np.int32)), expected, atol=2e-7)


def test_jumps_and_stairs():
    assert [schedules.constant(0.3)(t) for t in (0, 1, 99)] == [0.3] * 3
    assert [schedules.one_shot(0.7, step=4)(t) for t in (3, 4, 5)] == [0.0, 0.7, 0.7]
    assert schedules.one_shot(0.7)(0) == 0.7
    jump = schedules.polynomial(0.7, begin=4, end=4, init=0.2)
    assert [jump(t) for t in (3, 4, 5)] == [0.0, 0.7, 0.7]
    stairs = schedules.steps([(9, 0.6), (5, 0.1), (7, 0.0)])
    assert [stairs(t) for t in (0, 4, 5, 6, 7, 8, 9, 50)] == [0, 0, 0.1, 0.1, 0, 0, 0.6, 0.6]
    assert (stairs.begin, stairs.end, stairs.at) == (5, 9, (5, 7, 9))
    assert stairs == schedules.steps({5: 0.1, 7: 0.0, 9: 0.6})


@given(st.sampled_from(sorted(RAMPS)), sparsities, sparsities, spans)
def test_ramps_are_bounded_monotone_and_exact_at_the_ends(name, init, final, span):
    begin, end = span
    schedule = RAMPS[name](final, begin=begin, end=end, init=init)
    steps = np.unique(np.linspace(begin, end, 50).astype(np.int32))
    for values, kind in (
        (schedule(steps), np.float64),
        (np.asarray(schedule(jnp.asarray(steps))), np.float32),
    ):
        assert values.dtype == kind
        assert values[-1] == kind(final)
        assert begin == end or values[0] == kind(init)
        assert values.min() >= kind(min(init, final))
        assert values.max() <= kind(max(init, final))
        rises = np.diff(values) * (1 if final >= init else -1)
        assert rises.min(initial=0) >= -1e-6
    assert schedule(end + 1) == final
    assert begin == 0 or schedule(begin - 1) == 0


@given(st.sampled_from(sorted(ALL)), st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_host_and_device_agree(name, steps):
    schedule = ALL[name]
    host = schedule(np.array(steps))
    device = schedule(jnp.array(steps))
    assert device.dtype == jnp.float32
    np.testing.assert_allclose(device, host, rtol=1e-5, atol=2e-7)
    assert schedule(steps[0]) == host[0]


@pytest.mark.parametrize("power", [1, 2, 3, 1.5])
def test_agrees_with_optax(power):
    ours = schedules.polynomial(0.9, begin=10, end=90, init=0.05, power=power)
    theirs = optax.polynomial_schedule(0.05, 0.9, power, transition_steps=80, transition_begin=10)
    steps = jnp.arange(10, 120)
    np.testing.assert_allclose(ours(steps), jax.vmap(theirs)(steps), atol=3e-7)


@pytest.mark.parametrize("name", sorted(ALL))
def test_one_program_for_all_steps(name):
    compiled = jax.jit(ALL[name])
    values = [float(compiled(jnp.int32(t))) for t in range(20)]
    np.testing.assert_allclose(values, [ALL[name](t) for t in range(20)], rtol=1e-5, atol=2e-7)
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("name", sorted(ALL))
def test_works_as_an_optax_schedule(name):
    transform = optax.scale_by_schedule(ALL[name])
    state = transform.init(jnp.zeros(()))

    def step(state, _):
        update, state = transform.update(jnp.ones(()), state)
        return state, update

    _, values = jax.lax.scan(step, state, None, length=20)
    np.testing.assert_allclose(values, ALL[name](np.arange(20)), rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("name", [*sorted(RAMPS), "constant", "one_shot"])
@pytest.mark.parametrize("on_device", [True, False])
def test_a_traced_target_sweeps_in_one_vmap(name, on_device):
    def build(final, init):
        if name == "constant":
            return schedules.constant(final)
        if name == "one_shot":
            return schedules.one_shot(final, step=2)
        return RAMPS[name](final, begin=2, end=10, init=init)

    finals, inits = np.float32([0.5, 0.9, 0.25]), np.float32([0.0, 0.1, 0.25])
    for t in (1, 2, 5, 10, 11):
        step = jnp.int32(t) if on_device else t
        swept = jax.jit(jax.vmap(lambda f, i, step=step: build(f, i)(step)))(finals, inits)
        assert swept.dtype == jnp.float32
        each = [build(f, i)(t) for f, i in zip(finals, inits, strict=True)]
        np.testing.assert_allclose(swept, each, rtol=1e-5, atol=2e-7)
        if t >= 10:
            np.testing.assert_array_equal(swept, finals)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int32", "float32"])
@pytest.mark.parametrize("xp", [np, jnp])
def test_any_counter(xp, dtype):
    schedule = schedules.linear(0.5, begin=100, end=1000)
    stairs = schedules.steps({100: 0.25, 1000: 0.5})
    steps = xp.asarray([0, 99, 100, 127], dtype)
    np.testing.assert_allclose(schedule(steps), [0, 0, 0, 0.015], atol=1e-7)
    np.testing.assert_array_equal(stairs(steps), [0, 0, 0.25, 0.25])


def test_a_large_span_stays_accurate_on_the_device():
    schedule = schedules.linear(0.5, begin=0, end=2**31 - 1)
    for t in (2**24 + 1, 2**30, 2**31 - 2):
        np.testing.assert_allclose(jax.jit(schedule)(jnp.int32(t)), schedule(t), rtol=3e-7)
    assert schedule(jnp.int32(2**31 - 1)) == 0.5


def test_kinds_of_results():
    schedule = ALL["linear"]
    assert type(schedule(5)) is type(schedule(np.int64(5))) is float
    assert schedule(np.zeros((2, 3), int)).shape == (2, 3)
    assert schedule(-1) == 0.0
    assert isinstance(schedule(jnp.int32(5)), jax.Array)


def test_schedules_are_frozen_hashable_values():
    for name, ramp in RAMPS.items():
        same = ramp(np.float32(0.9), begin=np.int64(3), end=12, init=0.05)
        assert same == ALL[name]
        assert hash(same) == hash(ALL[name])
    assert len(set(ALL.values())) == len(ALL)
    assert schedules.polynomial(0.5, begin=0, end=1, power=3.0).power == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        ALL["linear"].begin = 4


def test_a_schedule_of_ones_own():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Root(schedules.Schedule):
        def value(self, step, xp):
            return xp.sqrt(xp.clip(step, self.begin, self.end) / 100)

    root = Root(begin=9, end=25)
    assert [root(t) for t in (8, 9, 25, 26)] == [0.0, 0.3, 0.5, 0.5]
    np.testing.assert_allclose(jax.jit(root)(jnp.arange(8, 27)), root(np.arange(8, 27)), rtol=1e-6)
    with pytest.raises(TypeError, match="abstract"):
        schedules.Schedule(begin=0, end=1)


@pytest.mark.parametrize("name", sorted(RAMPS))
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"begin": 7, "end": 5}, ValueError, r"begin=7 comes after end=5.*begin <= end"),
        ({"begin": -1}, ValueError, r"begin=-1 must be at least 0"),
        ({"end": 2**31}, ValueError, r"end=2147483648 is beyond 2147483647"),
        ({"end": 5.0}, TypeError, r"end=5.0 is not a whole number"),
        ({"end": True}, TypeError, r"end=True is not a step"),
        ({"init": 1.0}, ValueError, r"init=1.0 must be a fraction"),
        ({"init": "x"}, TypeError, r"init='x' is not a number"),
        ({"final": 90}, ValueError, r"final=90 must be a fraction.*0\.9"),
        ({"final": None}, TypeError, r"final=None is not a number"),
    ],
)
def test_errors_of_ramps(name, change, error, match):
    given_ = {"final": 0.5, "begin": 0, "end": 10, "init": 0.0} | change
    with pytest.raises(error, match=match):
        RAMPS[name](given_.pop("final"), **given_)


@pytest.mark.parametrize(
    ("power", "error", "match"),
    [
        (0, ValueError, r"power=0 must be finite and above 0"),
        (-1, ValueError, r"power=-1 must be finite"),
        (float("inf"), ValueError, r"power=inf must be finite"),
        (float("nan"), ValueError, r"power=nan must be finite"),
        (True, TypeError, r"power=True is not a static number"),
        ("3", TypeError, r"power='3' is not a static number"),
    ],
)
def test_errors_of_power(power, error, match):
    with pytest.raises(error, match=match):
        schedules.polynomial(0.5, begin=0, end=1, power=power)


@pytest.mark.parametrize(
    ("mapping", "error", "match"),
    [
        ({}, ValueError, r"mapping=\{\} is empty; give \{step: sparsity\}"),
        ([], ValueError, r"mapping=\[\] is empty"),
        ([(1, 0.1), (1, 0.2)], ValueError, r"step=1 twice"),
        ([1, 2], TypeError, r"mapping=\[1, 2\] holds no pairs"),
        ([(1, 2, 3)], TypeError, r"holds no pairs"),
        (0.5, TypeError, r"mapping=0.5 holds no pairs"),
        ({1.5: 0.1}, TypeError, r"step=1.5 is not a whole number"),
        ({-1: 0.1}, ValueError, r"step=-1 must be at least 0"),
        ({1: 1.0}, ValueError, r"mapping\[1\]=1.0 must be a fraction"),
        ({1: "x"}, TypeError, r"mapping\[1\]='x' is not a number"),
    ],
)
def test_errors_of_steps(mapping, error, match):
    with pytest.raises(error, match=match):
        schedules.steps(mapping)


def test_errors_of_jumps():
    with pytest.raises(ValueError, match=r"sparsity=1.0 must be a fraction"):
        schedules.constant(1.0)
    with pytest.raises(ValueError, match=r"step=-1 must be at least 0"):
        schedules.one_shot(0.5, step=-1)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda t: schedules.steps({1: t}), r"mapping\[1\] is traced.*polynomial"),
        (lambda t: schedules.linear(0.5, begin=t, end=9), r"begin is traced"),
        (lambda t: schedules.one_shot(0.5, step=t), r"step is traced"),
        (lambda t: schedules.polynomial(0.5, begin=0, end=9, power=t), r"power=.*static"),
        (lambda t: schedules.constant(jnp.stack([t, t])), r"sparsity must be a scalar"),
    ],
)
def test_errors_of_what_must_not_be_traced(build, match):
    with pytest.raises(TypeError, match=match):
        jax.jit(lambda t: build(t) and t)(0.5)


@pytest.mark.parametrize("step", ["3", True, None])
def test_errors_of_the_step(step):
    with pytest.raises(TypeError, match=rf"step={step!r} is not a number"):
        ALL["linear"](step)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"jaxprune.schedules.{name}")
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
