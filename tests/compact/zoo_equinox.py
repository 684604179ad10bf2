"""Networks in Equinox: each takes one example, channels first."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from zoo_case import equinox_case, normal, tokens


def mlp(key):
    return eqx.nn.MLP(6, 5, width_size=16, depth=2, activation=jax.nn.gelu, key=key)


class CNN(eqx.Module):
    layers: list
    norm: eqx.nn.GroupNorm
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 5)
        self.layers = [
            eqx.nn.Conv2d(3, 8, 3, padding=1, key=keys[0]),
            eqx.nn.Conv2d(8, 14, 3, padding=1, key=keys[1]),
            eqx.nn.Conv2d(14, 8, 3, padding=1, key=keys[2]),
            eqx.nn.Conv2d(8, 16, 3, groups=8, padding=1, key=keys[3]),
        ]
        self.norm = eqx.nn.GroupNorm(4, 8)
        self.head = eqx.nn.Linear(16 * 16, 5, key=keys[4])

    def __call__(self, x):
        x = jax.nn.relu(self.layers[0](x))
        y = jax.nn.relu(self.layers[1](x))
        x = jax.nn.relu(self.norm(x + self.layers[2](y)))
        x = eqx.nn.MaxPool2d(2, 2)(jax.nn.relu(self.layers[3](x)))
        return self.head(jnp.ravel(x))


class Unet(eqx.Module):
    down: eqx.nn.Conv2d
    middle: eqx.nn.Conv2d
    up: eqx.nn.ConvTranspose2d
    last: eqx.nn.Conv2d

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.down = eqx.nn.Conv2d(3, 8, 3, padding=1, key=keys[0])
        self.middle = eqx.nn.Conv2d(8, 12, 2, stride=2, key=keys[1])
        self.up = eqx.nn.ConvTranspose2d(12, 10, 2, stride=2, key=keys[2])
        self.last = eqx.nn.Conv2d(18, 5, 1, key=keys[3])

    def __call__(self, x):
        fine = jax.nn.relu(self.down(x))
        x = jax.nn.relu(self.up(jax.nn.relu(self.middle(fine))))
        return self.last(jnp.concatenate([fine, x]))


class Encoder(eqx.Module):
    embed: eqx.nn.Embedding
    attention: eqx.nn.MultiheadAttention
    norms: list
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.embed = eqx.nn.Embedding(17, 12, key=keys[0])
        self.attention = eqx.nn.MultiheadAttention(3, 12, qk_size=8, vo_size=6, key=keys[1])
        self.norms = [eqx.nn.LayerNorm(12), eqx.nn.RMSNorm(12)]
        self.up = eqx.nn.Linear(12, 20, key=keys[2])
        self.down = eqx.nn.Linear(20, 12, key=keys[3])

    def __call__(self, x):
        x = jax.vmap(self.embed)(x)
        y = jax.vmap(self.norms[0])(x)
        x = x + self.attention(y, y, y)
        y = jax.vmap(self.norms[1])(x)
        return x + jax.vmap(self.down)(jax.nn.gelu(jax.vmap(self.up)(y)))


class GRU(eqx.Module):
    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.cell = eqx.nn.GRUCell(4, 8, key=keys[0])
        self.head = eqx.nn.Linear(8, 5, key=keys[1])

    def __call__(self, x):
        state, _ = lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(8), x)
        return self.head(state)


CASES = [
    equinox_case(mlp, normal(3, 6)),
    equinox_case(CNN, normal(2, 3, 8, 8)),
    equinox_case(Unet, normal(2, 3, 8, 8)),
    equinox_case(Encoder, tokens(17, 2, 5)),
    equinox_case(GRU, normal(2, 6, 4)),
]
