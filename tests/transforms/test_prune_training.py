"""What pruning does to weights, counts, moments and gradients while a run goes on."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from prune_cases import (
    BEGIN,
    CONSTANT,
    COURSE,
    EVENTS,
    FIXED,
    GRADUAL,
    NAMES,
    OPTIMIZERS,
    STEPS,
    advance,
    assert_same,
    assert_zeros,
    dyadic,
    make_grads,
    make_params,
    masks_by_path,
    reference,
    sgd,
    train,
    transform,
)

import jaxprune as jp

# ---- counts ----------------------------------------------------------------------------------

SIZES = ((2, 3), (5, 5), (7, 11), (3, 17), (1, 2, 9))
SPARSITIES = (0.0, 0.05, 0.1, 1 / 3, 0.5, 0.55, 0.7, 0.9, 0.95, 0.99, 0.999)


def test_counts_are_what_python_rounds_to():
    """round(size * (1 - s)), half to even, for every leaf at every event."""
    params = [{"kernel": dyadic(i, shape)} for i, shape in enumerate(SIZES)]
    tx = jp.prune(sgd(), sparsity=jp.steps(dict(enumerate(SPARSITIES))))
    for step, moment in enumerate(train(tx, params, len(SPARSITIES))):
        for shape, mask in zip(SIZES, jax.tree.leaves(jp.get_masks(moment.state)), strict=True):
            assert int(mask.sum()) == round(np.prod(shape).item() * (1 - SPARSITIES[step]))
        assert_zeros(moment.params, jp.get_masks(moment.state))


@pytest.mark.parametrize("name", GRADUAL)
def test_counts_of_the_contract_run(name):
    curve = jp.polynomial(0.75, begin=1, end=5)
    for step, moment in enumerate(reference(name)):
        past = [e for e in EVENTS if e <= step]
        sparsity = curve(past[-1]) if past else 0.0
        kept = {p: int(m.sum()) for p, m in masks_by_path(jp.get_masks(moment.state)).items()}
        if name in ("global", "erk", "obd", "granet"):
            assert sum(kept.values()) == round(224 * (1 - sparsity))
        elif name == "block":
            assert kept == {
                "a/kernel": 4 * round(32 * (1 - sparsity)),
                "b/kernel": 4 * round(24 * (1 - sparsity)),
            }
        elif name == "channel":
            assert kept == {
                "a/kernel": 16 * round(8 * (1 - sparsity)),
                "b/kernel": 8 * round(12 * (1 - sparsity)),
            }
        else:
            assert kept == {
                "a/kernel": round(128 * (1 - sparsity)),
                "b/kernel": round(96 * (1 - sparsity)),
            }


def test_nm_ends_in_the_pattern():
    """At 75 % no more than two of any four along the input axis are left."""
    for mask in masks_by_path(jp.get_masks(reference("nm")[-1].state)).values():
        assert mask.reshape(-1, 4, mask.shape[1]).sum(1).max() <= 2


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(FIXED)))
def test_masks_change_at_events_alone(name):
    moments = reference(name)
    for step, (before, after) in enumerate(itertools.pairwise(moments), start=1):
        assert bool(jp.masks_changed(after.state)) == (step in EVENTS)
        if step not in EVENTS:
            assert_same(jp.get_masks(before.state), jp.get_masks(after.state))
        elif (step < EVENTS[-1]) if name in CONSTANT else (step > BEGIN):
            # A gradual sparsity is still 0 at the first; an exchange moves nothing at the last.
            a, b = (masks_by_path(jp.get_masks(m.state)) for m in (before, after))
            assert any((a[p] != b[p]).any() for p in a)


def test_masks_at_an_event_are_the_largest_weights():
    """An oracle: a stable sort of the magnitudes before the update, in float64."""
    moments = reference("sgd")
    before = [make_params(), *(m.params for m in moments)]
    curve = jp.polynomial(0.75, begin=1, end=5)
    for step in EVENTS:
        for path, mask in masks_by_path(jp.get_masks(moments[step].state)).items():
            module, leaf = path.split("/")
            w = np.abs(np.asarray(before[step][module][leaf], np.float64)).ravel()
            keep = np.zeros(w.size, bool)
            keep[np.argsort(-w, kind="stable")[: round(w.size * (1 - curve(step)))]] = True
            np.testing.assert_array_equal(mask.ravel(), keep)


# ---- schedules -------------------------------------------------------------------------------

CURVES = {
    "polynomial": jp.polynomial(0.9, begin=1, end=5),
    "linear": jp.linear(0.9, begin=1, end=5),
    "cosine": jp.cosine(0.9, begin=1, end=5),
    "exponential": jp.exponential(0.9, begin=1, end=5),
    "steps": jp.steps({1: 0.3, 4: 0.7, 5: 0.9}),
    "one_shot": jp.one_shot(0.9, step=5),
    "optax polynomial": optax.polynomial_schedule(
        0.0, 0.9, power=3, transition_steps=4, transition_begin=1
    ),
    "optax linear": optax.linear_schedule(0.0, 0.9, 4, 1),
}


@pytest.mark.parametrize("curve", CURVES)
def test_every_schedule_reaches_its_target(curve):
    """The last event is the end, and there the count is that of 0.9 itself."""
    params = {"kernel": dyadic(0, (10, 15))}  # 150 * 0.1 keeps 15
    own = curve in ("steps", "one_shot")
    when = None if own else jp.every(3, begin=1, end=5)
    tx = jp.prune(sgd(), sparsity=CURVES[curve], when=when)
    moments = train(tx, params)
    changed = [i for i, m in enumerate(moments) if bool(jp.masks_changed(m.state))]
    assert changed == {"steps": [1, 4, 5], "one_shot": [5]}.get(curve, [1, 4, 5])
    kept = [int(jp.get_masks(m.state)["kernel"].sum()) for m in moments]
    assert kept[0] == 150
    assert kept[-1] == kept[-2] == 15


@pytest.mark.parametrize(
    ("begin", "end", "n", "events"),
    [(15, 19, 10, [15, 19]), (10, 25, 10, [10, 20, 25]), (3, 3, 5, [3]), (0, 4, 2, [0, 2, 4])],
)
def test_events_count_from_begin_and_end_at_end(begin, end, n, events):
    """A span that no multiple of n falls into is pruned all the same."""
    params = {"kernel": dyadic(0, (10, 10))}
    curve = jp.linear(0.9, begin=begin, end=end)
    tx = jp.prune(sgd(), sparsity=curve, when=jp.every(n, begin=begin, end=end))
    moments = train(tx, params, 28)
    assert [i for i, m in enumerate(moments) if bool(jp.masks_changed(m.state))] == events
    assert int(jp.get_masks(moments[-1].state)["kernel"].sum()) == 10


def test_a_number_prunes_at_the_first_update():
    params = make_params()
    tx = jp.prune(sgd(), sparsity=0.5)
    moment = advance(tx, 0, params, tx.init(params))
    assert jp.masks.density(jp.get_masks(moment.state)) == 0.5
    assert_zeros(moment.params, jp.get_masks(moment.state))


def test_before_the_first_event_everything_trains():
    assert jp.masks.density(jp.get_masks(reference("sgd")[0].state)) == 1.0
    dense = train(sgd(), make_params(), 1)[0].params
    assert_same(reference("sgd")[0].params, dense)


def test_dense_leaves_train_as_without_pruning():
    dense = train(sgd(), make_params())[-1].params["a"]["bias"]
    assert_same(reference("sgd")[-1].params["a"]["bias"], dense)


# ---- revived weights -------------------------------------------------------------------------


def moments_of(state, shape):
    """All float leaves of a state with the shape of a parameter."""
    return [
        np.asarray(x)
        for x in jax.tree.leaves(state)
        if jnp.shape(x) == shape and jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    ]


@pytest.mark.parametrize("inner", [sgd, lambda: optax.adam(2**-6)], ids=["sgd", "adam"])
def test_revived_weights_start_at_zero_with_reset_moments(inner):
    """Decompression, 75 % to 25 %: what comes back has only the update of the event behind it."""
    params = {"kernel": dyadic(0, (16, 8))}
    tx = jp.prune(inner(), sparsity=jp.linear(0.25, begin=0, end=4, init=0.75), when=jp.every(4))
    moments = train(tx, params, 5)
    old, new = (np.asarray(jp.get_masks(m.state)["kernel"]) for m in moments[3:])
    assert (old.sum(), new.sum()) == (32, 96)
    revived = new & ~old
    assert revived.sum() >= 64
    assert (np.asarray(moments[3].params["kernel"])[revived] == 0).all()
    for before in moments_of(moments[3].state.inner_state, (16, 8)):
        assert (before[~old] == 0).all()
    # One step of a fresh optimizer from 0; its count of steps is the run's own.
    zeroed = {"kernel": jnp.where(revived, 0, moments[3].params["kernel"])}
    state = jax.tree.map(
        lambda x: jnp.where(revived, 0, x) if x.shape == (16, 8) else x, moments[3].state
    )
    fresh = inner()
    updates, inner_state = fresh.update(make_grads(4, params), state.inner_state, zeroed)
    got, want = moments[4].params["kernel"], updates["kernel"]
    np.testing.assert_array_equal(np.asarray(got)[revived], np.asarray(want)[revived])
    for x, y in zip(
        moments_of(moments[4].state.inner_state, (16, 8)),
        moments_of(inner_state, (16, 8)),
        strict=True,
    ):
        np.testing.assert_array_equal(x[revived], y[revived])


def test_a_score_that_changes_swaps_weights():
    """Scores by gradient: what the gradient no longer wants goes, what it wants comes at 0."""
    score = jp.scores.Criterion(lambda w, grad: jnp.abs(grad), needs=("grad",))
    params = {"kernel": dyadic(0, (4, 4))}
    tx = jp.prune(sgd(), sparsity=0.5, when=[0, 1], score=score)
    first = {"kernel": jnp.asarray([[4.0, 3.0, 2.0, 1.0]] * 4)}
    second = {"kernel": jnp.asarray([[1.0, 2.0, 3.0, 4.0]] * 4)}
    a = advance(tx, 0, params, tx.init(params), first)
    b = advance(tx, 1, *a, second)
    assert np.asarray(jp.get_masks(a.state)["kernel"]).tolist() == [[True, True, False, False]] * 4
    assert np.asarray(jp.get_masks(b.state)["kernel"]).tolist() == [[False, False, True, True]] * 4
    np.testing.assert_array_equal(b.params["kernel"], [[0, 0, -3 / 8, -4 / 8]] * 4)


# ---- the inner optimizer ---------------------------------------------------------------------

# AdaBelief adds a constant to the second moment of any weight at any step, `eps_root`.
LEFT = {"adabelief": np.float32(1e-16)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_hold_no_moments(optimizer):
    """Whatever has a pruned leaf's shape in the inner state is exactly 0 where it is pruned."""
    tx = jp.prune(OPTIMIZERS[optimizer](), **COURSE)
    for step, moment in enumerate(train(tx, make_params())):
        if step < EVENTS[0]:
            continue
        masks = masks_by_path(jp.get_masks(moment.state))
        assert_zeros(moment.params, jp.get_masks(moment.state))
        held = 0
        for mask in masks.values():
            for x in moments_of(moment.state.inner_state, mask.shape):
                assert np.isin(x[~mask], (0, LEFT.get(optimizer, 0))).all()
                held += (x[mask] != 0).any()
        assert held >= len(masks)


