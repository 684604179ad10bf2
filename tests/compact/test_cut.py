"""Trees that are cut: optimizer states, averages, modules, and what is refused."""

import cut_oracle as oracle
import equinox as eqx
import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import drawn, put
from flax import nnx

import jaxprune
from jaxprune import compact


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(12)(x))
        return nn.Dense(3)(nn.relu(nn.Dense(8)(nn.relu(x))))


def noise(shape, seed=0):
    return put(np.random.default_rng(seed).standard_normal(shape, np.float32))


X, Y = noise((6, 4)), noise((6, 3), 1)
SHAPES = jax.eval_shape(Model().init, jax.random.key(0), X)
VARIABLES = jax.tree.map(put, drawn(np.random.default_rng(2), SHAPES))
PLAN = oracle.some(compact.trace_groups(Model().apply, VARIABLES, X), 5)
ZEROS = oracle.masked(PLAN, VARIABLES)


def assert_cut(small, whole, prefix="params/", state=""):
    """Each leaf is the whole one cut as the leaf is that its path ends in."""
    arrays, made = oracle.leaves(whole), oracle.leaves(small)
    assert arrays.keys() == made.keys()
    cuts = 0
    for path, x in arrays.items():
        own = prefix + path.removeprefix(state) if state else path
        expected = oracle.smaller(PLAN, {own: x})[own]
        np.testing.assert_array_equal(made[path], expected)
        assert made[path].dtype == x.dtype
        cuts += x.shape != expected.shape
    assert cuts


def test_variables_and_parts_of_them():
    small = PLAN.cut(VARIABLES)
    assert_cut(small, VARIABLES)
    np.testing.assert_array_equal(
        small["batch_stats"]["BatchNorm_0"]["mean"].shape,
        PLAN.widths["params/Dense_0/kernel[1]"],
    )
    part = PLAN.cut(VARIABLES["params"])
    assert_cut({"params": part}, {"params": VARIABLES["params"]})
    frozen = PLAN.cut(flax.core.freeze(VARIABLES))
    assert isinstance(frozen, flax.core.FrozenDict)
    assert_cut(flax.core.unfreeze(frozen), VARIABLES)
    average = optax.ema(0.9).init(VARIABLES["params"])
    assert PLAN.cut(average).ema["Dense_0"]["kernel"].shape == part["Dense_0"]["kernel"].shape


def test_what_is_not_known_stays():
    other = {"step": jnp.arange(12), "model": VARIABLES, "rng": jax.random.key(0), "none": None}
    small = PLAN.cut(other)
    assert_cut(small["model"], VARIABLES)
    assert small["step"] is other["step"]
    assert small["rng"] is other["rng"]


def test_arrays_of_numpy_stay_arrays_of_numpy():
    small = PLAN.cut(jax.tree.map(np.asarray, VARIABLES))
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(small))


OPTIMIZERS = {
    "adam": optax.adam(0.05),
    "adamw": optax.adamw(0.05, weight_decay=0.1),
    "momentum": optax.sgd(0.05, momentum=0.9, nesterov=True),
    "chain": optax.chain(optax.clip(0.5), optax.scale_by_rms(), optax.scale(-0.02)),
    "multi steps": optax.MultiSteps(optax.adam(0.05), 2),
    "masked": optax.masked(optax.adam(0.05), lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
}


def trained(apply, variables, tx, state, steps):
    """(params, state) after some steps on the params alone."""

    def loss(params):
        answer = apply({**variables, "params": params}, X)
        return jnp.square(answer - Y).mean()

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = variables["params"]
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_it_would_have_with_masks(name):
    """The state is cut with the params; then steps are those of the masked model."""
    tx = jaxprune.keep(OPTIMIZERS[name], PLAN.masks(under="params"))
    params, state = trained(Model().apply, ZEROS, tx, tx.init(ZEROS["params"]), 3)
    expected, _ = trained(Model().apply, {**ZEROS, "params": params}, tx, state, 4)

    start, inner = PLAN.cut({**ZEROS, "params": params}), PLAN.cut(state.inner_state)
    plain = OPTIMIZERS[name]
    shapes = jax.eval_shape(plain.init, start["params"])
    assert jax.tree.map(jnp.shape, inner) == jax.tree.map(lambda s: s.shape, shapes)
    got, _ = trained(PLAN.apply, start, plain, inner, 4)
    wanted = oracle.smaller(PLAN, oracle.leaves({"params": expected}))
    for path, w in oracle.leaves({"params": got}).items():
        np.testing.assert_allclose(w, wanted[path], rtol=1e-4, atol=1e-5)


def test_a_state_beside_its_model_in_nnx():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.b(nnx.relu(self.a(x)))

    model = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.05), wrt=nnx.Param)
    graph, params = nnx.split(model, nnx.Param)
    groups = compact.trace_groups(lambda p, x: nnx.merge(graph, p)(x), params, X)
    plan = compact.Plan(groups, {groups[0].name: np.arange(8) < 5})
    small = plan.cut(nnx.state(optimizer))
    moments = small["opt_state"][0]["mu"]
    assert moments["a"]["kernel"].shape == (4, 5)
    assert moments["b"]["kernel"].shape == (5, 3)
    assert plan.cut(params)["a"]["bias"].shape == (5,)
    assert plan.apply(plan.cut(params), X).shape == (6, 3)


