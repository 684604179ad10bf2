"""The contract table: every transform through every wrapper and program transformation."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from compilations import heard
from prune_cases import (
    COURSE,
    EVENTS,
    NAMES,
    STEPS,
    TRANSFORMS,
    Moment,
    advance,
    assert_same,
    assert_zeros,
    dyadic,
    make_grads,
    make_params,
    masks_by_path,
    reference,
    train,
    transform,
)

import jaxprune as jp

# Random scores, blocks and allocations differ in the masks, which tests of training look at.
CONTRACT = [n for n in NAMES if n not in ("random", "erk", "block", "rigl nm", "rigl block", "obd")]
every_transform = pytest.mark.parametrize("name", CONTRACT)


def recorder():
    """An inner transform that remembers the extra argument `value`."""

    def update(updates, state, params=None, *, value, **extra):
        del state, params, extra
        return updates, {"seen_value": jnp.asarray(value)}

    return optax.GradientTransformationExtraArgs(
        lambda params: {"seen_value": jnp.zeros(())}, update
    )


@every_transform
def test_is_a_transform_with_extra_args(name):
    assert isinstance(transform(name), optax.GradientTransformationExtraArgs)


@every_transform
def test_extra_args_reach_the_inner_transform(name):
    tx = TRANSFORMS[name](recorder())
    params = make_params()
    _, state = advance(tx, 0, params, tx.init(params), value=3.5, loss_fn=abs)
    assert optax.tree_utils.tree_get(state, "seen_value") == 3.5


@every_transform
def test_unknown_extra_args_are_ignored(name):
    tx, params = transform(name), make_params()
    moment = advance(tx, 0, params, tx.init(params), value=1.0, nobody_knows=None)
    assert_same(moment.params, reference(name)[0].params)


@every_transform
def test_zeros_after_every_step(name):
    for step, moment in enumerate(reference(name)):
        if step >= EVENTS[0]:
            assert_zeros(moment.params, jp.get_masks(moment.state))


@every_transform
def test_inputs_are_left_alone(name):
    """Pure: the same call twice gives the same, and the state's structure never changes."""
    tx, params = transform(name), make_params()
    state = tx.init(params)
    before = jax.tree.map(lambda x: np.array(x), (params, state))
    first = advance(tx, EVENTS[0], params, state)
    second = advance(tx, EVENTS[0], params, state)
    assert_same(first, second)
    assert_same(before, (params, state))
    assert jax.tree.structure(first.state) == jax.tree.structure(state)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(first.state), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)


@every_transform
def test_one_donated_program_serves_the_run(name):
    """Jitted with donation: traced once, and equal to the run without jit."""
    tx, traces = transform(name), []

    def step(i, params, state):
        traces.append(i)
        return advance(tx, i, params, state)

    jitted = jax.jit(step, donate_argnums=(1, 2))
    params = make_params()
    state = tx.init(params)
    for i, expected in enumerate(reference(name)):
        params, state = jitted(jnp.int32(i), params, state)
        assert_same(jp.get_masks(state), jp.get_masks(expected.state))
        if name not in ADAPTIVE:
            assert_same(params, expected.params)
    assert len(traces) == 1
    assert_zeros(params, jp.get_masks(state))


# Adam divides by a root: programs that fuse differently round it differently.
ADAPTIVE = ("adam", "chained", "global", "keep")


@every_transform
def test_vmap_of_scan_equals_members_run_one_by_one(name):
    """Three members, the whole run in one program, events at different values."""
    tx = transform(name)
    seeds = (0, 10, 20)
    members = [make_params(seed=seed) for seed in seeds]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)

    @jax.jit
    @jax.vmap
    def run(params):
        def body(carry, i):
            moment = advance(tx, i, *carry)
            return moment, jp.get_masks(moment.state)

        return jax.lax.scan(body, Moment(params, tx.init(params)), jnp.arange(STEPS))

    (params, _), masks = run(stacked)
    for i, seed in enumerate(seeds):
        expected = reference(name, seed)
        for step in range(STEPS):
            own = jax.tree.map(lambda x: x[i, step], masks)  # noqa: B023
            assert_same(own, jp.get_masks(expected[step].state))
        own = jax.tree.map(lambda x: x[i], params)  # noqa: B023
        if name in ADAPTIVE:
            jax.tree.map(
                lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
                own,
                expected[-1].params,
            )
        else:
            assert_same(own, expected[-1].params)


