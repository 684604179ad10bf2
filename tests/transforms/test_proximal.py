"""Proximal steps against their definition, and powers against calculus."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import heard
from prune_cases import dyadic, make_grads, make_params

import jaxprune as jp


def after(tx, params, grads=None, steps=1):
    state = tx.init(params)
    for step in range(steps):
        g = make_grads(step, params) if grads is None else grads
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


def zeros(params):
    return jax.tree.map(jnp.zeros_like, params)


def test_the_soft_threshold_minimises_what_it_should():
    """1/2 (x - v)**2 + t |x| over a fine grid, in float64."""
    threshold = 0.25
    params = {"kernel": dyadic(0, (6, 5))}
    tx = optax.chain(optax.sgd(1.0), jp.proximal_l1(threshold))
    found = np.asarray(after(tx, params, zeros(params))["kernel"], np.float64)
    grid = np.arange(-4 * 64, 4 * 64 + 1) / 64
    for x, v in zip(found.ravel(), np.asarray(params["kernel"], np.float64).ravel(), strict=True):
        cost = 0.5 * (grid - v) ** 2 + threshold * np.abs(grid)
        assert x == grid[np.argmin(cost)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_weights_become_exactly_zero_and_biases_do_not(dtype):
    tx = optax.chain(optax.adam(2**-5), jp.proximal_l1(0.25))
    params = after(tx, make_params(dtype), steps=4)
    assert params["a"]["kernel"].dtype == dtype
    assert 10 < int((params["a"]["kernel"] == 0).sum()) < 128
    assert (params["a"]["bias"] != 0).all()


def test_a_strength_of_zero_changes_nothing():
    params = make_params()
    plain = after(optax.adam(2**-5), params, steps=3)
    both = after(optax.chain(optax.adam(2**-5), jp.proximal_l1(0.0)), params, steps=3)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(both), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_schedule_of_strengths_is_one_program():
    traces = []
    tx = optax.chain(optax.sgd(0.0), jp.proximal_l1(lambda t: jnp.where(t < 2, 0.0, 0.125)))

    @jax.jit
    def step(params, state):
        traces.append(1)
        updates, state = tx.update(zeros(params), state, params)
        return optax.apply_updates(params, updates), state

    params = {"kernel": jnp.full((2, 2), 0.5, jnp.float32)}
    state, seen = tx.init(params), []
    for _ in range(4):
        params, state = step(params, state)
        seen.append(float(params["kernel"][0, 0]))
    assert seen == [0.5, 0.5, 0.375, 0.25]
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("pattern", "shape", "units"),
    [
        (jp.Channel(), (6, 4), lambda w: [w[:, i] for i in range(4)]),
        (jp.Channel(axis=0), (6, 4), lambda w: [w[i] for i in range(6)]),
        (
            jp.Block((2, 2)),
            (4, 4),
            lambda w: [w[i : i + 2, j : j + 2] for i in (0, 2) for j in (0, 2)],
        ),
    ],
    ids=["channel", "rows", "block"],
)
def test_group_lasso_is_its_closed_form(pattern, shape, units):
    strength = 0.8
    params = {"kernel": dyadic(3, shape)}
    tx = optax.chain(optax.sgd(1.0), jp.group_lasso(strength, pattern=pattern))
    found = np.asarray(after(tx, params, zeros(params))["kernel"], np.float64)
    removed = 0
    old = np.asarray(params["kernel"], np.float64)
    for w, x in zip(units(old), units(found), strict=True):
        norm = np.sqrt((w**2).sum())
        factor = max(1 - strength * np.sqrt(w.size) / norm, 0)
        removed += factor == 0
        np.testing.assert_allclose(x, w * factor, rtol=2e-6)
        assert factor > 0 or (x == 0).all()
    assert 0 < removed < len(units(old))


def test_large_leaves_compile_quickly_and_once():
    """How large units are is known on the host: XLA would fold it for seconds."""
    params = {"kernel": jnp.ones((512, 512))}
    tx = jp.group_lasso(0.5, pattern=jp.Block((4, 4)))
    state = tx.init(params)
    updates, state = tx.update(zeros(params), state, params)
    np.testing.assert_allclose(optax.apply_updates(params, updates)["kernel"], 0.5)

    given = zeros(params)
    with heard() as compiled:
        tx.update(given, state, params)
    assert not compiled


def test_very_small_units_go():
    params = {"kernel": jnp.full((4, 4), 1e-25).at[:, 0].set(1.0)}
    tx = optax.chain(optax.sgd(1.0), jp.group_lasso(0.5))
    found = after(tx, params, zeros(params))["kernel"]
    np.testing.assert_allclose(found[:, 0], 0.5)
    assert (found[:, 1:] == 0).all()


def test_growing_l2_pulls_what_will_go():
    params = {"kernel": jnp.full((2, 2), 8.0), "bias": jnp.ones(2)}
    masks = {"kernel": jnp.array([[True, False], [False, True]]), "bias": None}
    tx = optax.chain(optax.sgd(1.0), jp.growing_l2(masks, lambda t: t.astype(jnp.float32)))
    found = after(tx, params, zeros(params), steps=3)
    np.testing.assert_allclose(found["kernel"], [[8.0, 8 / 6], [8 / 6, 8.0]], rtol=1e-6)


def test_l1_before_pruning_then_keep():
    """Zeros that L1 has made become masks, and stay."""
    tx = optax.chain(optax.sgd(2**-3), jp.proximal_l1(2**-3))
    params = after(tx, make_params(), steps=6)
    masks = jp.masks.from_zeros(params)
    kept = after(jp.keep(optax.adam(2**-4), masks), params, steps=3)
    pruned = ~np.asarray(masks["a"]["kernel"])
    assert pruned.sum() > 20
    assert (np.asarray(kept["a"]["kernel"])[pruned] == 0).all()


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 4.0])
def test_powers_are_undone_and_rank_alike(alpha):
    params = make_params()
    params["a"]["kernel"] = params["a"]["kernel"].at[0, 0].set(0.0)
    inner = jp.inverse_power(params, alpha)
    for a, b in zip(jax.tree.leaves(jp.power(inner, alpha)), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_array_equal(inner["a"]["bias"], params["a"]["bias"])
    order = [np.argsort(np.abs(np.asarray(p["b"]["kernel"])).ravel()) for p in (inner, params)]
    sizes = np.abs(np.asarray(params["b"]["kernel"])).ravel()
    np.testing.assert_array_equal(sizes[order[0]], sizes[order[1]])


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 3.0])
def test_the_gradient_of_a_power(alpha):
    v = {"kernel": jnp.array([[-1.5, 0.25], [2.0, 0.0]])}
    grad = jax.grad(lambda v: jp.power(v, alpha)["kernel"].sum())(v)["kernel"]
    expected = alpha * np.abs(np.asarray(v["kernel"], np.float64)) ** (alpha - 1)
    expected[1, 1] = 1.0 if alpha == 1 else 0.0  # else a weight of 0 stays
    np.testing.assert_allclose(grad, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: jp.proximal_l1(-1.0), "strength=-1.0"),
        (lambda p: jp.group_lasso("much"), "strength='much'"),
        (lambda p: jp.group_lasso(1.0, pattern=jp.NM(2, 4)).init(p), "single weights for units"),
        (lambda p: jp.growing_l2({"a": None}, 1.0).init(p), "lacks"),
        (lambda p: jp.growing_l2({"a": None, "b": None}, 1.0).init(p), "no mask"),
        (lambda p: jp.proximal_l1(1.0).update(p, jp.proximal_l1(1.0).init(p)), "params is None"),
        (lambda p: jp.power(p, 0.5), "alpha=0.5"),
    ],
)
def test_what_is_wrong_is_said(make, match):
    with pytest.raises(ValueError, match=match):
        make(make_params())