def test_adafactor_runs():
    """Its moments are factored, rows and columns: there is nothing of one weight to reset."""
    tx = jp.prune(optax.adafactor(1e-2, min_dim_size_to_factor=4), **COURSE)
    for moment in train(tx, make_params())[EVENTS[0] :]:
        assert_zeros(moment.params, jp.get_masks(moment.state))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(moment.params))


def test_clipping_sees_active_gradients_only():
    seen = optax.GradientTransformation(
        lambda p: {"norm": jnp.zeros(())}, lambda g, s, p=None: (g, {"norm": optax.tree.norm(g)})
    )
    tx = jp.prune(optax.chain(seen, optax.sgd(0.125)), **COURSE)
    params = make_params()
    moments = train(tx, params)
    for step, moment in enumerate(moments):
        grads = make_grads(step, params)
        masks = jp.get_masks(moment.state)
        active = jp.apply_masks(grads, masks)
        norm = optax.tree_utils.tree_get(moment.state, "norm")
        np.testing.assert_allclose(norm, optax.tree.norm(active), rtol=1e-6)
        if step >= EVENTS[1]:
            assert norm < optax.tree.norm(grads)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["adam", "global"])
def test_bad_gradients_of_pruned_weights_do_no_harm(name, poison):
    tx, params = transform(name), make_params()
    clean = reference(name)
    params, state = clean[5]
    masks = jp.get_masks(state)
    grads = make_grads(6, params)
    bad = jax.tree.map(
        lambda g, m: g if m is None else jnp.where(m, g, poison),
        grads,
        masks,
        is_leaf=lambda x: x is None,
    )
    assert_same(advance(tx, 6, params, state, bad), clean[6])


