"""Published transformers in Flax linen, with the layers and parameter counts of their papers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

PUBLISHED = {
    "vit_b16": 86_567_656,
    "gpt2": 124_439_808,
    "tiny_llama": 1_100_048_384,
}


def vit_b16(classes=1000):
    """ViT-B/16 (arXiv:2010.11929): learned positions and a class token, 224 to a side."""
    return VisionTransformer(classes=classes)


def gpt2():
    """GPT-2 small: one kernel for queries, keys and values, and the table for logits."""
    return GPT2()


def tiny_llama():
    """TinyLlama (arXiv:2401.02385): rotary, grouped queries, gated layers, a head of its own."""
    return Llama()


class VisionTransformer(nn.Module):
    """Of images [batch, height, width, 3]: logits."""

    classes: int
    patch: int = 16
    width: int = 768
    heads: int = 12
    depth: int = 12

    @nn.compact
    def __call__(self, x):
        sides = (self.patch, self.patch)
        x = nn.Conv(self.width, sides, strides=sides, padding="VALID")(x)
        x = x.reshape(len(x), -1, self.width)
        token = self.param("token", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        for _ in range(self.depth):
            attention = nn.MultiHeadDotProductAttention(self.heads)
            x = x + attention(nn.LayerNorm()(x))
            hidden = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)), approximate=False)
            x = x + nn.Dense(self.width)(hidden)
        return nn.Dense(self.classes)(nn.LayerNorm()(x)[:, 0])


class GPT2(nn.Module):
    """Of tokens [batch, length]: logits."""

    vocabulary: int = 50_257
    context: int = 1024
    width: int = 768
    heads: int = 12
    depth: int = 12

    @nn.compact
    def __call__(self, x):
        table, mask = nn.Embed(self.vocabulary, self.width), nn.make_causal_mask(x)
        positions = nn.Embed(self.context, self.width)(jnp.arange(x.shape[1]))
        x = table(x) + positions[None]
        for _ in range(self.depth):
            y = nn.LayerNorm(epsilon=1e-5)(x)
            qkv = jnp.split(nn.Dense(3 * self.width)(y), 3, axis=-1)
            y = nn.dot_product_attention(*(_heads(each, self.heads) for each in qkv), mask=mask)
            x = x + nn.Dense(self.width)(y.reshape(x.shape))
            y = nn.Dense(4 * self.width)(nn.LayerNorm(epsilon=1e-5)(x))
            x = x + nn.Dense(self.width)(nn.gelu(y))
        return table.attend(nn.LayerNorm(epsilon=1e-5)(x))


class Llama(nn.Module):
    """Of tokens [batch, length]: logits."""

    vocabulary: int = 32_000
    width: int = 2048
    heads: int = 32
    kv_heads: int = 4
    hidden: int = 5632
    depth: int = 22

    @nn.compact
    def __call__(self, x):
        head = self.width // self.heads
        x = nn.Embed(self.vocabulary, self.width)(x)
        for _ in range(self.depth):
            y = nn.RMSNorm(epsilon=1e-5)(x)
            q, k, v = (
                _heads(_linear(heads * head)(y), heads)
                for heads in (self.heads, self.kv_heads, self.kv_heads)
            )
            y = jax.nn.dot_product_attention(_rotated(q), _rotated(k), v, is_causal=True)
            x = x + _linear(self.width)(y.reshape(*x.shape[:2], -1))
            y = nn.RMSNorm(epsilon=1e-5)(x)
            x = x + _linear(self.width)(nn.silu(_linear(self.hidden)(y)) * _linear(self.hidden)(y))
        return _linear(self.vocabulary)(nn.RMSNorm(epsilon=1e-5)(x))


def _linear(features):
    return nn.Dense(features, use_bias=False)


def _heads(x, heads):
    return x.reshape(*x.shape[:2], heads, -1)


def _rotated(x):
    """Rotary positions (arXiv:2104.09864): halves of each head turn together."""
    head = x.shape[-1]
    rate = 10_000.0 ** (-jnp.arange(0, head, 2) / head)
    turn = (jnp.arange(x.shape[1])[:, None] * rate[None])[None, :, None]
    a, b = jnp.split(x, 2, axis=-1)
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
