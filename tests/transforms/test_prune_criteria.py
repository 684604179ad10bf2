"""Criteria that use gradients in training: memories, windows, probes, broken gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from prune_cases import (
    EVENTS,
    STEPS,
    advance,
    assert_same,
    assert_zeros,
    dyadic,
    make_grads,
    make_params,
)

import jaxprune as jp
from jaxprune import scores

WHEN = {"sparsity": jp.polynomial(0.75, begin=1, end=5), "when": jp.every(2)}
GRADS = {
    "saliency": scores.saliency,
    "snip": scores.snip,
    "accumulated": scores.accumulated_saliency(0.5),
    "movement": scores.movement,
    "obd": scores.obd(),
    "obs": scores.obs(4, damp=0.5),
}
every_criterion = pytest.mark.parametrize("name", GRADS)


def pruner(score, inner=None, **options):
    return jp.prune(inner or optax.sgd(0.125), score=score, **WHEN, **options)


def kept(state):
    return sum(int(m.sum()) for m in jax.tree.leaves(jp.get_masks(state)))


def run(tx, grads_of=make_grads, steps=STEPS, params=None, **extra):
    """States after each step."""
    params = make_params() if params is None else params
    state, seen = tx.init(params), []
    for step in range(steps):
        params, state = advance(tx, step, params, state, grads_of(step, params), **extra)
        seen.append((params, state))
    return seen


def target(step):
    """How many of the 224 weights are kept after an event."""
    s = jp.polynomial(0.75, begin=1, end=5)(step)
    return sum(round(n * (1 - s)) for n in (128, 96))


# --- gradients that are not finite ----------------------------------------------------------------


def broken_at(*steps, value=jnp.nan, one=False):
    """Gradients as ever, but at some steps NaN or infinite, everywhere or in one element."""

    def grads(step, params):
        good = make_grads(step, params)
        if step not in steps:
            return good
        if one:
            return good | {"b": {"kernel": good["b"]["kernel"].at[0, 0].set(value)}}
        return jax.tree.map(lambda g: jnp.full_like(g, value), good)

    return grads


@every_criterion
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("one", [True, False])
def test_an_event_waits_for_a_finite_gradient(name, value, one):
    """A peer keeps 27 of 128 weights after one NaN gradient on an update step."""
    tx = pruner(GRADS[name], jp_finite(optax.sgd(0.125)))
    seen = run(tx, broken_at(3, value=value, one=one))
    changed = [i for i, (_, state) in enumerate(seen) if bool(jp.masks_changed(state))]
    assert changed == [1, 4, 5]
    for i, (params, state) in enumerate(seen):
        assert (
            kept(state)
            == (224, target(1), target(1), target(1), target(3), target(5), target(5))[i]
        )
        if i >= 1:
            assert_zeros(params, jp.get_masks(state))
    assert_same(jp.get_masks(seen[3][1]), jp.get_masks(seen[2][1]))


def jp_finite(inner):
    """An optimizer that leaves weights alone where their gradients are not finite."""
    clean = optax.stateless(
        lambda u, _: jax.tree.map(lambda g: jnp.nan_to_num(g, posinf=0, neginf=0), u)
    )
    return optax.chain(clean, inner)


def test_the_last_event_waits_too():
    seen = run(pruner(scores.saliency, jp_finite(optax.sgd(0.125))), broken_at(5, 6), steps=9)
    assert kept(seen[6][1]) == target(3)
    assert kept(seen[7][1]) == target(5)
    assert not bool(jp.masks_changed(seen[8][1]))


def test_what_no_criterion_reads_may_be_anything():
    """Gradients of biases, of dense leaves, and of leaves that are ranked by magnitude."""
    rules = [jp.Rule("b/kernel", score=scores.magnitude)]
    tx = pruner(scores.saliency, jp_finite(optax.sgd(0.125)), rules=rules)
    seen = run(tx, broken_at(3, one=True))  # breaks b/kernel alone
    assert bool(jp.masks_changed(seen[3][1]))
    assert kept(seen[3][1]) == target(3)


def test_a_memory_takes_nothing_from_what_is_not_finite():
    tx = pruner(scores.accumulated_saliency(0.5), jp_finite(optax.sgd(0.0)))
    zeroed = run(tx, lambda step, p: jax.tree.map(jnp.nan_to_num, broken_at(0)(step, p)))
    assert_same(run(tx, broken_at(0))[0][1].score_state, zeroed[0][1].score_state)


# --- memories -----------------------------------------------------------------------------------


def test_accumulated_saliency_by_hand():
    tx = pruner(scores.accumulated_saliency(0.5), optax.sgd(0.0))
    params = make_params()
    s = np.zeros((16, 8))
    for step in range(2):
        g = make_grads(step, params)["a"]["kernel"]
        s = 0.5 * s + np.abs(np.asarray(params["a"]["kernel"], float) * np.asarray(g, float))
    mask = np.asarray(jp.get_masks(run(tx, steps=2)[1][1])["a"]["kernel"])
    order = np.argsort(-s.ravel(), kind="stable")
    expected = np.zeros(128, bool)
    expected[order[: mask.sum()]] = True
    # Sparsity 0 at step 1 keeps all; so one event later.
    assert mask.all()
    params, state = run(tx, steps=2)[1]
    for step in (2, 3):
        g = make_grads(step, params)["a"]["kernel"]
        s = 0.5 * s + np.abs(np.asarray(params["a"]["kernel"], float) * np.asarray(g, float))
        params, state = advance(tx, step, params, state, make_grads(step, params))
    mask = np.asarray(jp.get_masks(state)["a"]["kernel"]).ravel()
    expected = np.zeros(128, bool)
    expected[np.argsort(-s.ravel(), kind="stable")[: mask.sum()]] = True
    assert mask.sum() < 128
    np.testing.assert_array_equal(mask, expected)


def memory_of(state):
    return jax.tree.leaves(state.score_state.memory)


@pytest.mark.parametrize("name", ["snip", "obd", "obs"])
def test_memories_that_reset_start_anew_after_events(name):
    seen = run(pruner(GRADS[name]))
    for i, (_, state) in enumerate(seen):
        empty = all(not np.any(x) for x in memory_of(state))
        assert empty == (i in EVENTS or i > EVENTS[-1])


def test_a_window_looks_at_the_last_updates_before_an_event_only():
    seen = run(
        jp.prune(optax.sgd(0.125), sparsity=jp.one_shot(0.5, step=5), score=scores.obs(4, window=2))
    )
    empty = [all(not np.any(x) for x in memory_of(state)) for _, state in seen]
    assert empty == [True, True, True, True, False, True, True]


def test_movement_brings_a_weight_back():
    """Straight-through: a pruned weight whose gradient keeps pulling it away from 0 returns."""
    params = {"kernel": jnp.array([[1.0, 1.0], [1.0, 1.0]])}
    tx = jp.prune(
        optax.sgd(0.0), sparsity=0.5, when=jp.every(1, begin=0, end=9), score=scores.movement
    )
    state = tx.init(params)
    masks = []
    for step in range(4):
        pull = [[-1.0, -1.0], [0.0, 0.0]] if step == 0 else [[0.0, 0.0], [-1.0, -1.0]]
        updates, state = tx.update({"kernel": jnp.array(pull)}, state, params)
        params = optax.apply_updates(params, updates)
        masks.append(np.asarray(jp.get_masks(state)["kernel"]).tolist())
    assert masks[0] == [[True, True], [False, False]]
    assert masks[-1] == [[False, False], [True, True]]
    assert_zeros(params, jp.get_masks(state))


def test_without_such_criteria_the_state_holds_nothing():
    assert run(pruner(scores.magnitude), steps=1)[0][1].score_state == ()
    memory = run(pruner(scores.saliency), steps=1)[0][1].score_state.memory
    assert jax.tree.leaves(memory) == []


def test_kinds_of_memory_side_by_side():
    rules = [jp.Rule("a/kernel", score=scores.movement)]
    seen = run(pruner(scores.accumulated_saliency(0.5), rules=rules))
    alone = run(pruner(scores.accumulated_saliency(0.5)))
    assert kept(seen[-1][1]) == target(5)
    assert_same(jp.get_masks(seen[-1][1])["b"], jp.get_masks(alone[-1][1])["b"])


@pytest.mark.parametrize("name", ["accumulated", "movement", "obd"])
def test_accumulated_gradients_are_remembered_once(name):
    """Inside MultiSteps a memory sees the mean gradient of the micro-steps."""
    plain, params = pruner(GRADS[name]), make_params()
    tx = optax.MultiSteps(plain, every_k_schedule=2).gradient_transformation()
    state = tx.init(params)
    for i in range(8):
        params, state = advance(tx, i // 2, params, state, make_grads(i // 2, params))
    expected_params, expected = run(plain, steps=4)[-1]
    assert_same(params, expected_params)
    assert_same(state.inner_opt_state.score_state, expected.score_state)


# --- what is emitted ------------------------------------------------------------------------------


def test_obs_moves_kept_weights_at_events_only():
    tx = pruner(scores.obs(8, damp=0.01), optax.sgd(0.0))
    before = make_params()
    for i, (params, state) in enumerate(run(tx)):
        assert_zeros(params, jp.get_masks(state))
        mask = np.asarray(jp.get_masks(state)["b"]["kernel"])
        moved = np.any(np.asarray(params["b"]["kernel"] != before["b"]["kernel"])[mask])
        assert moved == (i in EVENTS[1:])
        before = params


def test_obs_under_training_is_what_compensate_says():
    score = scores.obs(8, damp=0.25, window=9)
    tx = jp.prune(optax.sgd(0.0), sparsity=jp.one_shot(0.5, step=2), score=score)
    params = make_params()
    memory = score.memory.init(params["b"]["kernel"])
    for step in range(3):
        g = make_grads(step, params)["b"]["kernel"]
        memory = score.memory.update(memory, params["b"]["kernel"], g)
    after, state = run(tx, steps=3)[-1]
    mask = jp.get_masks(state)["b"]["kernel"]
    expected = jnp.where(mask, score.compensate(params["b"]["kernel"], mask, memory), 0)
    np.testing.assert_allclose(after["b"]["kernel"], expected, rtol=1e-5, atol=1e-6)


# --- probes -------------------------------------------------------------------------------------


X = dyadic(5, (4, 16))


def loss(params):
    return jnp.mean(jnp.square(jnp.tanh(X @ params["a"]["kernel"]) @ params["b"]["kernel"]))


@pytest.mark.parametrize(
    "score", [scores.grasp, scores.obd(scores.exact_diagonal)], ids=["grasp", "obd"]
)
@pytest.mark.parametrize("jit", [True, False])
def test_a_probe_is_given_the_loss(score, jit):
    tx = jp.prune(optax.sgd(0.125), sparsity=jp.one_shot(0.5, step=1), score=score, scope="global")
    params = make_params()
    state = tx.init(params)

    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params, value_fn=loss)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step) if jit else step
    once, state = step(params, state)
    _, state = step(once, state)
    _, masks = jp.prune_params(
        once, 0.5, score=score, scope="global", loss=lambda p, _: loss(p), batches=[0]
    )
    agree = jax.tree.map(lambda a, b: int(jnp.sum(a != b)), jp.get_masks(state), masks)
    assert sum(jax.tree.leaves(agree)) <= 2  # rounding may part neighbours
    assert kept(state) == 112


def test_a_probe_without_a_loss_is_an_error():
    params = make_params()
    tx = pruner(scores.grasp)
    with pytest.raises(ValueError, match="value_fn=loss"):
        tx.update(params, tx.init(params), params)


def test_a_probe_with_a_memory_is_an_error():
    score = scores.Criterion(
        lambda w, memory: memory,
        needs=("memory",),
        memory=scores.obd().memory,
        probe=scores.exact_diagonal,
    )
    with pytest.raises(ValueError, match="a probe at every step"):
        pruner(score)


@every_criterion
def test_chained_last_there_are_no_raw_gradients(name):
    with pytest.raises(ValueError, match="raw gradients"):
        jp.prune(score=GRADS[name], sparsity=0.5)


def test_what_is_pruned_does_not_displace_live_weights_of_negative_score():
    """Curvature below 0 everywhere: the live weights all score below the 0 of the pruned one."""

    def concave(params):
        return -jnp.sum(params["kernel"] ** 4) / 4

    tx = jp.prune(
        optax.sgd(0.0),
        sparsity=lambda step: jnp.where(step < 1, 0.25, 0.5),
        when=[0, 1],
        score=scores.obd(scores.exact_diagonal),
    )
    params = {"kernel": jnp.array([[4.0, 3.0], [2.0, 1.0]])}
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(jax.grad(concave)(params), state, params, value_fn=concave)
        params = optax.apply_updates(params, updates)
    assert params["kernel"].tolist() == [[0.0, 0.0], [2.0, 1.0]]


def test_probes_and_gradients_of_other_kinds():
    """Float32 gradients of bfloat16 params, and None of a leaf that is frozen."""
    params = {"kernel": jnp.ones((4, 4), jnp.bfloat16), "frozen": jnp.ones(4)}
    value = lambda p: jnp.sum(jnp.square(p["kernel"].astype(jnp.float32)) * p["frozen"][None])  # noqa: E731
    grads = {"kernel": jnp.ones((4, 4), jnp.float32), "frozen": None}
    tx = jp.prune(optax.identity(), sparsity=0.5, score=scores.grasp)
    _, state = tx.update(grads, tx.init(params), params, value_fn=value)
    assert int(jp.get_masks(state)["kernel"].sum()) == 8


def test_a_probe_of_a_part_of_the_params_is_an_error():
    params = make_params()
    show = {"a": {"bias": True, "kernel": True}, "b": {"kernel": False}}
    tx = optax.masked(pruner(scores.grasp), show)
    with pytest.raises(ValueError, match=r"put prune outside of them"):
        tx.update(params, tx.init(params), params, value_fn=loss)


def test_a_gradient_that_is_none_is_an_error():
    params = make_params()
    grads = params | {"b": {"kernel": None}}
    tx = pruner(scores.saliency)
    with pytest.raises(ValueError, match="criterion of b/kernel reads gradients"):
        tx.update(grads, tx.init(params), params)


def test_rules_may_leave_no_leaf_to_the_criterion_of_the_call():
    tx = pruner(scores.saliency, rules=[jp.Rule(".*kernel", score=scores.magnitude)])
    state = tx.init(make_params())
    optax.tree_utils.tree_map_params(tx, lambda x: x, state)
    assert_same(run(tx)[-1][0], run(pruner(scores.magnitude))[-1][0])


# --- devices --------------------------------------------------------------------------------------


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
@every_criterion
def test_memories_lie_where_their_params_lie(name, kind):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(kind,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "x"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    tx, plain = pruner(GRADS[name], scope="global"), make_params()
    params = jax.tree.map(lambda x: jax.device_put(x, split if x.ndim == 2 else whole), plain)

    @jax.jit
    def step(i, params, state):
        return advance(tx, i, params, state, placed_grads(i, params))

    def placed_grads(i, params):
        made = make_grads(i, plain)
        return jax.tree.map(
            lambda g, p: (
                jax.sharding.reshard(g, jax.typeof(p).sharding)
                if kind == jax.sharding.AxisType.Explicit
                else g
            ),
            made,
            params,
        )

    with jax.set_mesh(mesh):
        state = tx.init(params)
        for i in range(4):
            params, state = step(i, params, state)
    expected = run(tx, steps=4)[-1]
    assert_same(jax.device_get(jp.get_masks(state)), jax.device_get(jp.get_masks(expected[1])))
    if name in ("snip", "accumulated", "movement"):
        for memory in jax.tree.leaves(state.score_state.memory):
            assert memory.sharding.is_equivalent_to(split, 2)
    if name == "obs":
        outputs = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
        blocks = [x for x in jax.tree.leaves(state.score_state.memory) if x.ndim == 4]
        assert blocks
        assert all(x.sharding.is_equivalent_to(outputs, 4) for x in blocks)


# --- what else a criterion may need ---------------------------------------------------------------


@pytest.mark.parametrize("jit", [True, False])
def test_params_of_the_moment_and_the_pattern_are_given(jit):
    """A scale that training changes decides which outputs live."""
    params = {
        "conv": {"kernel": jnp.ones((4, 4))},
        "norm": {"scale": jnp.array([1.0, 2.0, 3.0, 4.0])},
    }
    tx = jp.prune(
        optax.sgd(1.0),
        sparsity=jp.one_shot(0.5, step=1),
        pattern=jp.Channel(),
        score=scores.norm_scale({"conv/kernel": "norm/scale"}),
    )
    state = tx.init(params)
    grads = {
        "conv": {"kernel": jnp.zeros((4, 4))},
        "norm": {"scale": jnp.array([-9.0, 0.0, 0.0, 3.5])},
    }

    def step(params, state):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step) if jit else step
    for _ in range(2):
        params, state = step(params, state)
    assert jp.get_masks(state)["conv"]["kernel"][0].tolist() == [True, False, True, False]


def test_units_are_judged_by_the_sum_of_what_they_do():
    """Taylor: changes of an output's weights that cancel do not count."""
    params = {"kernel": jnp.ones((2, 2))}
    grads = {"kernel": jnp.array([[4.0, 1.0], [-4.0, 1.0]])}
    for score, kept in ((scores.squared_saliency, [True, False]), (scores.taylor, [False, True])):
        tx = jp.prune(optax.sgd(0.0), sparsity=0.5, pattern=jp.Channel(), score=score)
        _, state = tx.update(grads, tx.init(params), params)
        assert jp.get_masks(state)["kernel"][0].tolist() == kept
