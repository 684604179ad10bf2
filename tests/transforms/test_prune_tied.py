"""Training with tied axes: whole units go, on schedule, in every leaf at once."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tied_oracle as oracle
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from prune_cases import (
    COURSE,
    END,
    EVENTS,
    STEPS,
    TARGET,
    Moment,
    N,
    adam,
    advance,
    assert_same,
    assert_zeros,
    dyadic,
    make_grads,
    sgd,
    train,
)

import jaxprune as jp
from jaxprune.patterns import Group, Member, Tied

SHAPES = {"a/kernel": (64, 64), "a/bias": (64,), "b/kernel": (64, 8), "b/bias": (8,)}


def wide(keep=None):
    """Hidden units of an MLP whose leaves eight devices can share."""
    places = [("a/kernel", 1), ("a/bias", 0), ("b/kernel", 0)]
    members = [Member(path, SHAPES[path], axis, 0, range(64)) for path, axis in places]
    return Tied([Group("hidden", 64, keep)], members)


def params(shapes=SHAPES, seed=0):
    return oracle.nested({p: dyadic(seed + i, s) for i, (p, s) in enumerate(shapes.items())})


def run(tx, start, steps=STEPS):
    """The moments of a run in a loop of jitted steps, which share a program."""
    step = jax.jit(lambda i, w, state: advance(tx, i, w, state))
    moments = [Moment(start, tx.init(start))]
    for i in range(steps):
        moments.append(step(jnp.int32(i), *moments[-1]))
    assert step._cache_size() == 1
    return moments[1:]


def expected(tied, moment, step, start):
    """The masks that the event at a step makes of the params before it."""
    share = float(jp.polynomial(TARGET, begin=start, end=END)(step)) / TARGET
    numbers = [
        round(g.size * (1 - (TARGET if g.keep is None else 1 - g.keep / g.size) * share))
        for g in tied.groups
    ]
    return oracle.masks_of(tied, oracle.flat(moment), numbers)


def test_a_schedule_ends_with_the_units_of_the_plan():
    """Three groups have a number to keep, two follow the sparsity itself."""
    tied = oracle.net(stream=3, heads=1, left=3)
    before, start = params(oracle.NET), EVENTS[0]
    moments = run(jp.prune(sgd(), **COURSE, pattern=tied), before)
    masks = None
    for step, moment in enumerate(moments):
        if step in EVENTS:
            masks = expected(tied, before, step, start)
        if masks is not None:
            oracle.assert_masks(jp.get_masks(moment.state), masks)
            assert_zeros(moment.params, jp.get_masks(moment.state))
        before = moment.params
    kept = oracle.kept_units(tied, jp.get_masks(moments[-1].state))
    assert kept == [3, 1, round(3 * 0.25), 3, round(2 * 0.25)]


@pytest.fixture(scope="module")
def reference():
    return train(jp.prune(sgd(), **COURSE, pattern=wide(24)), params())


def test_moments_of_pruned_biases_are_zero():
    moment = run(jp.prune(adam(), **COURSE, pattern=wide(24)), params())[-1]
    gone = ~np.asarray(jp.get_masks(moment.state)["a"]["bias"])
    assert gone.sum() == 40
    mean = moment.state.inner_state[0].mu
    assert (np.asarray(mean["a"]["bias"])[gone] == 0).all()
    assert (np.asarray(mean["b"]["kernel"])[gone] == 0).all()
    assert (np.asarray(mean["b"]["bias"]) != 0).all()


def test_a_run_in_one_program_at_a_traced_sparsity(reference):
    """A sweep of seeds and of sparsities; `keep` says how many, so that the last is the same."""

    def whole(start, target):
        sparsity = jp.polynomial(target, begin=EVENTS[0], end=END)
        tx = jp.prune(sgd(), sparsity=sparsity, when=jp.every(N), pattern=wide(24))

        def body(carry, i):
            moment = advance(tx, i, *carry)
            return moment, jp.get_masks(moment.state)

        return jax.lax.scan(body, Moment(start, tx.init(start)), jnp.arange(STEPS))

    stacked = jax.tree.map(lambda *x: jnp.stack(x), params(), params())
    (last, _), masks = jax.jit(jax.vmap(whole))(stacked, jnp.array([TARGET, 0.5]))
    for i in range(2):
        for step in (0, STEPS - 1):
            own = jax.tree.map(lambda x: x[i, step], masks)  # noqa: B023
            assert_same(own, jp.get_masks(reference[step].state))
    assert_same(jax.tree.map(lambda x: x[0], last), reference[-1].params)


def test_a_jitted_run_is_an_eager_one(reference):
    moments = run(jp.prune(sgd(), **COURSE, pattern=wide(24)), params())
    for one, other in zip(moments, reference, strict=True):
        assert_same(jp.get_masks(one.state), jp.get_masks(other.state))
        assert_same(one.params, other.params)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_masks_do_not_depend_on_the_number_of_devices(reference, kind):
    """FSDP along axis 0, with axes of the mesh in the types and without."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    tx = jp.prune(sgd(), **COURSE, pattern=wide(24))

    def put(tree):
        def one(x):
            return jax.device_put(x, NamedSharding(mesh, P("x", *[None] * (x.ndim - 1))))

        return jax.tree.map(one, tree)

    with jax.set_mesh(mesh):
        moment = Moment(put(params()), tx.init(put(params())))
        step = jax.jit(lambda grads, w, state: advance(tx, 0, w, state, grads))
        for i, other in enumerate(reference):
            moment = step(put(make_grads(i, params())), *moment)
            masks = jp.get_masks(moment.state)
            assert_same(masks, jp.get_masks(other.state))
            assert_same(moment.params, other.params)
    for path, layer in masks.items():
        for name, mask in layer.items():
            w = moment.params[path][name]
            assert mask is None or mask.sharding.is_equivalent_to(w.sharding, w.ndim)


