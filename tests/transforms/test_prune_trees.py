"""Trees of every make, and the training loops of Flax and Equinox."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict
from flax.training.train_state import TrainState
from prune_cases import advance, assert_zeros, dyadic, masks_by_path, sgd

import jaxprune as jp


class Pair(NamedTuple):
    kernel: jax.Array
    other_kernel: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    kernel: jax.Array
    bias: jax.Array
    other_kernel: jax.Array


def w(seed=0):
    return dyadic(seed, (8, 6))


TREES = {
    "nested dict": lambda: {"x": {"y": {"kernel": w()}}, "kernel": w(1)},
    "FrozenDict": lambda: FrozenDict({"x": {"kernel": w()}, "y": {"kernel": w(1)}}),
    "list": lambda: [w(), w(1)],
    "tuple": lambda: (w(), (w(1),)),
    "NamedTuple": lambda: Pair(w(), w(1)),
    "bare array": w,
    "dataclass": lambda: Layer(w(), dyadic(2, (6,)), w(1)),
    "None leaves": lambda: {"kernel": w(), "bias": None, "more": [None, w(1)]},
    "integer leaf": lambda: {"kernel": w(), "other": {"kernel": w(1), "ids": jnp.arange(3)}},
    "empty leaf": lambda: {"kernel": w(), "other": {"kernel": jnp.zeros((0, 4))}},
}


@pytest.mark.parametrize("tree", TREES)
def test_any_tree(tree):
    params = TREES[tree]()
    tx = jp.prune(sgd(), sparsity=0.75)
    grads = jax.tree.map(jnp.zeros_like, params)
    state = tx.init(params)
    updates, state = tx.update(grads, state, params)
    masks = jp.get_masks(state)
    new = optax.apply_updates(params, updates)
    assert jax.tree.structure(new) == jax.tree.structure(params)
    kept = [int(m.sum()) for m in jax.tree.leaves(masks) if m.size]
    assert kept == [12] * len(kept)
    assert len(kept) == (1 if tree in ("bare array", "empty leaf") else 2)
    assert sum(int((np.asarray(x) != 0).sum()) for x in jax.tree.leaves(masks)) == sum(kept)
    assert_zeros(new, masks)
    applied = jp.apply_masks(params, masks)
    for a, b in zip(jax.tree.leaves(applied), jax.tree.leaves(new), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("tree", TREES)
def test_any_tree_in_keep(tree):
    params = TREES[tree]()
    masks = jax.tree.map(
        lambda x: None if x.shape != (8, 6) else np.arange(48).reshape(8, 6) % 4 == 1, params
    )
    pruned = jp.apply_masks(params, masks)
    tx = jp.keep(optax.sgd(0.125), masks)
    new, state = advance(
        tx, 0, pruned, tx.init(pruned), jax.tree.map(lambda x: jnp.ones_like(x), params)
    )
    assert_zeros(new, jp.get_masks(state))
    assert [int(m.sum()) for m in jax.tree.leaves(jp.get_masks(state)) if m.size] == [12] * len(
        [m for m in jax.tree.leaves(masks) if m.size]
    )


def test_moving_average_is_masked_by_apply_masks():
    params = {"kernel": w(), "bias": jnp.ones(6)}
    tx, ema = jp.prune(sgd(), sparsity=0.75), optax.ema(0.5, debias=False)
    state, average = tx.init(params), ema.init(params)
    _, average = ema.update(params, average)
    params, state = advance(tx, 0, params, state)
    mean, _ = ema.update(params, average)
    masks = jp.get_masks(state)
    pruned = ~np.asarray(masks["kernel"])
    assert (np.asarray(mean["kernel"])[pruned] != 0).any()
    mean = jp.apply_masks(mean, masks)
    assert_zeros(mean, masks)
    np.testing.assert_array_equal(mean["bias"] != 0, True)


# ---- Flax linen ------------------------------------------------------------------------------


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="out")(nn.relu(nn.Dense(8, name="hidden")(x)))


def test_linen_train_state():
    model, x = MLP(), jnp.ones((4, 3))
    params = model.init(jax.random.key(0), x)["params"]
    tx = jp.prune(optax.adam(1e-2), sparsity=jp.linear(0.5, begin=0, end=2), when=jp.every(1))
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    @jax.jit
    def step(state):
        def loss(params):
            return jnp.mean(state.apply_fn({"params": params}, x) ** 2)

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    for _ in range(4):
        state = step(state)
    masks = jp.get_masks(state)
    kept = {p: int(m.sum()) for p, m in masks_by_path(masks).items()}
    assert kept == {"hidden/kernel": 12, "out/kernel": 8}
    assert masks["hidden"]["bias"] is None
    assert not jp.masks_changed(state)
    assert_zeros(state.params, masks)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(4)(nn.LayerNorm()(x)), None


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        layers = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return layers(name="layers")(x, None)[0]


def test_stacked_layers_of_scan_prune_kernels_alone():
    """Norm scales and biases have two axes here, and stay dense all the same."""
    params = Stack().init(jax.random.key(0), jnp.ones((2, 4)))["params"]
    assert params["layers"]["LayerNorm_0"]["scale"].shape == (3, 4)
    tx = jp.prune(sgd(), sparsity=0.5)
    masks = jp.get_masks(advance(tx, 0, params, tx.init(params)).state)
    assert {p: int(m.sum()) for p, m in masks_by_path(masks).items()} == {
        "layers/Dense_0/kernel": 24
    }


# ---- Flax NNX --------------------------------------------------------------------------------


class Net(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(3, 8, rngs=rngs)
        self.outer = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.outer(nnx.relu(self.inner(x)))


def test_nnx_training_loop():
    model = Net(nnx.Rngs(0))
    tx = jp.prune(optax.adam(1e-2), sparsity=jp.linear(0.5, begin=0, end=2), when=jp.every(1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    x = jnp.ones((4, 3))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean(model(x) ** 2))(model)
        optimizer.update(model, grads)

    changed = []
    for _ in range(4):
        step(model, optimizer)
        changed.append(bool(jp.masks_changed(optimizer)))
    assert changed == [True, True, True, False]
    masks = jp.get_masks(optimizer)
    kept = [int(m.sum()) for m in jax.tree.leaves(masks)]
    assert sorted(kept) == [8, 12]
    assert int((model.inner.kernel[...] != 0).sum()) == 12
    assert int((model.outer.kernel[...] != 0).sum()) == 8
    params = nnx.state(model, nnx.Param)
    for a, b in zip(
        jax.tree.leaves(jp.apply_masks(params, masks)), jax.tree.leaves(params), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_nnx_state_as_params():
    params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    pruned, masks = jp.prune_params(params, 0.5, rules=[jp.Rule("inner/kernel", sparsity=0.75)])
    assert sorted(int(m.sum()) for m in jax.tree.leaves(masks)) == [6, 8]
    assert isinstance(pruned, type(params))


# ---- Equinox ---------------------------------------------------------------------------------


def test_equinox_mlp():
    model = eqx.nn.MLP(3, 2, width_size=8, depth=1, key=jax.random.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    tx = jp.prune(optax.adam(1e-2), sparsity=0.5)
    x = jnp.ones((4, 3))

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(lambda model: jnp.mean(jax.vmap(model)(x) ** 2))(model)
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, state = tx.update(grads, state, params)
        return eqx.apply_updates(model, updates), state

    state = tx.init(params)
    for _ in range(2):
        model, state = step(model, state)
    masks = jp.get_masks(state)
    assert [int(m.sum()) for m in jax.tree.leaves(masks)] == [12, 8]
    assert int((model.layers[0].weight != 0).sum()) == 12
    assert int((model.layers[1].weight != 0).sum()) == 8
    assert (model.layers[0].bias != 0).any()
    assert_zeros(eqx.filter(model, eqx.is_inexact_array), masks)


# ---- updates with holes -----------------------------------------------------------------------

INNER = {
    "none": lambda: None,
    "sgd": lambda: optax.sgd(0.125),
    "momentum": lambda: optax.sgd(0.125, momentum=0.5),
    "rmsprop": lambda: optax.rmsprop(0.125),
}


@pytest.mark.parametrize("kind", ["prune", "keep"])
@pytest.mark.parametrize("inner", INNER)
def test_updates_of_none(inner, kind):
    """Of a dense leaf None stays None; a pruned leaf keeps its weights, and its zeros."""
    params = {"a": {"kernel": w(), "bias": dyadic(2, (6,))}, "b": {"kernel": w(1)}}
    grads = {"a": {"kernel": None, "bias": None}, "b": {"kernel": jnp.ones((8, 6))}}
    if kind == "prune":
        tx = jp.prune(INNER[inner](), sparsity=0.75)
    else:
        tx = jp.keep(INNER[inner]() or optax.identity(), jp.masks.make(params, 0.75))
    state, old = tx.init(params), params
    for update in (tx.update, jax.jit(tx.update)):
        updates, state = update(grads, state, params)
        assert updates["a"]["bias"] is None
        params = eqx.apply_updates(params, updates)
    masks = jp.get_masks(state)
    assert_zeros(params, masks)
    expected = jp.apply_masks(old, masks)
    assert int(masks["a"]["kernel"].sum()) == int(masks["b"]["kernel"].sum()) == 12
    np.testing.assert_array_equal(params["a"]["kernel"], expected["a"]["kernel"])
    np.testing.assert_array_equal(params["a"]["bias"], old["a"]["bias"])
    assert (np.asarray(params["b"]["kernel"]) != expected["b"]["kernel"]).any()


def test_boxes_of_metadata_are_left_out_of_paths():
    """Flax's nn.Partitioned wraps a leaf: rules see the leaf, and masks come back in boxes."""

    def boxed(*shape):
        return nn.Partitioned(dyadic(len(shape), shape), names=(None,) * len(shape))

    params = {"attention": {"kernel": boxed(8, 4), "bias": boxed(2, 4)}}
    decided = {leaf.path: leaf.dense for leaf in jp.plan(params, 0.5).leaves}
    assert decided == {"attention/bias": "bias, by name", "attention/kernel": None}
    tx = jp.prune(optax.adam(0.1), sparsity=0.5)
    _, state = tx.update(params, tx.init(params), params)
    mask = jp.get_masks(state)["attention"]["kernel"].value
    assert int(mask.sum()) == 16
    np.testing.assert_array_equal(state.inner_state[0].mu["attention"]["kernel"].value != 0, mask)
    with pytest.raises(ValueError, match="matches no leaf"):
        jp.plan(params, 0.5, rules=[jp.Rule("attention/bias/value", dense=True)])


def test_prng_keys_among_the_params():
    params = {"a": {"kernel": dyadic(0, (8, 4))}, "rng": jax.random.key(3)}
    assert jax.tree.leaves(jp.prune(sparsity=0.5).init(params).masks)[0].shape == (1, 4)
    pruned, masks = jp.prune_params(params, 0.5)
    assert masks["rng"] is None
    assert jp.summary(pruned, masks).prunable.kept == 16