def test_modules_of_equinox():
    model = eqx.nn.MLP(4, 3, width_size=8, depth=1, key=jax.random.key(0))

    def apply(model, x):
        return jax.vmap(model)(x)

    groups = compact.trace_groups(apply, model, X)
    plan = compact.Plan(groups, {groups[0].name: np.arange(8) < 5})
    small = plan.cut(model)
    assert isinstance(small, eqx.nn.MLP)
    assert small.layers[0].weight.shape == (5, 4)
    masked = oracle.masked(plan, model)
    np.testing.assert_allclose(plan.apply(small, X), apply(masked, X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(apply(small, X), apply(masked, X), rtol=1e-5, atol=1e-6)
    state = optax.adam(1.0).init(eqx.filter(model, eqx.is_array))
    assert plan.cut(state)[0].mu.layers[1].weight.shape == (3, 5)


def test_of_paths_that_one_ends_in_the_longest_counts():
    def apply(p, x):
        x = jax.nn.relu(x @ p["w"])
        return jax.nn.relu(x @ p["in"]["w"]) @ p["out"]

    params = {"w": noise((4, 8)), "in": {"w": noise((8, 6))}, "out": noise((6, 2))}
    groups = compact.trace_groups(apply, params, X)
    plan = compact.Plan(groups, {"w[1]": np.arange(8) < 3, "in/w[1]": np.arange(6) < 2})
    small = plan.cut(optax.adam(1.0).init(params))[0].nu
    assert jax.tree.map(jnp.shape, small) == {"w": (4, 3), "in": {"w": (3, 2)}, "out": (2, 2)}


def test_collections_with_paths_of_params():
    """Beside "params" a collection may have their names: each is cut as what it is."""

    def apply(v, x):
        hidden = jax.nn.relu(x @ v["params"]["a"]) * v["a"][None]
        return hidden @ v["params"]["b"]

    variables = {"params": {"a": noise((4, 8)), "b": noise((8, 2))}, "a": noise((8,))}
    groups = compact.trace_groups(apply, variables, X)
    plan = compact.Plan(groups, {groups[0].name: np.arange(8) < 3})
    assert jax.tree.map(jnp.shape, plan.cut(variables)) == {
        "params": {"a": (4, 3), "b": (3, 2)},
        "a": (3,),
    }


def test_factored_moments_are_refused():
    def apply(p, x):
        return jnp.tanh(x @ p["a"]) @ p["b"]

    params = {"a": noise((4, 128)), "b": noise((128, 130))}
    plan = oracle.some(compact.trace_groups(apply, params, X), 0)
    state = optax.scale_by_factored_rms(min_dim_size_to_factor=128).init(params)
    with pytest.raises(ValueError, match="Factored moments cannot be cut, make them anew"):
        plan.cut(state)


def test_trees_of_other_models_are_refused():
    with pytest.raises(ValueError, match="nothing in the tree is known by its path; it has x/y"):
        PLAN.cut({"x": {"y": jnp.ones((12, 3))}})
    with pytest.raises(ValueError, match=r"nothing in the tree is known .*it has count"):
        PLAN.cut(optax.scale_by_schedule(lambda n: n).init(ZEROS))
    small = PLAN.cut(VARIABLES)
    with pytest.raises(ValueError, match="it is of another model, or was cut before"):
        PLAN.cut(small)


def test_packed_masks_are_refused():
    tx = jaxprune.keep(optax.adam(0.05), PLAN.masks(under="params"))
    with pytest.raises(ValueError, match="nor packed masks, cut the inner_state"):
        PLAN.cut(tx.init(VARIABLES["params"]))