@pytest.mark.as_users
@pytest.mark.parametrize("name", ["adam"])
def test_scan_equals_a_python_loop_of_jitted_steps(name):
    tx, params = transform(name), make_params()

    def body(carry, i):
        return advance(tx, i, *carry), None

    scanned = jax.jit(lambda carry: jax.lax.scan(body, carry, jnp.arange(STEPS))[0])
    stepped = jax.jit(lambda carry, i: body(carry, i)[0])
    carry = start = Moment(params, tx.init(params))
    for i in range(STEPS):
        carry = stepped(carry, jnp.int32(i))
    assert_same(scanned(start), carry)


DTYPES = {
    "f32": (jnp.float32, None),
    "bf16": (jnp.bfloat16, None),
    "f16": (jnp.float16, None),
    "bf16 with f32 grads": (jnp.bfloat16, jnp.float32),
    "f16 with f32 grads": (jnp.float16, jnp.float32),
}


def mixed_params():
    params = make_params()
    params["a"]["kernel"] = params["a"]["kernel"].astype(jnp.bfloat16)
    return params


@every_transform
@pytest.mark.parametrize("dtypes", [*DTYPES, "mixed"])
def test_updates_have_the_dtype_of_their_params(name, dtypes):
    """By shapes alone; a pruned leaf keeps its dtype whatever the inner transform emits."""
    tx = transform(name)
    dtype, grad_dtype = DTYPES.get(dtypes, (None, None))
    params = mixed_params() if dtypes == "mixed" else make_params(dtype)
    grads = make_grads(0, params, grad_dtype)
    state = jax.eval_shape(tx.init, params)
    updates, after = jax.eval_shape(tx.update, grads, state, params)
    for path in (("a", "kernel"), ("b", "kernel")):
        assert updates[path[0]][path[1]].dtype == params[path[0]][path[1]].dtype
    moved = jax.eval_shape(optax.apply_updates, params, updates)
    assert jax.tree.map(lambda x: x.dtype, moved) == jax.tree.map(lambda x: x.dtype, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.parametrize("dtypes", ["bf16 with f32 grads", "f16", "mixed"])
def test_low_precision_runs(dtypes):
    tx = transform("sgd")
    dtype, grad_dtype = DTYPES.get(dtypes, (None, None))
    params = mixed_params() if dtypes == "mixed" else make_params(dtype)
    state = tx.init(params)
    for step in range(STEPS):
        params, state = advance(tx, step, params, state, make_grads(step, params, grad_dtype))
        if step >= EVENTS[0]:
            assert_zeros(params, jp.get_masks(state))
    for mask in jax.tree.leaves(jp.get_masks(state)):
        assert int(mask.sum()) == round(mask.size * 0.25)


@every_transform
def test_init_on_shapes(name):
    """`jax.ShapeDtypeStruct` leaves: eval_shape gives the state's shapes, as does init itself."""
    tx, params = transform(name), make_params()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    abstract = jax.eval_shape(tx.init, shapes)
    concrete = tx.init(params)
    assert jax.tree.structure(abstract) == jax.tree.structure(concrete)
    for x, y in zip(jax.tree.leaves(abstract), jax.tree.leaves(concrete), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)


@every_transform
def test_init_called_with_shapes(name):
    """`tx.init(shapes)` outside eval_shape, with an inner transform that allows it."""
    tx = TRANSFORMS[name](optax.sgd(0.1))
    params = make_params()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    assert_same(tx.init(shapes), tx.init(params))


@every_transform
def test_no_leaked_tracers(name):
    tx, params = TRANSFORMS[name](), make_params()
    with jax.checking_leaks():
        state = jax.eval_shape(tx.init, params)
        jax.jit(lambda p, s: advance(tx, 0, p, s)).trace(params, state)


@every_transform
def test_orbax_round_trip_resumes_to_the_bit(name, tmp_path):
    tx, expected = transform(name), reference(name)
    saved = expected[2]._asdict()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", saved)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "run", jax.eval_shape(lambda: saved))
    assert_same(restored, saved)
    rest = train(tx, restored["params"], STEPS - 3, state=restored["state"], start=3)
    assert_same(rest, expected[3:])


@every_transform
def test_flax_bytes_round_trip_resumes_to_the_bit(name):
    tx, expected = transform(name), reference(name)
    fresh = {"params": make_params(seed=7), "state": tx.init(make_params(seed=7))}
    data = flax.serialization.to_bytes(expected[2]._asdict())
    restored = flax.serialization.from_bytes(fresh, data)
    assert_same(restored, expected[2]._asdict())
    rest = train(tx, restored["params"], STEPS - 3, state=restored["state"], start=3)
    assert_same(rest, expected[3:])


@every_transform
def test_map_params_finds_what_is_shaped_like_params(name):
    tx, state = transform(name), reference(name)[-1].state
    marked = optax.tree_utils.tree_map_params(
        tx,
        lambda x: jnp.full(x.shape, 7),
        state,
        transform_non_params=lambda x: jax.tree.map(lambda _: jnp.asarray(-1), x),
    )
    assert jax.tree.structure(marked) == jax.tree.structure(state)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(marked), strict=True):
        like_params = jnp.ndim(x) in (1, 2)  # and not counts, or blocks of a Fisher matrix
        assert (np.asarray(y) == (7 if like_params else -1)).all()


