"""Functions of dense parameters, run on what a plan keeps of them."""

import functools

import cut_oracle as oracle
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from draws import put
from jax import export

from jaxprune import compact

NAMED = {case.name: case for case in zoo.CASES}


@functools.cache
def planned(name):
    """(plan, masked params, cut params, args)."""
    apply, params, args = NAMED[name].make(jax.random.key(3))
    plan = oracle.some(compact.trace_groups(apply, params, *args), name)
    zeros = oracle.masked(plan, params)
    return plan, zeros, plan.cut(zeros), args


def close(got, expected, tolerance=1e-5):
    got, expected = jax.tree.leaves(got), jax.tree.leaves(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        assert oracle.error(np.asarray(a), np.asarray(b)) < tolerance


def noise(shape, seed=0):
    return put(np.random.default_rng(seed).standard_normal(shape, np.float32))


def words(shape):
    return put(np.random.default_rng(0).integers(13, size=shape, dtype=np.int32))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("linen residual cnn", [noise((5, 12, 8, 3))]),
        ("raw decoder grouped by reshape", [words((3, 9))]),
        ("raw decoder rotary halves", [words((1, 12))]),
        ("linen encoder decoder", [words((4, 3)), words((4, 6))]),
        ("raw lstm", [noise((3, 11, 4))]),
        ("raw graph", [noise((3, 4, 4)), noise((3, 4, 4), 1)]),
    ],
)
def test_other_batches_and_lengths_than_traced(name, args):
    plan, zeros, small, _ = planned(name)
    close(jax.jit(plan.apply)(small, *args), jax.jit(plan.groups.apply)(zeros, *args))


def test_transformations_of_the_function():
    plan, zeros, small, (x,) = planned("raw repeated")
    batches = jnp.stack([x, 2 * x, -x])

    def loss(function, params, x):
        return jnp.square(function(params, x)).sum()

    def many(function, params):
        mapped = jax.vmap(function, (None, 0))(params, batches)
        looped = jax.lax.scan(lambda c, x: (c, function(params, x)), 0, batches)[1]
        again = jax.lax.map(jax.checkpoint(functools.partial(function, params)), batches)
        slope = jax.grad(functools.partial(loss, function, params))(x)
        forward = jax.jvp(functools.partial(function, params), (x,), (jnp.cos(x),))[1]
        twice = jax.jvp(jax.grad(lambda x: loss(function, params, x)), (x,), (x,))[1]
        return mapped, looped, again, slope, forward, twice

    got, expected = (
        jax.jit(functools.partial(many, function))(tree)
        for function, tree in [(plan.apply, small), (plan.groups.apply, zeros)]
    )
    close(got, expected)


def test_models_of_one_size_in_one_vmap():
    plan, zeros, small, (x,) = planned("raw mlp")
    others = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), small)
    both = jax.vmap(plan.apply, (0, None))(others, x)
    close(both[0], plan.groups.apply(zeros, x))
    close(both[1], plan.groups.apply(jax.tree.map(lambda a: 2 * a, zeros), x))


