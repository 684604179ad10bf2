"""SET, RigL and gradual pruning with regrowth, against an oracle of their own."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from prune_cases import (
    CONSTANT,
    EVENTS,
    OPTIMIZERS,
    TARGET,
    advance,
    assert_same,
    make_grads,
    make_params,
    masks_by_path,
    reference,
    sgd,
    train,
)

import jaxprune as jp

KEY = jax.random.key(7)
SIZES = {"a/kernel": 128, "b/kernel": 96}


def by_path(tree):
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x)
        for p, x in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def highest(scores, k):
    """Flat bool array: a stable sort in float64."""
    keep = np.zeros(scores.size, bool)
    keep[np.argsort(-scores.ravel().astype(np.float64), kind="stable")[:k]] = True
    return keep.reshape(scores.shape)


def exchanged(w, g, mask, stay, kept):
    """The mask after an event, leaf by leaf."""
    first = highest(np.where(mask, np.abs(w), -1.0), stay) & mask
    return highest(np.where(first, np.inf, np.abs(g)), kept)


# ---- what moves ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CONSTANT if name != "srigl"])
def test_the_number_of_active_weights_is_constant(name):
    moments = reference(name)
    for moment in moments:
        masks = masks_by_path(jp.get_masks(moment.state))
        if name == "rigl block":
            assert sum(int(m.sum()) for m in masks.values()) == 4 * round(56 * (1 - TARGET))
        elif name == "rigl nm":
            assert {p: int(m.sum()) for p, m in masks.items()} == {
                p: round(n * (1 - TARGET)) for p, n in SIZES.items()
            }
        else:
            assert sum(int(m.sum()) for m in masks.values()) == round(224 * (1 - TARGET))


def test_an_event_is_what_the_paper_says():
    """Erdos-Renyi masks at first, 50 % exchanged and less and less, largest gradients grow."""
    tx = jp.rigl(sgd(), sparsity=0.5, key=KEY, when=jp.every(2, begin=0, end=6), fraction=0.5)
    params = make_params()
    state = tx.init(params)
    params = jp.apply_masks(params, jp.get_masks(state))
    moved = []
    for step in range(8):
        before, old = by_path(params), masks_by_path(jp.get_masks(state))
        grads = make_grads(step, params)
        params, state = advance(tx, step, params, state)
        for path, mask in masks_by_path(jp.get_masks(state)).items():
            expected = old[path]
            kept = int(old[path].sum())
            if step in (0, 2, 4, 6):
                share = 0.25 * (1 + math.cos(math.pi * step / 6))
                stay = kept - round(kept * share)
                expected = exchanged(before[path], by_path(grads)[path], old[path], stay, kept)
                moved.append(int((expected & ~old[path]).sum()))
            np.testing.assert_array_equal(mask, expected)
    assert min(moved[:6]) > 0 == max(moved[6:])


def test_grown_weights_start_from_zero_with_zero_moments():
    """What momentum holds of a grown weight is its first masked gradient."""
    tx = jp.rigl(
        optax.sgd(0.125, momentum=0.5), sparsity=0.5, key=KEY, when=[0, 3], fraction=lambda _: 0.5
    )
    params = make_params()
    state = tx.init(params)
    params = jp.apply_masks(params, jp.get_masks(state))
    for step in range(4):
        old = masks_by_path(jp.get_masks(state))
        params, state = advance(tx, step, params, state)
    grads, trace = by_path(make_grads(3, params)), by_path(optax.tree.get(state, "trace"))
    new = by_path(params)
    for path, mask in masks_by_path(jp.get_masks(state)).items():
        grown = mask & ~old[path]
        assert grown.any()
        np.testing.assert_array_equal(trace[path][grown], grads[path][grown])
        np.testing.assert_array_equal(new[path][grown], -0.125 * grads[path][grown])
        assert (trace[path][~mask] == 0).all()


def events_of(transform, inner):
    when, key = [0, 3], jax.random.key(4)
    return transform(inner, sparsity=0.5, key=key, when=when, fraction=lambda _: 0.5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("transform", [jp.rigl, jp.set_], ids=["rigl", "set"])
def test_around_any_optimizer_what_grows_has_fresh_moments(optimizer, transform):
    """An event equals an update of the optimizer alone, its state zeroed by hand, by shapes."""
    inner = OPTIMIZERS[optimizer]()
    tx = events_of(transform, inner)
    params = make_params()
    state = tx.init(params)
    params = jp.apply_masks(params, jp.get_masks(state))
    for step in range(3):
        params, state = advance(tx, step, params, state)
    old = jp.get_masks(state)
    after = advance(tx, 3, params, state)
    new = jp.get_masks(after.state)
    grown = {p: (new[p]["kernel"] & ~old[p]["kernel"]) for p in ("a", "b")}
    assert all(bool(m.any()) for m in grown.values())
    stays = {new[p]["kernel"].shape: new[p]["kernel"] & ~grown[p] for p in ("a", "b")}

    def fresh(x):
        mask = stays.get(jnp.shape(x))
        return x if mask is None or x.dtype != jnp.float32 else jnp.where(mask, x, 0)

    grads = jp.apply_masks(make_grads(3, params), new)
    masked = jp.apply_masks(params, new)
    inner = optax.with_extra_args_support(inner)
    updates, _ = inner.update(grads, jax.tree.map(fresh, state.inner_state), masked)
    expected = jp.apply_masks(optax.apply_updates(masked, updates), new)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-7),
        after.params,
        expected,
    )
    assert sum(int(m["kernel"].sum()) for m in new.values()) == 112


@pytest.mark.parametrize("transform", [jp.rigl, jp.set_], ids=["rigl", "set"])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tx, make: make(tx, optax.adafactor(1e-2, min_dim_size_to_factor=4)),
        lambda tx, make: make(tx, optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation()),
        lambda tx, make: optax.chain(optax.clip(1.0), make(tx, optax.adam(1e-2))),
        lambda tx, make: optax.apply_if_finite(make(tx, optax.adam(1e-2)), 3),
        lambda tx, make: optax.masked(
            make(tx, optax.adam(1e-2)), {"a": True, "b": {"kernel": True}}
        ),
        lambda tx, make: optax.partition(
            {"one": make(tx, optax.adam(1e-2)), "two": make(tx, optax.sgd(0.1))},
            {"a": "one", "b": "two"},
        ),
    ],
    ids=["adafactor", "MultiSteps inside", "chain", "apply_if_finite", "masked", "partition"],
)
def test_wrapped_or_factored_the_number_is_constant(transform, wrapped):
    tx = wrapped(transform, events_of)
    params = make_params()
    state = tx.init(params)
    step = jax.jit(lambda i, p, s: advance(tx, i, p, s))
    for i in range(5):
        params, state = step(i, params, state)
        masks = jp.get_masks(state)
        assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == 112
        kept = jp.apply_masks(params, masks)
        assert_same(kept, params)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


def test_what_is_dropped_and_grown_in_one_event_was_never_gone():
    params = {"kernel": jnp.array([[4.0, 3.0], [2.0, 1.0]])}
    grads = {"kernel": jnp.array([[0.0, 0.0], [0.0, 8.0]])}
    tx = jp.rigl(
        optax.trace(0.5), sparsity=0.0, key=KEY, when=[1, 2], fraction=lambda step: 0.25 * step
    )
    params, state = advance(tx, 0, params, tx.init(params), grads)
    weight = params["kernel"][1, 1]
    params, state = advance(tx, 1, params, state, grads)
    assert params["kernel"][1, 1] == weight + 8.0 * 1.5
    assert optax.tree.get(state, "trace")["kernel"][1, 1] == 12.0


def test_set_grows_anew_at_every_event():
    """All places are grown about equally often, and two events do not draw the same."""
    size, events = 400, 60
    tx = jp.set_(
        optax.sgd(0.0), sparsity=0.5, key=KEY, when=jp.every(1, end=events), fraction=lambda _: 0.5
    )
    params = {"kernel": jnp.ones((20, 20))}

    def step(carry, _):
        params, state = carry
        updates, new = tx.update({"kernel": jnp.ones((20, 20))}, state, params)
        old, mask = jp.get_masks(state)["kernel"], jp.get_masks(new)["kernel"]
        return (optax.apply_updates(params, updates), new), (mask & ~old, old & ~mask)

    _, (grown, _) = jax.jit(
        lambda p: jax.lax.scan(step, (p, tx.init(p)), jnp.arange(events, dtype=jnp.int32))
    )(params)
    each = np.asarray(grown).reshape(events, size)
    assert (each.sum(1) > 40).all()
    together = (each[1:] & each[:-1]).sum(1)
    assert together.mean() < 20  # a weight that has just grown is 0 and can be dropped at once


def test_keys_decide_where_runs_start():
    def masks(key, transform=jp.rigl):
        tx = transform(sgd(), sparsity=0.5, key=key, when=jp.every(2, end=4))
        return jp.get_masks(tx.init(make_params()))

    assert_same(masks(KEY), masks(KEY))
    other = masks(jax.random.key(8))
    assert jp.masks.overlap(masks(KEY), other) < 0.7


def test_gradual_pruning_with_regrowth():
    """The sparsity follows the schedule, and weights come back while it rises."""
    moments = reference("granet")
    masks = [masks_by_path(jp.get_masks(m.state)) for m in moments]
    sums = [sum(int(m.sum()) for m in ms.values()) for ms in masks]
    assert sums[0] == sums[EVENTS[0]] == 224
    assert sums[-1] == 56
    grown = sum(int((masks[3][p] & ~masks[2][p]).sum()) for p in SIZES)
    assert grown == 0  # all were there before
    later = sum(int((masks[5][p] & ~masks[4][p]).sum()) for p in SIZES)
    assert later == 0  # the last event exchanges nothing
    tx = jp.rigl(
        sgd(),
        sparsity=jp.polynomial(0.75, init=0.5, begin=0, end=6),
        when=jp.every(2),
        key=KEY,
        fraction=0.5,
        scope="global",
    )
    params = make_params()
    state = tx.init(params)
    kept = [sum(int(m.sum()) for m in masks_by_path(jp.get_masks(state)).values())]
    revived = 0
    for step in range(7):
        old = masks_by_path(jp.get_masks(state))
        params, state = advance(tx, step, params, state)
        new = masks_by_path(jp.get_masks(state))
        revived += sum(int((new[p] & ~old[p]).sum()) for p in SIZES)
        kept.append(sum(int(m.sum()) for m in new.values()))
    assert kept[0] == kept[1] == 112
    assert kept[-1] == 56
    assert kept == sorted(kept, reverse=True)
    assert revived > 20


# ---- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_an_event_with_a_gradient_that_is_not_finite_waits(bad):
    tx = jp.rigl(sgd(), sparsity=0.5, key=KEY, when=[1, 4], fraction=0.5)
    params = make_params()
    _, state = advance(tx, 0, params, tx.init(params))
    old = jp.get_masks(state)
    poisoned = make_grads(1, params)
    poisoned["a"]["kernel"] = poisoned["a"]["kernel"].at[0, 0].set(bad)
    _, state = advance(tx, 1, params, state, poisoned)
    assert_same(old, jp.get_masks(state))
    assert not bool(jp.masks_changed(state))
    _, state = advance(tx, 2, params, state)
    assert bool(jp.masks_changed(state))
    kept = [int(m.sum()) for m in jax.tree.leaves(jp.get_masks(state))]
    assert kept == [int(m.sum()) for m in jax.tree.leaves(old)]


def test_nan_weights_are_dropped_first_and_grow_last():
    w = jnp.arange(1.0, 17.0).reshape(4, 4)
    tx = jp.rigl(optax.sgd(0.0), sparsity=0.5, key=KEY, when=[0, 9], fraction=0.25)
    state = tx.init({"kernel": w})
    old = np.asarray(jp.get_masks(state)["kernel"])
    for bad, alive in ((jnp.nan, True), (jnp.nan, False), (jnp.inf, False)):
        at = tuple(np.argwhere(old == alive)[-1])
        params = {"kernel": w.at[at].set(bad)}
        grads = {"kernel": jnp.ones((4, 4)).at[at].set(9.0)}
        _, after = advance(tx, 0, params, state, grads)
        mask = jp.get_masks(after)["kernel"]
        assert not mask[at]
        assert int(mask.sum()) == 8


# ---- programs --------------------------------------------------------------------------------


def test_a_sweep_over_sparsities_and_seeds_is_one_program():
    @jax.jit
    @jax.vmap
    def run(sparsity, seed):
        tx = jp.rigl(
            sgd(),
            sparsity=sparsity,
            key=jax.random.key(seed),
            when=jp.every(2, end=4),
            allocate=jp.allocate.uniform,
        )
        params = make_params()
        state = tx.init(params)
        for step in range(5):
            params, state = advance(tx, step, params, state)
        return jp.get_masks(state)

    sparsities = (0.25, 0.5, 0.75)
    masks = masks_by_path(run(jnp.array(sparsities), jnp.arange(3)))
    for path, size in SIZES.items():
        for i, s in enumerate(sparsities):
            assert masks[path][i].sum() == round(size * (1 - s))


def test_a_leaf_of_its_own_sparsity_beside_a_traced_one():
    """Of n kept round(n * fraction) are dropped: without gradients elsewhere, so many come back."""

    @jax.jit
    def dropped(sparsity):
        tx = jp.rigl(
            sgd(),
            sparsity=sparsity,
            key=KEY,
            when=[0, 1],
            fraction=lambda _: 0.3,
            grow=jp.scores.Criterion(lambda w: jnp.where(w == 0, 1.0, 0.0)),
            allocate=jp.allocate.uniform,
            rules=[jp.Rule("a/.*", sparsity=0.5)],
        )
        params = make_params()
        state = tx.init(params)
        params = jp.apply_masks(params, jp.get_masks(state))
        _, after = advance(tx, 0, params, state)
        both = zip(*(jax.tree.leaves(jp.get_masks(s)) for s in (state, after)), strict=True)
        return [(m & ~n).sum() for m, n in both]

    for s in (0.25, 0.75):
        kept = [64, round(96 * (1 - s))]
        assert [int(n) for n in dropped(s)] == [round(0.3 * n) for n in kept]


def test_schedules_of_optax_under_jit_of_init():
    schedule = optax.linear_schedule(0.25, 0.5, 4)
    tx = jp.rigl(
        sgd(),
        sparsity=schedule,
        key=KEY,
        when=[0, 4],
        fraction=optax.cosine_decay_schedule(0.3, 4),
    )
    masks = jp.get_masks(jax.jit(tx.init)(make_params()))
    assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == 168


@pytest.mark.parametrize(
    "make",
    [
        lambda score: jp.rigl(sgd(), sparsity=0.5, key=KEY, when=[1, 4], score=score),
        lambda score: jp.set_(sgd(), sparsity=0.5, key=KEY, when=[1, 4], score=score),
        lambda score: jp.straight_through(sgd(), sparsity=0.5, every=3, score=score),
    ],
    ids=["rigl", "set", "straight_through"],
)
def test_members_of_a_vmap_rank_at_events_only(make):
    calls = []

    def counted(w):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.abs(w)

    tx = make(jp.scores.Criterion(counted))
    stacked = jax.tree.map(lambda x: jnp.stack([x] * 8), make_params())
    params, state = stacked, jax.vmap(tx.init)(stacked)
    step = jax.jit(lambda i, p, s: jax.vmap(lambda p, s: advance(tx, i, p, s))(p, s))
    ranked = []
    for i in range(6):
        jax.effects_barrier()
        before = len(calls)
        params, state = step(i, params, state)
        jax.block_until_ready(params)
        jax.effects_barrier()
        ranked.append(len(calls) > before)
    at = (2, 5) if "Through" in type(state).__name__ else (1, 4)
    assert [i for i, ran in enumerate(ranked) if ran] == list(at)


def test_shapes_are_enough_for_init():
    params = make_params()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    tx = jp.rigl(sgd(), sparsity=0.5, key=KEY, when=jp.every(2, end=4))
    assert_same(jp.get_masks(tx.init(shapes)), jp.get_masks(tx.init(params)))


# ---- arguments -------------------------------------------------------------------------------


def test_static_masks_are_those_of_make():
    score = jp.scores.random(KEY)
    tx = jp.static(sgd(), sparsity=0.75, score=score)
    expected = jp.masks.make(
        make_params(), 0.75, score=score, allocate=jp.allocate.erdos_renyi_kernel
    )
    moments = train(tx, make_params(), 3)
    for moment in moments:
        assert_same(jp.get_masks(moment.state), expected)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"fraction": 1.5}, ValueError, "fraction=1.5"),
        ({"fraction": "a third"}, TypeError, "fraction='a third'"),
        ({"fraction": lambda step: -1.0}, ValueError, "at step 0"),
        ({"sparsity": 1.0}, ValueError, "sparsity=1.0"),
        ({"when": jp.every(3)}, ValueError, "leaves the end to the schedule"),
        ({"grow": jp.scores.snip}, ValueError, "grow: the criterion remembers"),
        ({"score": jp.scores.grasp}, ValueError, "score: the criterion probes the loss"),
        ({"key": 3}, TypeError, "not a PRNG key"),
        ({"inner": None}, ValueError, "wrap the optimizer"),
        ({"scope": "global", "allocate": jp.allocate.uniform}, ValueError, "allocate divides"),
    ],
)
def test_what_is_wrong_is_said(changes, error, match):
    arguments = {"inner": sgd(), "sparsity": 0.5, "key": KEY, "when": jp.every(2, end=4)} | changes
    with pytest.raises(error, match=match):
        jp.rigl(arguments.pop("inner"), **arguments).init(make_params())


# ---- constant fan-in -------------------------------------------------------------------------


def divided(w, g, mask, stay, kept, share):
    """SRigL in NumPy, neuron by neuron, from the steps that the paper lists."""
    inputs = w.shape[0]
    stays = highest(np.where(mask, np.abs(w), -1.0), stay) & mask
    salient = highest(np.where(stays, np.inf, np.abs(g)), kept)
    number = salient.sum(0)
    lives = number >= math.ceil(share * mask.sum(0).max())
    lives |= number == number.max()
    fan = min(kept // w.shape[1] * w.shape[1] // lives.sum(), inputs)
    new = np.zeros_like(mask)
    for j in np.flatnonzero(lives):
        size = np.where(stays[:, j], np.abs(w[:, j]), -1.0)
        first = highest(size, fan) & stays[:, j]
        new[:, j] = highest(np.where(first, np.inf, np.abs(g[:, j])), fan)
    return new


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_srigl_is_the_steps_of_the_paper(share):
    tx = jp.srigl(
        sgd(),
        sparsity=0.75,
        key=KEY,
        when=[0, 2, 4],
        fraction=lambda step: 0.5,
        min_salient=share,
        allocate=jp.allocate.uniform,
    )
    params = make_params()
    state = tx.init(params)
    params = jp.apply_masks(params, jp.get_masks(state))
    update = jax.jit(functools.partial(advance, tx))
    ablated = 0
    for path, mask in masks_by_path(jp.get_masks(state)).items():
        assert (mask.sum(0) == {"a/kernel": 4, "b/kernel": 2}[path]).all()
    for step in range(5):
        before, old = by_path(params), masks_by_path(jp.get_masks(state))
        grads = by_path(make_grads(step, params))
        params, state = update(step, params, state)
        for path, mask in masks_by_path(jp.get_masks(state)).items():
            expected = old[path]
            if step in (0, 2, 4):
                kept = SIZES[path] // 4
                stay = kept - round(kept * 0.5)
                expected = divided(before[path], grads[path], old[path], stay, kept, share)
            np.testing.assert_array_equal(mask, expected)
            fans = mask.sum(0)
            assert len(set(fans[fans > 0].tolist())) == 1
            ablated += int((fans == 0).sum())
    assert (ablated == 0) == (share == 0.0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"min_salient": 2.0}, r"min_salient=2\.0"),
        ({"sparsity": 0.99, "allocate": jp.allocate.uniform}, "fewer than its 8 neurons"),
        ({"rules": [jp.Rule("a/.*", pattern=jp.NM(1, 4))]}, "a constant fan-in is one of its own"),
        ({"rules": [jp.Rule("a/bias", dense=False, sparsity=0.5)]}, "needs two axes"),
    ],
)
def test_srigl_says_what_is_wrong(changes, match):
    arguments = {"sparsity": 0.5, "key": KEY, "when": [0, 1]} | changes
    with pytest.raises(ValueError, match=match):
        jp.srigl(sgd(), **arguments).init(make_params())


def test_static_and_set_say_what_is_wrong():
    with pytest.raises(ValueError, match="masks are made in init"):
        jp.static(sgd(), sparsity=0.5, score=jp.scores.saliency)
    with pytest.raises(TypeError, match="not a PRNG key"):
        jp.set_(sgd(), sparsity=0.5, key=3, when=[0, 1])
