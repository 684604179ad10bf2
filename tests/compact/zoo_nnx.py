"""Networks in Flax NNX."""

import jax
import jax.numpy as jnp
from flax import nnx
from zoo_case import nnx_case, normal, tokens


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(6, 16, rngs=rngs)
        self.b = nnx.Linear(16, 12, rngs=rngs)
        self.c = nnx.Linear(12, 5, rngs=rngs)

    def __call__(self, x):
        return self.c(nnx.gelu(self.b(nnx.relu(self.a(x)))))


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.wide = nnx.Conv(8, 14, (3, 3), use_bias=False, rngs=rngs)
        self.wide_norm = nnx.BatchNorm(14, rngs=rngs)
        self.narrow = nnx.Conv(14, 8, (3, 3), rngs=rngs)
        self.depthwise = nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=rngs)
        self.hidden = nnx.Linear(8 * 16, 10, rngs=rngs)
        self.head = nnx.Linear(10, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        x = x + self.narrow(nnx.relu(self.wide_norm(self.wide(x))))
        x = nnx.max_pool(nnx.relu(self.depthwise(x)), (2, 2), (2, 2))
        return self.head(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class Transformer(nnx.Module):
    """A causal decoder whose table is also its head."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(17, 12, rngs=rngs)
        self.positions = nnx.Param(jax.random.normal(rngs.params(), (5, 12)))
        self.norms = nnx.List([nnx.LayerNorm(12, rngs=rngs) for _ in range(2)])
        self.last = nnx.RMSNorm(12, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(3, 12, 24, decode=False, rngs=rngs)
        self.up = nnx.Linear(12, 20, rngs=rngs)
        self.down = nnx.Linear(20, 12, rngs=rngs)

    def __call__(self, x):
        mask = nnx.make_causal_mask(x)
        x = self.embed(x) + self.positions[...]
        x = x + self.attention(self.norms[0](x), mask=mask)
        x = x + self.down(nnx.gelu(self.up(self.norms[1](x))))
        return self.embed.attend(self.last(x))


class LSTM(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(4, 8, rngs=rngs))
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x)[:, -1])


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(12, rngs=rngs)
        self.up = nnx.Linear(12, 20, rngs=rngs)
        self.down = nnx.Linear(20, 12, rngs=rngs)

    def __call__(self, x):
        return x + self.down(nnx.relu(self.up(self.norm(x))))


class Scan(nnx.Module):
    """Layers made by `vmap` and run by `scan`."""

    def __init__(self, rngs):
        self.first = nnx.Linear(6, 12, rngs=rngs)
        self.layers = nnx.vmap(Layer)(rngs.split(3))
        self.last = nnx.Linear(12, 5, rngs=rngs)

    def __call__(self, x):
        run = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return jnp.tanh(self.last(run(self.first(x), self.layers)))


CASES = [
    nnx_case(MLP, normal(3, 6)),
    nnx_case(CNN, normal(2, 8, 8, 3)),
    nnx_case(Transformer, tokens(17, 2, 5)),
    nnx_case(LSTM, normal(2, 6, 4)),
    nnx_case(Scan, normal(3, 6)),
]