@pytest.mark.parametrize("name", ["sgd", "global"])
def test_one_bad_gradient_leaves_the_count_exact(name):
    """A NaN gradient on an active weight spoils that weight, never the number of weights."""
    tx = transform(name)
    params, state = reference(name)[2]
    grads = make_grads(3, params)
    grads["b"]["kernel"] = grads["b"]["kernel"].at[0, 0].set(jnp.nan)
    for step in range(3, STEPS):
        params, state = advance(tx, step, params, state, grads if step == 3 else None)
    kept = sum(int(m.sum()) for m in jax.tree.leaves(jp.get_masks(state)))
    assert kept == 56


@pytest.mark.parametrize("name", ["sgd", "global"])
def test_a_nan_weight_goes_first(name):
    tx = transform(name)
    params = make_params()
    params["b"]["kernel"] = params["b"]["kernel"].at[3, 3].set(jnp.nan)
    state = tx.init(params)
    for step in range(STEPS):
        params, state = advance(tx, step, params, state)
    masks = jp.get_masks(state)
    assert not masks["b"]["kernel"][3, 3]
    assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == 56
    assert_zeros(jp.apply_masks(params, masks), masks)


def test_an_infinite_weight_stays():
    params = {"kernel": dyadic(0, (16, 8)).at[0, 0].set(-jnp.inf)}
    tx = jp.prune(sgd(), sparsity=0.75)
    moment = advance(tx, 0, params, tx.init(params))
    mask = jp.get_masks(moment.state)["kernel"]
    assert mask[0, 0]
    assert int(mask.sum()) == 32


