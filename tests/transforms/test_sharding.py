"""Eight devices: the same masks as one, and masks placed as their params."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import heard
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from prune_cases import (
    COURSE,
    STEPS,
    TRANSFORMS,
    Moment,
    adam,
    advance,
    assert_same,
    assert_zeros,
    dyadic,
    make_params,
    reference,
    sgd,
    train,
    transform,
)

import jaxprune as jp

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((8,), ("x",), axis_types=(kind,))


def place(tree, spec, kind=AxisType.Auto):
    """Every leaf on eight devices, the first axis cut by `spec`."""
    return jax.device_put(tree, NamedSharding(mesh(kind), spec))


def same_place(mask, param):
    return mask.sharding.is_equivalent_to(param.sharding, param.ndim)


@pytest.mark.parametrize(
    "name",
    [
        "sgd",
        "global",
        "nm",
        "block",
        "channel",
        "random",
        "erk",
        "keep",
        "rigl",
        "granet",
        "set",
        "srigl",
        "static",
    ],
)
def test_masks_do_not_depend_on_the_number_of_devices(name):
    """FSDP along axis 0, the whole run in one program."""
    tx = transform(name)

    @jax.jit
    def run(params):
        def body(carry, i):
            moment = advance(tx, i, *carry)
            return moment, jp.get_masks(moment.state)

        return jax.lax.scan(body, Moment(params, tx.init(params)), jnp.arange(STEPS))

    (params, _), masks = run(place(make_params(), P("x")))
    for step, expected in enumerate(reference(name)):
        own = jax.tree.map(lambda x: x[step], masks)  # noqa: B023
        assert_same(own, jp.get_masks(expected.state))
    assert_zeros(params, jp.get_masks(reference(name)[-1].state))


def big():
    """Rows enough that each device has eight of them."""
    return {"a": {"kernel": dyadic(0, (64, 8))}, "b": {"kernel": dyadic(1, (128, 4))}}


@pytest.mark.parametrize(
    ("name", "spec"),
    [("adam", P("x")), ("keep", P("x")), ("sgd", P())],
    ids=["adam fsdp", "keep fsdp", "sgd replicated"],
)
def test_masks_lie_where_their_params_lie(name, spec):
    params = place(big(), spec)
    masks = jp.masks.make(big(), 0.75)
    tx = jp.keep(adam(), place(masks, spec)) if name == "keep" else TRANSFORMS[name]()
    state = tx.init(params)
    step = jax.jit(lambda i, p, s: advance(tx, i, p, s))
    for i in range(3):
        own, state = step(jnp.int32(i), params, state)
        for mask, w in zip(jax.tree.leaves(jp.get_masks(state)), jax.tree.leaves(own), strict=True):
            assert same_place(w, jax.tree.leaves(params)[0])
            assert same_place(mask, w)
        params = own


@pytest.mark.parametrize("name", ["adam", "nm"])
def test_masks_of_init_lie_where_their_params_lie(name):
    params = place(big(), P("x"))
    masks = jp.get_masks(TRANSFORMS[name]().init(params))
    for mask, w in zip(jax.tree.leaves(masks), jax.tree.leaves(params), strict=True):
        assert same_place(mask, w)


def test_a_sharded_run_compiles_once():
    """Steps leave masks where init put them: the second step finds the program of the first."""
    tx, params = transform("sgd"), place(big(), P("x"))
    # Scalars are put on one device by init, in optax as here; a run places them once.
    state = jax.tree.map(lambda x: x if x.ndim else place(x, P()), tx.init(params))
    step = jax.jit(lambda i, p, s: advance(tx, i, p, s), donate_argnums=(1, 2))
    steps = [jnp.int32(i) for i in range(STEPS)]
    params, state = step(steps[0], params, state)

    with heard() as compiled:
        for i in steps[1:]:
            params, state = step(i, params, state)
    assert not compiled


def test_the_last_axis_may_be_cut():
    params = {"kernel": dyadic(0, (8, 16))}
    tx = jp.prune(sgd(), **COURSE)
    expected = train(tx, params)[-1]
    own = place(params, P(None, "x"))
    state = tx.init(own)
    step = jax.jit(lambda i, p, s: advance(tx, i, p, s))
    for i in range(STEPS):
        own, state = step(jnp.int32(i), own, state)
    mask = jp.get_masks(state)["kernel"]
    np.testing.assert_array_equal(mask, jp.get_masks(expected.state)["kernel"])
    assert same_place(mask, own["kernel"])
    assert_same(own, expected.params)


def test_without_jit():
    params = place(big(), P("x"))
    tx = jp.prune(sgd(), **COURSE)
    moments, expected = train(tx, params), train(tx, big())
    for a, b in zip(moments, expected, strict=True):
        assert_same(jp.get_masks(a.state), jp.get_masks(b.state))
        assert_same(a.params, b.params)
    mask = jp.get_masks(moments[-1].state)["a"]["kernel"]
    assert same_place(mask, params["a"]["kernel"])


def test_explicit_axes():
    """Params whose types carry the axes of the mesh."""
    kind = AxisType.Explicit
    params = place(big(), P("x", None), kind)
    tx = jp.prune(sgd(), **COURSE)
    with jax.set_mesh(mesh(kind)):
        state = tx.init(params)
        step = jax.jit(
            lambda i, p, s: advance(tx, i, p, s, jax.tree.map(lambda w: w * 0 + 0.125, p))
        )
        for i in range(2):
            params, state = step(jnp.int32(i), params, state)
    assert_zeros(params, jp.get_masks(state))
    assert same_place(jp.get_masks(state)["a"]["kernel"], params["a"]["kernel"])


def test_in_shard_map_some_leaves_may_be_whole():
    tx = jp.prune(adam(), sparsity=0.5)
    whole = {"cut": {"kernel": dyadic(0, (64, 8))}, "same": {"kernel": dyadic(1, (16, 8))}}

    def step(params):
        return advance(tx, jnp.int32(0), params, tx.init(params))[0]

    specs = {"cut": {"kernel": P("x")}, "same": {"kernel": P()}}
    pruned = jax.jit(jax.shard_map(step, mesh=mesh(), in_specs=(specs,), out_specs=P("x")))(whole)
    mask = jp.masks.make(whole, 0.5)["same"]["kernel"]
    np.testing.assert_array_equal(pruned["same"]["kernel"] != 0, jnp.tile(mask, (8, 1)))


def test_a_state_that_was_restored_elsewhere():
    """Explicit axes: masks that lie on all devices go where their params are."""
    kind = AxisType.Explicit
    params, tx = place(big(), P("x", None), kind), jp.prune(sgd(), sparsity=0.5)
    with jax.set_mesh(mesh(kind)):
        state = tx.init(params)
        state = jax.tree.map(lambda x: place(x, P(*[None] * x.ndim), kind), state)
        _, state = jax.jit(tx.update)(params, state, params)
    assert same_place(jp.get_masks(state)["a"]["kernel"], params["a"]["kernel"])


def test_select_and_pack_where_axes_are_explicit():
    kind = AxisType.Explicit
    scores = dyadic(0, (64, 32))
    for spec in (P("x", None), P(None, "x")):
        with jax.set_mesh(mesh(kind)):
            own = place(scores, spec, kind)
            made = [
                jax.jit(lambda x: jp.select.top_k_mask(x, 100)),
                jax.jit(lambda x: jp.select.top_k_mask(x, 3, axis=0)),
                jax.jit(lambda x: jp.select.top_k_masks([x, x], [100], groups=[0, 0])[1]),
                jax.jit(lambda x: jp.select.top_n_of_m(x, 2, 16, axis=0)),
                jax.jit(lambda x: jp.masks.unpack(jp.masks.pack(x > 0), x)),
                jax.jit(lambda x: jp.masks.unpack(jp.masks.pack(x > 0, axis=1), x, axis=1)),
            ]
            masks = [function(own) for function in made]
        for function, mask in zip(made, masks, strict=True):
            np.testing.assert_array_equal(mask, function(scores))
            assert mask.sharding.is_equivalent_to(own.sharding, 2) or "pack" in str(function)


@pytest.mark.parametrize("pattern", [jp.Unstructured(), jp.NM(2, 4), jp.Channel()], ids=str)
def test_in_shard_map_each_shard_is_pruned_by_itself(pattern):
    tx = jp.prune(adam(), sparsity=0.5, pattern=pattern)
    whole = {"kernel": dyadic(0, (64, 8))}

    def step(params):
        return advance(tx, jnp.int32(0), params, tx.init(params))[0]

    cut = jax.shard_map(step, mesh=mesh(), in_specs=P("x"), out_specs=P("x"))
    parts = jnp.split(jax.jit(cut)(whole)["kernel"], 8)
    for part, own in zip(parts, jnp.split(whole["kernel"], 8), strict=True):
        mask = jp.masks.make({"kernel": own}, 0.5, pattern=pattern)["kernel"]
        np.testing.assert_array_equal(part != 0, mask)


THROUGH = {
    "straight_through": lambda: jp.straight_through(sgd(), sparsity=0.5, every=2, decay=0.25),
    "top_kast": lambda: jp.top_kast(sgd(), sparsity=0.75, backward_sparsity=0.5, decay=0.25),
    "group_lasso": lambda: optax.chain(sgd(), jp.group_lasso(0.25, pattern=jp.Block((2, 2)))),
    "proximal_l1": lambda: optax.chain(sgd(), jp.proximal_l1(0.25)),
    "srigl": TRANSFORMS["srigl"],
    "rigl": TRANSFORMS["rigl"],
    "set": TRANSFORMS["set"],
    "static": TRANSFORMS["static"],
}


EXPLICIT = ("straight_through", "top_kast", "group_lasso", "srigl")


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, AxisType.Auto) for name in THROUGH] + [(name, AxisType.Explicit) for name in EXPLICIT],
)
def test_sparse_training_on_eight_devices(name, kind):
    """As on one; masks lie where their params lie, from the first update on."""
    tx = THROUGH[name]()

    def step(i, params, state):
        return advance(tx, i, params, state)

    params = {n: {"kernel": dyadic(i, (64, 8 * i))} for i, n in enumerate("ab", 1)}
    expected = Moment(params, tx.init(params))
    placed = place(params, P("x"), kind)
    with jax.set_mesh(mesh(kind)):
        found = Moment(placed, jax.jit(tx.init)(placed))
    for i in range(4):
        expected = jax.jit(step)(i, *expected)
        with jax.set_mesh(mesh(kind)):
            found = jax.jit(step)(i, *found)
    for x, y in zip(*map(jax.tree.leaves, (found.params, expected.params)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    if name in ("group_lasso", "proximal_l1"):
        return
    masks, others = (jp.get_masks(moment.state) for moment in (found, expected))
    for layer in ("a", "b"):
        mask, w = masks[layer]["kernel"], found.params[layer]["kernel"]
        np.testing.assert_array_equal(mask, others[layer]["kernel"])
        assert same_place(mask, w)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_shuffled_masks_lie_where_masks_lie(kind):
    masks = jp.masks.make(make_params(), 0.5)
    placed = place(masks, P("x"), kind)
    with jax.set_mesh(mesh(kind)):
        moved = jp.masks.shuffle(jax.random.key(0), placed)
    expected = jp.masks.shuffle(jax.random.key(0), masks)
    for x, y, z in zip(*map(jax.tree.leaves, (moved, placed, expected)), strict=True):
        np.testing.assert_array_equal(x, z)
        assert same_place(x, y)