def test_the_second_event_without_jit_compiles_nothing():
    tx, params = transform("adam"), make_params()
    state = tx.init(params)
    for step in range(EVENTS[1]):  # one event, and a step without
        params, state = advance(tx, step, params, state)
        assert bool(jp.masks_changed(state)) == (step in EVENTS)
    grads = [make_grads(step, params) for step in range(STEPS)]
    with heard() as compiled:
        for step in range(EVENTS[1], STEPS):
            params, state = advance(tx, step, params, state, grads[step])
            assert bool(jp.masks_changed(state)) == (step in EVENTS)
        assert not compiled
        jax.jit(lambda x: x * 3 + 1.25)(jnp.ones(3))  # compilations are heard
        assert compiled


def test_masks_without_jit_compile_little_for_a_shape():
    """One program packs a mask and one unpacks it, not one for each of the rows of a byte."""
    tx = jp.prune(**COURSE)
    jp.get_masks(tx.init(make_params()))  # scalars, which all shapes share
    params = {"kernel": dyadic(0, (40, 23))}  # of no other test
    with heard() as compiled:
        state = tx.init(params)
    assert len(compiled) == 2  # the mask that keeps all, and its bits
    with heard() as compiled:
        jp.get_masks(state)
    assert len(compiled) == 1


@pytest.mark.parametrize("name", ["adam", "chained", "channel", "keep", "rigl", "set"])
def test_multi_steps_counts_real_updates(name):
    """Inside MultiSteps each third micro-step is an update; masks are those of the plain run."""
    plain = transform(name)
    tx = optax.MultiSteps(plain, every_k_schedule=2).gradient_transformation()
    params = make_params()
    state, changed = tx.init(params), []

    @jax.jit
    def micro(i, params, state):
        return advance(tx, i // 2, params, state)

    expected = reference(name)
    for i in range(2 * STEPS):
        params, state = micro(jnp.int32(i), params, state)
        if i % 2:
            assert_same(jp.get_masks(state), jp.get_masks(expected[i // 2].state))
        if name != "keep" and i % 2 and bool(jp.masks_changed(state)):
            changed.append(i // 2)
        if i // 2 > EVENTS[0]:
            assert_zeros(params, jp.get_masks(state))
    assert name == "keep" or tuple(changed) == EVENTS


def test_masked_prunes_only_what_it_shows():
    show = {"a": {"bias": True, "kernel": True}, "b": {"kernel": False}}
    tx = optax.masked(transform("sgd"), show)
    params = make_params()
    last = train(tx, params)[-1]
    masks = jp.get_masks(last.state)
    assert list(masks_by_path(masks)) == ["a/kernel"]
    assert int(masks["a"]["kernel"].sum()) == 32
    assert_zeros(last.params, masks)
    assert (np.asarray(last.params["b"]["kernel"]) != 0).any()
    assert_same(jp.apply_masks(last.params, masks), last.params)


def test_partition_of_two_prunes():
    labels = {"a": {"bias": "one", "kernel": "one"}, "b": {"kernel": "two"}}
    two = jp.prune(optax.sgd(0.125), sparsity=jp.one_shot(0.5, step=2), pattern=jp.Block((2, 2)))
    tx = optax.partition({"one": transform("adam"), "two": two}, labels)
    params = make_params()
    moments = train(tx, params)
    last = moments[-1]
    masks = jp.get_masks(last.state)
    assert int(masks["a"]["kernel"].sum()) == 32
    assert int(masks["b"]["kernel"].sum()) == 48
    assert masks["a"]["bias"] is None
    assert_zeros(last.params, masks)
    changed = [i for i, m in enumerate(moments) if bool(jp.masks_changed(m.state))]
    assert changed == sorted({*EVENTS, 2})


def injected():
    build = optax.inject_hyperparams(
        jp.prune,
        static_args=("inner", "when", "score", "pattern", "scope", "allocate", "rules"),
    )
    return build(optax.sgd(0.125), sparsity=0.5, when=[1, 3])


def test_injected_sparsity_is_a_traced_hyperparameter():
    tx, traces = injected(), []

    @jax.jit
    def step(i, params, state):
        traces.append(i)
        return advance(tx, i, params, state)

    params = make_params()
    state = tx.init(params)
    kept = []
    for i in range(4):
        if i == 2:
            state.hyperparams["sparsity"] = jnp.float32(0.75)
        params, state = step(jnp.int32(i), params, state)
        kept.append(int(jp.get_masks(state)["a"]["kernel"].sum()))
    assert kept == [128, 64, 64, 32]
    assert len(traces) == 1
    assert_zeros(params, jp.get_masks(state))


def test_a_sweep_over_sparsity_in_one_vmap():
    params = {"kernel": dyadic(0, (9, 11))}
    sweep = jnp.array([0.0, 0.1, 0.5, 0.75, 0.9, 0.99])

    @jax.jit
    @jax.vmap
    def run(s):
        tx = jp.prune(sgd_for_sweep(), sparsity=jp.linear(s, begin=1, end=3), when=jp.every(1))

        def body(carry, i):
            moment = advance(tx, i, *carry)
            return moment, jp.get_masks(moment.state)["kernel"].sum()

        (last, state), kept = jax.lax.scan(body, Moment(params, tx.init(params)), jnp.arange(5))
        return last, jp.get_masks(state), kept

    last, masks, kept = run(sweep)
    for i, s in enumerate(sweep.tolist()):
        assert kept[i].tolist() == [
            99,
            99,
            round(99 * (1 - float(np.float32(s) * np.float32(0.5)))),
            round(99 * (1 - s)),
            round(99 * (1 - s)),
        ]
        assert_zeros({"kernel": last["kernel"][i]}, {"kernel": masks["kernel"][i]})


def sgd_for_sweep():
    return optax.sgd(0.125)