# ---- random scores ---------------------------------------------------------------------------


def test_random_masks_are_nested_over_a_schedule():
    masks = [masks_by_path(jp.get_masks(m.state)) for m in reference("random")]
    for before, after in itertools.pairwise(masks):
        for path in before:
            assert not (after[path] & ~before[path]).any()


def test_different_keys_give_different_masks():
    params = make_params()
    runs = [jp.masks.make(params, 0.5, score=jp.scores.random(jax.random.key(k))) for k in (0, 1)]
    again = jp.masks.make(params, 0.5, score=jp.scores.random(jax.random.key(0)))
    assert_same(runs[0], again)
    assert jp.masks.overlap(*runs) < 0.6


def test_vmapped_members_with_keys_of_their_own_differ():
    params = {"kernel": jnp.ones((16, 8))}

    @jax.jit
    @jax.vmap
    def member(key):
        tx = jp.prune(sgd(), sparsity=0.5, score=jp.scores.random(key))
        return jp.get_masks(advance(tx, 0, params, tx.init(params)).state)["kernel"]

    masks = np.asarray(member(jax.random.split(jax.random.key(0), 3)))
    assert masks.sum((1, 2)).tolist() == [64, 64, 64]
    assert (masks[0] != masks[1]).any()
    assert (masks[0] != masks[2]).any()
    assert (masks[1] != masks[2]).any()


# ---- recipes of several leaves ---------------------------------------------------------------


