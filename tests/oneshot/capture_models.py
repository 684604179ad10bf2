"""Models of every library, and a way to see the inputs of their layers that shares no code.

NumPy draws what it can: nothing is compiled for it.
"""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from draws import drawn, put
from flax import nnx


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(16, name="up")(x))
        return nn.Dense(5, use_bias=False, name="down")(x)


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2, name="plain")(x))
        x = nn.relu(nn.Conv(8, (3, 3), feature_group_count=8, name="depthwise")(x))
        x = nn.Conv(8, (3, 2), feature_group_count=2, kernel_dilation=2, name="grouped")(x)
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = nn.relu(nn.ConvTranspose(4, (3, 3), strides=(2, 2), name="transposed")(x))
        return nn.Dense(5, use_bias=False, name="head")(x.reshape(len(x), -1))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.gelu(nn.Dense(16, name="up")(nn.LayerNorm(name="norm")(x)))
        return x + nn.Dense(8, name="down")(y), None


class Transformer(nn.Module):
    """Attention, stacked layers, a layer under remat, a recurrent one, and a tied embedding."""

    @nn.compact
    def __call__(self, x):
        embed = nn.Embed(16, 8, name="embed")
        x = embed(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(x)
        stack = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = stack(name="stack")(x, None)
        x = x + nn.remat(nn.Dense)(8, name="remat")(x)
        x = x + nn.RNN(nn.SimpleCell(8, name="cell"), name="recurrent")(x)
        return embed.attend(nn.Dense(8, name="last")(x))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(6, 16, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(4, 16, decode=False, rngs=rngs)
        self.down = nnx.Linear(16, 5, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.down(self.attend(nnx.relu(self.up(x))))


def variables(module, x):
    """All collections of a linen module."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return jax.tree.map(put, drawn(np.random.default_rng(0), shapes))


def linen(module, x):
    """(apply, params) of a linen module; other collections are part of apply."""
    rest = dict(variables(module, x))
    params = rest.pop("params")
    return lambda params, x: module.apply({"params": params, **rest}, x), params


def nnx_model():
    graph, state = nnx.split(Nnx(nnx.Rngs(0)), nnx.Param)[:2]
    return lambda state, x: nnx.merge(graph, state)(x), state


def equinox_model():
    keys = jax.random.split(jax.random.key(0), 3)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 4, 3, padding=1, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(4 * 36, 12, key=keys[1]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Linear(12, 5, use_bias=False, key=keys[2]),
        ]
    )
    return lambda model, x: jax.vmap(model)(x), model


def raw_model():
    params = {
        "up": {"w": normal(2, 6, 16), "b": put(np.zeros(16, np.float32))},
        "down": [normal(3, 16, 5)],
    }
    return lambda p, x: jax.nn.relu(x @ p["up"]["w"] + p["up"]["b"][None]) @ p["down"][0], params


def normal(seed, *shape):
    return put(np.random.default_rng(seed).standard_normal(shape, np.float32))


def images(n=4, channels_last=True):
    return normal(1, n, 6, 6, 3) if channels_last else normal(1, n, 3, 6, 6)


def tokens(n=4):
    return put(np.random.default_rng(1).integers(16, size=(n, 7), dtype=np.int32))


def vectors(n=40):
    return normal(1, n, 6)


MODELS = {
    "linen MLP": (lambda: linen(MLP(), vectors()), vectors),
    "linen CNN": (lambda: linen(CNN(), images()), images),
    "linen transformer": (lambda: linen(Transformer(), tokens()), tokens),
    "NNX": (functools.cache(nnx_model), lambda n=3: normal(1, n, 9, 6)),
    "Equinox": (functools.cache(equinox_model), lambda n=4: images(n, channels_last=False)),
    "raw": (raw_model, vectors),
}


def seen_by_flax(module, params, rest, x):
    """Name of a module -> its inputs, by Flax's own interceptors, one entry for each call."""
    seen = {}

    def look(call, args, kwargs, context):
        if context.method_name == "__call__":
            seen.setdefault("/".join(context.module.path), []).append(args[0])
        return call(*args, **kwargs)

    with nn.intercept_methods(look):
        module.apply({"params": params, **rest}, x)
    return seen


def gram(x):
    """X^T X of inputs along the last axis, in float64."""
    x = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    return x.T @ x
