"""Straight-through, SR-STE and Top-KAST: dense weights, sparse forward passes."""

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import heard
from prune_cases import assert_same, dyadic, make_grads, make_params, masks_by_path, sgd

import jaxprune as jp

SIZES = {"a/kernel": 128, "b/kernel": 96}


def by_path(tree):
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x)
        for p, x in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def highest(w, k):
    keep = np.zeros(w.size, bool)
    keep[np.argsort(-np.abs(w).ravel().astype(np.float64), kind="stable")[:k]] = True
    return keep.reshape(w.shape)


def run(tx, params, steps=6):
    """(params, state) before each update and after the last."""
    state = tx.init(params)
    moments = [(params, state)]
    for step in range(steps):
        updates, state = tx.update(make_grads(step, params), state, params)
        params = optax.apply_updates(params, updates)
        moments.append((params, state))
    return moments


# ---- the view --------------------------------------------------------------------------------


def test_the_view_is_sparse_and_its_gradient_is_dense():
    params = {"w": jnp.array([2.0, 3.0, jnp.inf]), "b": jnp.ones(2)}
    masks = {"w": jnp.array([True, False, False]), "b": None}

    def loss(params):
        view = jp.sparse_view(params, masks)
        return jnp.sum(view["w"] ** 2) + view["b"].sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert value == 6.0
    # Of w**2 at the view: 2 where it is 2, and 0 at zeros.
    np.testing.assert_array_equal(grads["w"], [4.0, 0.0, 0.0])
    tangent = {"w": jnp.array([0.0, 5.0, 0.0]), "b": jnp.zeros(2)}
    _, out = jax.jvp(lambda p: jp.sparse_view(p, masks)["w"], (params,), (tangent,))
    np.testing.assert_array_equal(out, tangent["w"])


def test_the_view_of_bfloat16_keeps_its_dtype():
    view = jp.sparse_view({"w": jnp.ones(2, jnp.bfloat16)}, {"w": jnp.array([True, False])})
    assert view["w"].dtype == jnp.bfloat16


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="shape"):
        jp.sparse_view({"w": jnp.ones(2)}, {"w": jnp.ones(3, bool)})