SIGNED = jp.scores.Criterion(lambda w, grad: w - 9, needs=("grad",), signed=True)


def test_what_is_pruned_stays_so_if_scores_may_be_negative():
    """A unit that is gone scores -9 for each weight if it counted, and 0 if none did."""
    tied, before = oracle.net(), params(oracle.NET)
    moments = run(jp.prune(sgd(), **COURSE, pattern=tied, score=SIGNED), before)
    units = [
        oracle.unit_scores(tied, {p: m.astype(float) for p, m in oracle.flat(masks).items()})
        for masks in (jp.get_masks(moments[step].state) for step in EVENTS)
    ]
    for earlier, later in itertools.pairwise(units):
        for a, b in zip(earlier, later, strict=True):
            assert (a[b > 0] > 0).all()
    numbers = [round(g.size * (1 - TARGET)) for g in tied.groups]
    assert oracle.kept_units(tied, jp.get_masks(moments[-1].state))[0] == numbers[0]


def test_straight_through_and_static():
    """Masks of the params after each update, and masks of the start."""
    start = params()
    moment = run(jp.straight_through(sgd(), sparsity=0.5, pattern=wide()), start, 2)[-1]
    masks = oracle.masks_of(wide(), oracle.flat(moment.params), [32])
    oracle.assert_masks(jp.get_masks(moment.state), masks)
    tx = jp.top_kast(sgd(), sparsity=0.75, backward_sparsity=0.5, pattern=wide())
    state = tx.init(start)
    oracle.assert_masks(jp.get_masks(state), oracle.masks_of(wide(), oracle.flat(start), [16]))
    tx = jp.static(sgd(), sparsity=0.5, score=jp.scores.magnitude, pattern=wide(24))
    oracle.assert_masks(
        jp.get_masks(tx.init(start)), oracle.masks_of(wide(), oracle.flat(start), [24])
    )


@pytest.mark.parametrize("transform", [jp.rigl, jp.set_])
def test_an_exchange_of_weights_is_refused(transform):
    with pytest.raises(ValueError, match="an exchange of weights looks at leaves one by one"):
        transform(sgd(), sparsity=0.5, key=jax.random.key(0), when=(0, 2), pattern=wide())


def test_another_model_is_said_at_init():
    with pytest.raises(ValueError, match="traced on another model: they tie a/kernel"):
        jp.prune(optax.sgd(0.1), sparsity=0.5, pattern=wide()).init({"w": jnp.ones((2, 2))})
