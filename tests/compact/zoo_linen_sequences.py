"""Transformers and recurrent networks in Flax linen."""

import flax.linen as nn
import jax.numpy as jnp
from zoo_case import linen, normal, tokens


def _attention(x, context=None, mask=None):
    attention = nn.MultiHeadDotProductAttention(3, qkv_features=24)
    return attention(x, x if context is None else context, mask=mask)


def _mlp(x, width=20):
    return nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(width)(x)))


def _positions(x):
    table = nn.Embed(x.shape[1], x.shape[2], name="positions")
    return x + table(jnp.arange(x.shape[1]))[None]


def encoder(x):
    x = nn.LayerNorm()(_positions(nn.Embed(17, 12)(x)))
    for width in (20, 16):  # norms come after, as in BERT
        x = nn.LayerNorm()(x + _attention(x))
        x = nn.LayerNorm()(x + _mlp(x, width))
    return nn.Dense(5)(nn.tanh(nn.Dense(14)(x[:, 0])))


def decoder(x):
    mask, embed = nn.make_causal_mask(x), nn.Embed(17, 12)
    x = _positions(embed(x))
    x = x + _attention(nn.LayerNorm()(x), mask=mask)
    x = x + _mlp(nn.LayerNorm()(x))
    return embed.attend(nn.LayerNorm()(x))


def encoder_decoder(source, target):
    source, x = nn.Embed(17, 10)(source), nn.Embed(13, 12)(target)
    source = source + _mlp(nn.LayerNorm()(source), 16)
    x = x + _attention(nn.LayerNorm()(x), source)
    return nn.Dense(13)(nn.LayerNorm()(x + _mlp(x)))


class ClassToken(nn.Module):
    @nn.compact
    def __call__(self, x):
        shape = (1, 1, x.shape[-1])
        token = self.param("token", nn.initializers.normal(), shape)
        return jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)


def vision_transformer(x):
    x = nn.Conv(12, (4, 4), strides=4, padding="VALID")(x)
    x = _positions(ClassToken()(x.reshape(len(x), -1, 12)))
    x = x + _attention(nn.LayerNorm()(x))
    x = x + _mlp(nn.LayerNorm()(x))
    return nn.Dense(5)(nn.LayerNorm()(x)[:, 0])


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x = x + _attention(nn.LayerNorm()(x))
        return x + _mlp(nn.LayerNorm()(x)), None


def scan_over_layers(x):
    stack = nn.scan(
        nn.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
    )
    x, _ = stack()(nn.Embed(17, 12)(x), None)
    return nn.Dense(5)(x)


def lstm(x):
    x = nn.RNN(nn.LSTMCell(8))(x)
    return nn.Dense(5)(nn.relu(nn.Dense(12)(x)))


def optimized_lstm(x):
    x = nn.RNN(nn.OptimizedLSTMCell(8))(x)
    x = nn.RNN(nn.OptimizedLSTMCell(12))(x)
    return nn.Dense(5)(x[:, -1])


def gru(x):
    x = nn.RNN(nn.GRUCell(8))(x)
    return nn.Dense(5)(x)


def simple_cell_both_ways(x):
    x = nn.Bidirectional(nn.RNN(nn.SimpleCell(8)), nn.RNN(nn.SimpleCell(10)))(x)
    return nn.Dense(5)(x)


def conv_lstm(x):
    x = nn.RNN(nn.ConvLSTMCell(6, (3, 3)))(x)
    return nn.Conv(3, (1, 1))(x[:, -1])


TOKENS = tokens(17, 2, 5)
SERIES = normal(2, 6, 4)
CASES = [
    linen(encoder, TOKENS),
    linen(decoder, TOKENS),
    linen(encoder_decoder, TOKENS, tokens(13, 2, 7)),
    linen(vision_transformer, normal(2, 8, 8, 3)),
    linen(scan_over_layers, TOKENS),
    linen(lstm, SERIES),
    linen(optimized_lstm, SERIES),
    linen(gru, SERIES),
    linen(simple_cell_both_ways, SERIES),
    linen(conv_lstm, normal(2, 4, 5, 5, 3)),
]