# ---- straight-through ------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3])
def test_masks_are_the_largest_weights_of_now(every):
    """Also right after init, and nothing is set to 0."""
    tx = jp.straight_through(sgd(), sparsity=0.5, every=every)
    for step, (params, state) in enumerate(run(tx, make_params())):
        made = jax.tree.map(np.asarray, params) if step % every == 0 else made  # noqa: F821
        for path, mask in masks_by_path(jp.get_masks(state)).items():
            np.testing.assert_array_equal(mask, highest(by_path(made)[path], SIZES[path] // 2))
        assert all((w != 0).all() for w in jax.tree.leaves(params))
        if step:
            assert bool(jp.masks_changed(state)) == (step % every == 0)


def test_without_decay_updates_are_those_of_the_optimizer():
    tx, plain = jp.straight_through(sgd(), sparsity=0.5), sgd()
    params = make_params()
    for (a, _), (b, _) in zip(run(tx, params), run(plain, params), strict=True):
        assert_same(a, b)


def test_sr_ste_pulls_what_is_pruned():
    decay = 0.25
    tx = jp.straight_through(optax.sgd(0.5), sparsity=0.5, pattern=jp.NM(2, 4), decay=decay)
    params = make_params()
    moments = run(tx, params, 2)
    (params, state), (after, _) = moments[0], moments[1]
    masks, old, new = masks_by_path(jp.get_masks(state)), by_path(params), by_path(after)
    grads = by_path(make_grads(0, params))
    for path, mask in masks.items():
        assert mask.reshape(-1, 4, mask.shape[1]).sum(1).max() == 2
        pull = np.where(mask, 0, old[path]) * decay
        np.testing.assert_allclose(new[path], old[path] - 0.5 * (grads[path] + pull), rtol=1e-6)
    np.testing.assert_array_equal(new["a/bias"], old["a/bias"] - 0.5 * grads["a/bias"])


def test_a_schedule_is_followed():
    """Dense before it begins, and at the end what is asked for."""
    tx = jp.straight_through(sgd(), sparsity=jp.linear(0.75, begin=2, end=4))
    sums = [
        [int(m.sum()) for m in jax.tree.leaves(jp.get_masks(state))]
        for _, state in run(tx, make_params())
    ]
    at = {0: 0, 1: 0, 2: 0, 3: 0.375, 4: 0.75, 5: 0.75, 6: 0.75}
    assert sums == [[round(n * (1 - at[i])) for n in SIZES.values()] for i in range(7)]


# ---- Top-KAST --------------------------------------------------------------------------------


def test_top_kast_updates_a_superset():
    """By hand: sgd with the two decays, nothing elsewhere."""
    decay, rate = 0.125, 0.5
    tx = jp.top_kast(optax.sgd(rate), sparsity=0.75, backward_sparsity=0.5, decay=decay)
    for (params, state), (after, _) in zip(
        (moments := run(tx, make_params()))[:-1], moments[1:], strict=True
    ):
        step = int(state.through_step)
        old, new, grads = by_path(params), by_path(after), by_path(make_grads(step, params))
        for path, size in SIZES.items():
            a, b = highest(old[path], size // 4), highest(old[path], size // 2)
            np.testing.assert_array_equal(masks_by_path(jp.get_masks(state))[path], a)
            pull = decay * old[path] * np.where(a, 1, 1 / 0.25)
            expected = np.where(b, old[path] - rate * (grads[path] + pull), old[path])
            np.testing.assert_allclose(new[path], expected, rtol=1e-6)
            assert (new[path][~b] == old[path][~b]).all()


def test_top_kast_holds_no_moments_outside():
    tx = jp.top_kast(sgd(), sparsity=0.75, backward_sparsity=0.5)
    moments = run(tx, make_params())
    (before, _), (_, state) = moments[-2], moments[-1]
    trace = by_path(optax.tree.get(state, "trace"))
    for path, size in SIZES.items():
        outside = ~highest(by_path(before)[path], size // 2)
        assert (trace[path][outside] == 0).all()
        assert (trace[path][~outside] != 0).any()


def test_what_is_used_is_updated_while_a_schedule_is_dense():
    tx = jp.top_kast(
        optax.sgd(0.5), sparsity=jp.one_shot(0.75, step=3), backward_sparsity=0.5, decay=0.0
    )
    moments = run(tx, make_params(), 2)
    for path, new in by_path(moments[1][0]).items():
        grads = by_path(make_grads(0, make_params()))[path]
        np.testing.assert_array_equal(new, by_path(moments[0][0])[path] - 0.5 * grads)


# ---- programs --------------------------------------------------------------------------------

BOTH = {
    "straight_through": lambda inner, s: jp.straight_through(inner, sparsity=s, every=2),
    "top_kast": lambda inner, s: jp.top_kast(inner, sparsity=s, backward_sparsity=0.25),
}
both = pytest.mark.parametrize("name", BOTH)


@both
def test_one_program_under_jit_scan_and_vmap(name):
    tx = BOTH[name](sgd(), 0.5)

    def body(carry, step):
        params, state = carry
        updates, state = tx.update(make_grads(step, params), state, params)
        return (optax.apply_updates(params, updates), state), jp.get_masks(state)

    @jax.jit
    @jax.vmap
    def members(params):
        return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(6))

    starts = [make_params(seed=seed) for seed in (0, 10)]
    (params, _), masks = members(jax.tree.map(lambda *x: jnp.stack(x), *starts))
    for i, start in enumerate(starts):
        moments = run(tx, start)
        expected = masks_by_path(jp.get_masks(moments[-1][1]))
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[i], params), moments[-1][0])  # noqa: B023
        for path, mask in masks_by_path(masks).items():
            np.testing.assert_array_equal(mask[i, -1], expected[path])


@both
def test_a_sweep_over_sparsities(name):
    @jax.vmap
    def kept(sparsity):
        tx = BOTH[name](sgd(), sparsity)
        state = tx.init(make_params())
        _, state = tx.update(make_params(), state, make_params())
        return jp.get_masks(state)

    for path, mask in masks_by_path(kept(jnp.array([0.5, 0.75]))).items():
        assert [int(m.sum()) for m in mask] == [SIZES[path] // 2, SIZES[path] // 4]


@both
@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(optax.clip(1.0), tx),
        lambda tx: optax.MultiSteps(tx, 2),
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.masked(tx, {"a": True, "b": False}),
    ],
    ids=["chain", "MultiSteps", "apply_if_finite", "masked"],
)
def test_inside_of_others(name, wrap):
    tx = wrap(BOTH[name](optax.adam(2**-6), 0.5))
    params = make_params()
    state = tx.init(params)
    for step in range(4):
        updates, state = jax.jit(tx.update)(make_grads(step, params), state, params)
        params = optax.apply_updates(params, updates)
    kept = [int(m.sum()) for m in jax.tree.leaves(jp.get_masks(state))]
    assert kept == [64, 48][: len(kept)]