def test_rules_follow_the_curve_to_their_own_sparsity():
    params = make_params()
    rules = [jp.Rule("b/.*", sparsity=0.5)]
    tx = jp.prune(sgd(), sparsity=jp.linear(0.8, begin=0, end=4), when=jp.every(2), rules=rules)
    moments = train(tx, params, 5)
    kept = [
        {p: int(m.sum()) for p, m in masks_by_path(jp.get_masks(moments[i].state)).items()}
        for i in (0, 2, 4)
    ]
    assert kept == [
        {"a/kernel": 128, "b/kernel": 96},
        {"a/kernel": round(128 * 0.6), "b/kernel": 72},
        {"a/kernel": round(128 * 0.2), "b/kernel": 48},
    ]


def test_a_rule_leaves_a_leaf_dense():
    tx = jp.prune(sgd(), sparsity=0.5, rules=[jp.Rule("a/kernel", dense=True)])
    masks = jp.get_masks(tx.init(make_params()))
    assert list(masks_by_path(masks)) == ["b/kernel"]


def test_no_layer_vanishes_under_a_bound():
    params = {"big": {"kernel": dyadic(0, (8, 8)) + 8}, "small": {"kernel": dyadic(1, (8, 8)) / 64}}
    tx = jp.prune(sgd(), sparsity=0.5, scope="global", max_sparsity=0.75)
    masks = jp.get_masks(advance(tx, 0, params, tx.init(params)).state)
    assert int(masks["small"]["kernel"].sum()) == 16
    assert int(masks["big"]["kernel"].sum()) == 48


@pytest.mark.parametrize(
    "before",
    [optax.centralize(), optax.add_noise(0.1, 0.0, jax.random.key(0))],
    ids=["centre", "noise"],
)
def test_revived_weights_start_without_moments_that_others_gave_them(before):
    """These make a gradient of a pruned weight out of the others' or of nothing."""
    seen = []

    def spy(updates, state, params=None):
        seen.append(state[1][0].mu["kernel"])
        return inner.update(updates, state, params)

    inner = optax.chain(before, optax.adam(0.01))
    tx = jp.prune(
        optax.GradientTransformation(inner.init, spy), sparsity=jp.steps({1: 0.5, 4: 0.25})
    )
    params = {"kernel": jax.random.normal(jax.random.key(1), (16, 8))}
    state = tx.init(params)
    revived = 0
    for i in range(5):
        old = jp.get_masks(state)["kernel"]
        grads = {"kernel": jax.random.normal(jax.random.key(i), (16, 8))}
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        new = jp.get_masks(state)["kernel"]
        assert not np.any(seen[-1][~old | ~new])
        revived += int(np.sum(new & ~old))
    assert revived == 32


def test_a_param_may_be_named_as_moments_are():
    keys = jax.random.split(jax.random.key(0))
    params = {
        "w": jax.random.normal(keys[0], (8, 8)),
        "mu": {"w": jax.random.normal(keys[1], (8, 8))},
    }
    tx = jp.prune(optax.scale_by_adam(), sparsity=0.5)
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(params, state, params)
    masks, mu = jp.get_masks(state), state.inner_state.mu
    for mask, moment in ((masks["w"], mu["w"]), (masks["mu"]["w"], mu["mu"]["w"])):
        np.testing.assert_array_equal(moment != 0, mask)


def test_a_state_may_hold_masks_as_bools():
    """As on TPU, where bits are not packed: a state goes on in the form that it has."""
    tx, params = transform("adam"), make_params()
    state = tx.init(params)
    state = state._replace(masks=jp.get_masks(state))
    moments = train(tx, params, STEPS, state=state)
    for own, expected in zip(moments, reference("adam"), strict=True):
        assert_same(own.params, expected.params)
        assert_same(jp.get_masks(own.state), jp.get_masks(expected.state))
        assert all(x.dtype == bool for x in jax.tree.leaves(own.state.masks))


def test_weights_of_0_keep_their_moments_where_nothing_was_pruned_before():
    """Zero-initialised layers: the first event revives nothing."""
    tx = jp.prune(optax.MultiSteps(optax.sgd(1.0), 2), sparsity=0.0, when=[1])
    params = {"kernel": jnp.zeros((8, 4))}
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update({"kernel": jnp.ones((8, 4))}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params["kernel"], -1)
