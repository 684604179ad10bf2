"""Courses other than a climb: falling, ending at 0, close to the last step of a counter, traced."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from prune_cases import advance, assert_zeros, dyadic, masks_by_path

import jaxprune as jp

SCOPES = pytest.mark.parametrize("scope", ["leaf", "global"])
LAST = 2**31 - 1


def make_params():
    return {"low": {"kernel": dyadic(0, (8, 8)) / 8}, "high": {"kernel": dyadic(1, (8, 8)) * 8}}


def falls(first, then):
    """A schedule of two values."""
    return lambda step: first if step < 2 else then


def run(steps=4, *, start=0, **options):
    """What each leaf keeps after every step, by path; params that do not train."""
    params, kept = make_params(), []
    tx = jp.prune(optax.sgd(0.0), **options)
    state = tx.init(params)._replace(prune_step=jnp.int32(start))
    for step in range(steps):
        params, state = advance(tx, step, params, state)
        masks = masks_by_path(jp.get_masks(state))
        kept.append({path.partition("/")[0]: int(mask.sum()) for path, mask in masks.items()})
    assert_zeros(params, jp.get_masks(state))
    return kept


# --- falling ------------------------------------------------------------------------------------


@SCOPES
@pytest.mark.parametrize("bound", [0.25, 0.5])
def test_a_lower_bound_on_a_course_that_falls(scope, bound):
    """Above its last value the bound is in force as a whole, and no more than that."""
    kept = run(sparsity=falls(0.75, 0.5), when=[0, 2], scope=scope, min_sparsity=bound)
    assert [sum(k.values()) for k in kept] == [32, 32, 64, 64]
    assert all(k[name] <= 64 * (1 - bound) for k in kept for name in k)


@SCOPES
@pytest.mark.parametrize("course", [0.0, falls(0.75, 0.0)], ids=["constant", "falls"])
def test_a_course_that_ends_at_0(scope, course):
    bounds = {"min_sparsity": 0.0, "max_sparsity": 0.875}
    kept = run(sparsity=course, when=[0, 2], scope=scope, **bounds)
    assert kept[-1] == {"low": 64, "high": 64}
    assert sum(kept[0].values()) == round(128 * (1 - (course(0) if callable(course) else course)))
    assert min(kept[0].values()) >= 8


@SCOPES
@pytest.mark.parametrize("course", [0.0, falls(0.75, 0.0)], ids=["constant", "falls"])
def test_a_lower_bound_that_0_cannot_meet(scope, course):
    tx = jp.prune(sparsity=course, when=[0, 2], scope=scope, min_sparsity=0.25)
    with pytest.raises(ValueError, match=r"sparsity=0.*0\.25 to 1"):
        tx.init(make_params())


@pytest.mark.parametrize("final", [0.5, 0.0])
def test_a_number_of_a_rule_on_a_course_that_falls(final):
    rules = [jp.Rule("low/.*", sparsity=0.25)]
    kept = run(sparsity=falls(0.75, final), when=[0, 2], rules=rules)
    high = [16, 16, round(64 * (1 - final)), round(64 * (1 - final))]
    assert kept == [{"low": 48, "high": n} for n in high]


@SCOPES
@pytest.mark.parametrize("main", [0.0, falls(0.75, 0.5)], ids=["zero", "falls"])
def test_a_rule_with_a_schedule_that_falls(scope, main):
    rules = [jp.Rule("low/.*", sparsity=falls(0.75, 0.0))]
    kept = run(sparsity=main, when=[0, 2], scope=scope, rules=rules, min_sparsity=0.0)
    assert [k["low"] for k in kept] == [16, 16, 64, 64]
    assert [k["high"] for k in kept] == ([64] * 4 if main == 0.0 else [16, 16, 32, 32])


def test_a_traced_course_that_falls():
    @jax.jit
    def kept(final):
        params = make_params()
        course = lambda step: jnp.where(jnp.asarray(step) < 1, 0.75, final)  # noqa: E731
        tx = jp.prune(sparsity=course, when=[0, 1], scope="global", min_sparsity=0.5)
        first = tx.update(params, tx.init(params), params)[1]
        second = tx.update(params, first, params)[1]
        return [[m.sum() for m in jax.tree.leaves(jp.get_masks(s))] for s in (first, second)]

    first, second = np.array(jax.tree.map(int, kept(0.5)))
    assert first.sum() == 32
    assert second.sum() == 64


# --- late ---------------------------------------------------------------------------------------


def test_events_up_to_the_last_step_of_a_counter():
    """Beyond it the counter stands still, and so do the masks."""
    ramp = jp.linear(0.5, begin=LAST - 2, end=LAST)
    kept = run(5, start=LAST - 3, sparsity=ramp, when=jp.every(1))
    assert [k["low"] for k in kept] == [64, 64, 48, 32, 32]


# --- bounds that cannot be met ------------------------------------------------------------------


@functools.cache
def bounded():
    @jax.jit
    def kept(sparsity):
        params = make_params()
        tx = jp.prune(sparsity=sparsity, scope="global", max_sparsity=0.75)
        masks = jp.get_masks(tx.update(params, tx.init(params), params)[1])
        return [mask.sum() for mask in jax.tree.leaves(masks)]

    return kept


@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.8, 0.95, 1.0])
def test_bounds_win_over_a_traced_sparsity(sparsity):
    kept = [int(n) for n in bounded()(sparsity)]
    assert min(kept) >= 16
    assert sum(kept) == max(round(128 * (1 - sparsity)), 32)


# --- budgets of cost ----------------------------------------------------------------------------


def test_a_course_of_cost():
    """Each event spends its budget, the last one all but less than a weight costs."""
    params, cost = make_params(), {"low/kernel": 64 * 2, "high/kernel": 64 * 9}
    course = jp.linear(0.75, begin=0, end=4)
    tx = jp.prune(optax.sgd(0.0), sparsity=course, when=[0, 2, 4], scope="global", cost=cost)

    @jax.jit
    def step(i, params, state):
        return advance(tx, i, params, state)

    state, left = tx.init(params), []
    for i in range(5):
        params, state = step(i, params, state)
        kept = masks_by_path(jp.get_masks(state))
        left.append(2 * kept["low/kernel"].sum() + 9 * kept["high/kernel"].sum())
    assert_zeros(params, jp.get_masks(state))
    for spent, sparsity in zip(left, [0, 0, 0.375, 0.375, 0.75], strict=True):
        assert 0 <= 704 * (1 - sparsity) - spent < 9
    assert left[0] == 704