@both
def test_mixed_precision_and_extra_args(name):
    params = {"kernel": dyadic(0, (8, 8), jnp.bfloat16)}
    tx = BOTH[name](optax.adam(2**-6), 0.5)
    state = tx.init(params)
    updates, state = tx.update(
        {"kernel": jnp.ones((8, 8), jnp.float32)}, state, params, value=1.0, nobody_knows=2
    )
    assert optax.apply_updates(params, updates)["kernel"].dtype == jnp.bfloat16


@both
def test_an_update_without_jit_compiles_nothing_new(name):
    tx, params = BOTH[name](sgd(), 0.5), make_params()
    grads = [make_grads(step, params) for step in range(6)]
    state = tx.init(params)
    for step in range(3):
        updates, state = tx.update(grads[step], state, params)
        params = optax.apply_updates(params, updates)

    with heard() as compiled:
        for step in range(3, 6):
            updates, state = tx.update(grads[step], state, params)
            params = optax.apply_updates(params, updates)
        assert not compiled
        jax.jit(lambda x: x * 3 + 2.25)(jnp.ones(3))  # compilations are heard
        assert compiled


@both
def test_the_state_resumes_to_the_bit_and_is_found(name):
    tx, params = BOTH[name](sgd(), 0.5), make_params()
    moments = run(tx, params)
    saved = flax.serialization.to_bytes(moments[3])
    params, state = flax.serialization.from_bytes((params, tx.init(params)), saved)
    for step in range(3, 6):
        updates, state = tx.update(make_grads(step, params), state, params)
        params = optax.apply_updates(params, updates)
    assert_same((params, state), moments[6])
    marked = optax.tree_utils.tree_map_params(tx, lambda x: None, state)
    assert len(jax.tree.leaves(marked)) == 2  # the step, and whether masks changed


def test_masks_changed_is_that_of_the_forward_pass():
    tx = jp.top_kast(sgd(), sparsity=jp.one_shot(0.75, step=3), backward_sparsity=0.5, every=10)
    changed = [bool(jp.masks_changed(state)) for _, state in run(tx, make_params())]
    assert changed == [i == 3 for i in range(7)]


# ---- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: jp.straight_through(sgd(), sparsity=1.0), ValueError, "sparsity"),
        (lambda: jp.straight_through(sgd(), sparsity=0.5, every=0), ValueError, "every=0"),
        (lambda: jp.straight_through(sgd(), sparsity=0.5, decay=-1.0), ValueError, "decay"),
        (lambda: jp.straight_through(None, sparsity=0.5), TypeError, "inner=None"),
        (
            lambda: jp.straight_through(sgd(), sparsity=0.5, score=jp.scores.saliency),
            ValueError,
            "reads gradients",
        ),
        (
            lambda: jp.straight_through(sgd(), sparsity=optax.linear_schedule(0.0, 0.5, 9)),
            TypeError,
            "does not say when it begins",
        ),
        (
            lambda: jp.top_kast(
                sgd(), sparsity=0.5, backward_sparsity=0.2, allocate={"a/kernel": 0.9}
            ),
            ValueError,
            "a sparsity of its own",
        ),
        (
            lambda: jp.top_kast(sgd(), sparsity=0.5, backward_sparsity=0.75),
            ValueError,
            "backward_sparsity=0.75 is above",
        ),
    ],
)
def test_what_is_wrong_is_said(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_a_decay_may_be_a_scalar_of_numpy_or_jax():
    for decay in (np.float32(2e-4), jnp.float32(2e-4)):
        jp.straight_through(sgd(), sparsity=0.5, decay=decay)


def test_params_are_needed():
    tx = jp.straight_through(sgd(), sparsity=0.5)
    with pytest.raises(ValueError, match="params is None"):
        tx.update(make_params(), tx.init(make_params()))