class Trained(nn.Module):
    """With statistics that change and with dropout."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(8, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(3)(nn.relu(nn.Dense(12)(x)))


def test_training_returns_statistics_that_are_cut():
    """From a trace of inference; the masks of dropout are those of the dense model, cut."""
    model, x, key = Trained(), noise((4, 6, 6, 3)), jax.random.key(5)
    variables = model.init(jax.random.key(0), x, False)
    groups = compact.trace_groups(lambda v, x: model.apply(v, x, False), variables, x)
    plan = oracle.some(groups, 3)
    zeros = oracle.masked(plan, variables)

    def step(variables, x, key):
        return model.apply(variables, x, True, rngs={"dropout": key}, mutable=["batch_stats"])

    answer, state = jax.jit(step)(zeros, x, key)
    got, small = jax.jit(plan.wrap(step))(plan.cut(zeros), x, key)
    close(got, answer)
    expected = oracle.smaller(plan, oracle.leaves(state))
    for path, mean in oracle.leaves(small).items():
        np.testing.assert_allclose(mean, expected[path], rtol=1e-5, atol=1e-6)
    statistics = small["batch_stats"]["BatchNorm_0"]["mean"].size
    assert statistics == plan.widths["params/Conv_0/kernel[3]"] < 8


def run(apply, params, x, **kept):
    """(plan, cut params) of the units named, of a group by the leaf that it begins with."""
    groups = compact.trace_groups(apply, params, x)
    names = {group.name.split("[")[0]: group.name for group in groups}
    plan = compact.Plan(groups, {names[k]: np.array(v, bool) for k, v in kept.items()})
    return plan, plan.cut(params)


def test_custom_derivatives_are_kept():
    """At 0 the derivative of jax.nn.relu is 0, of max(x, 0) it is a half; rules of any kind."""

    @jax.custom_jvp
    def threefold(x):
        return 2 * x

    threefold.defjvp(lambda x, t: (2 * x[0], 3 * t[0] * jnp.sign(x[0] + 10)))

    @jax.custom_vjp
    def fivefold(x, y):
        return x * y

    fivefold.defvjp(lambda x, y: (x * y, (x, y)), lambda r, g: (5 * g * r[1], 7 * g * r[0]))

    def apply(p, x):
        h = jax.nn.relu(x @ p["a"])
        return fivefold(threefold(h), jnp.cos(h) + p["b"][None]) @ p["c"]

    params = {"a": noise((3, 8)), "b": noise((8,), 1), "c": noise((8, 2), 2)}
    x = jnp.array([[0.0, 0.0, 0.0], [1.0, -1.0, 2.0]])
    plan, small = run(apply, params, x, a=[1, 0, 1, 1, 0, 1, 0, 1])
    zeros = oracle.masked(plan, params)

    def slopes(function, tree, x):
        return jax.grad(lambda *a: jnp.square(function(*a)).sum(), (0, 1))(tree, x)

    expected, moved = slopes(apply, zeros, x)
    got, small_moved = slopes(plan.apply, small, x)
    close(small_moved, moved)
    for path, g in oracle.smaller(plan, oracle.leaves(expected)).items():
        close(got[path], g)
    plain = jax.grad(lambda x: jnp.square(small["a"].T @ x).sum())(x[0])
    assert not plain.any()


def test_export_with_a_symbolic_batch():
    plan, zeros, small, (x,) = planned("linen residual cnn")
    (batch,) = export.symbolic_shape("batch")
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), small)
    image = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    data = export.export(jax.jit(plan.apply))(shapes, image).serialize()
    call = jax.jit(export.deserialize(data).call)
    for n in (1, 3):
        x = noise((n, *image.shape[1:]))
        close(call(small, x), jax.jit(plan.groups.apply)(zeros, x))


def test_export_with_a_symbolic_length():
    plan, zeros, small, _ = planned("raw decoder rotary halves")
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), small)
    text = jax.ShapeDtypeStruct(export.symbolic_shape("b, n"), jnp.int32)
    call = export.export(jax.jit(plan.apply))(shapes, text).call
    for shape in [(1, 4), (3, 7)]:
        close(call(small, words(shape)), jax.jit(plan.groups.apply)(zeros, words(shape)))


def hidden_and_answer(p, x):
    hidden = jnp.tanh(x @ p["a"])
    return hidden @ p["b"], hidden


NARROW = {"a": noise((3, 8)), "b": noise((8, 2), 1)}
KEPT = [1, 0, 1, 1, 0, 0, 1, 1]


def planned_by_hand():
    return run(lambda p, x: hidden_and_answer(p, x)[0], NARROW, noise((1, 3)), a=KEPT)


def test_other_functions_of_the_model():
    """A loss with labels; what a layer computes, which comes out cut; its derivative inside."""
    plan, small = planned_by_hand()
    x, y = noise((4, 3)), noise((4, 2), 1)
    zeros = oracle.masked(plan, NARROW)

    def loss(p, batch):
        return jnp.square(hidden_and_answer(p, batch["x"])[0] - batch["y"]).mean()

    batch = {"x": x, "y": y}
    close(plan.wrap(loss)(small, batch), loss(zeros, batch))
    hidden = plan.wrap(hidden_and_answer)(small, x)[1]
    close(hidden, hidden_and_answer(zeros, x)[1][:, np.array(KEPT, bool)])
    expected = oracle.smaller(plan, oracle.leaves(jax.grad(loss)(zeros, batch)))
    close(plan.wrap(jax.grad(loss))(small, batch), expected)


def test_results_and_arguments_that_are_no_arrays():
    plan, small = planned_by_hand()

    def function(p, x, scale, name):
        return {"name": name, "answer": hidden_and_answer(p, x)[0] * scale, "none": None, "n": 3}

    wrapped, x = plan.wrap(function), noise((1, 3))
    made = wrapped(small, x, 2.0, "twice")
    assert {k: v for k, v in made.items() if k != "answer"} == {
        "name": "twice",
        "none": None,
        "n": 3,
    }
    close(made["answer"], 2 * plan.apply(small, x))
    close(wrapped(small, x, 3.0, "thrice")["answer"], 3 * plan.apply(small, x))


def test_equal_arguments_of_other_types_are_other_programs():
    plan, small = planned_by_hand()
    wrapped = plan.wrap(lambda p, x, flag: x if flag is True else hidden_and_answer(p, x)[0])
    x = noise((1, 3))
    assert wrapped(small, x, True).shape == (1, 3)
    assert wrapped(small, x, 1).shape == (1, 2)


def test_it_is_traced_once_for_each_kind_of_arguments():
    calls = []

    def apply(p, x):
        calls.append(x.shape)
        return jnp.tanh(x @ p["a"]) @ p["b"]

    plan, small = run(apply, NARROW, noise((1, 3)), a=KEPT)
    calls.clear()
    for n in (1, 1, 4, 1, 4):
        plan.apply(small, noise((n, 3)))
    jax.jit(plan.apply)(small, noise((4, 3)))
    assert calls == [(1, 3), (4, 3)]
    plan.apply(small, noise((4, 3)).astype(jnp.bfloat16))
    assert len(calls) == 3


def test_donated_params():
    plan, small = planned_by_hand()

    def step(p, x):
        slopes = jax.grad(lambda p: jnp.square(plan.apply(p, x)).sum())(p)
        return jax.tree.map(lambda w, g: w - 0.1 * g, p, slopes)

    x = noise((4, 3))
    expected = step(small, x)
    given = jax.tree.map(jnp.copy, small)
    close(jax.jit(step, donate_argnums=0)(given, x), expected)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (lambda p, x, h: h * p["b"][:, 0][None], [noise((1, 8))], "axis 1 of an argument: here"),
        (lambda p, x: jnp.sort(p["b"], 0), [], "axis 0 of b: here it has to stay whole: sort runs"),
        (lambda p, x: p["a"][:, 1:] * p["a"][:, :-1], [], "axis 1 of a: "),
        (lambda p, x: p["a"].reshape(3, 4, 2).sum(1), [], "indices are kept there that do not go"),
    ],
)
def test_functions_that_tie_what_is_removed(function, args, message):
    plan, small = planned_by_hand()
    with pytest.raises(ValueError, match=message) as error:
        plan.wrap(function)(small, noise((1, 3)), *args)
    assert "the function cannot be run on what the plan keeps; " in str(error.value)
    assert "or wrap the model alone." in str(error.value)


def test_trees_that_the_plan_did_not_cut():
    plan, small = planned_by_hand()
    x = noise((1, 3))
    with pytest.raises(ValueError, match=r"a must have the shape \(3, 5\) that the plan leaves it"):
        plan.apply(NARROW, x)
    with pytest.raises(ValueError, match=r"b must have the shape \(5, 2\)"):
        plan.apply({"a": small["a"]}, x)
    with pytest.raises(ValueError, match="c was not there when the groups were traced"):
        plan.apply({**small, "c": x}, x)
