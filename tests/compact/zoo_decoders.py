"""Decoders of arrays and functions: each way to write attention and the layer after it."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from zoo_case import raw, tokens

WIDTH, HEADS, KV_HEADS, HEAD, HIDDEN, VOCABULARY, LENGTH = 12, 4, 2, 6, 20, 17, 5
FUSED = {"qkv": (WIDTH, 3 * HEADS * HEAD), "out": (HEADS * HEAD, WIDTH)}
GROUPED = {
    "q": (WIDTH, HEADS * HEAD),
    "k": (WIDTH, KV_HEADS * HEAD),
    "v": (WIDTH, KV_HEADS * HEAD),
    "out": (HEADS * HEAD, WIDTH),
}
MLP = {"up": (WIDTH, HIDDEN), "bias": (HIDDEN,), "down": (HIDDEN, WIDTH)}
GLU = {"up": (WIDTH, 2 * HIDDEN), "down": (HIDDEN, WIDTH)}
GLU_PAIR = {"gate": (WIDTH, HIDDEN), "up": (WIDTH, HIDDEN), "down": (HIDDEN, WIDTH)}


def decoder(attention, feed, p, x):
    """One layer; the table is looked up at the start and multiplied with at the end."""
    x = p["table"][x]
    if "positions" in p:
        x = x + p["positions"]
    x = layer(attention, feed, p["layer"], x)
    return rms_norm(p["norm"], x) @ p.get("head", p["table"].T)


def layer(attention, feed, p, x):
    x = x + attention(p["attention"], rms_norm(p["first"], x))
    return x + feed(p["feed"], rms_norm(p["second"], x))


def rms_norm(scale, x):
    return x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


def attend(q, k, v):
    """Of [batch, length, heads, head], causal; heads beside one another in the answer."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
    length = q.shape[1]
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    x = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
    return x.reshape(*x.shape[:2], -1)


def split(x, heads):
    return x.reshape(*x.shape[:2], heads, HEAD)


def fused(p, x):
    q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
    return attend(*(split(each, HEADS) for each in (q, k, v))) @ p["out"]


def fused_by_reshape(p, x):
    qkv = (x @ p["qkv"]).reshape(*x.shape[:2], 3, HEADS, HEAD)
    return attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]) @ p["out"]


def fused_by_head(p, x):
    """A query, a key and a value for each head in turn, as GPT-NeoX has them."""
    qkv = (x @ p["qkv"]).reshape(*x.shape[:2], HEADS, 3 * HEAD)
    return attend(*jnp.split(qkv, 3, axis=-1)) @ p["out"]


def by_library(p, x):
    qkv = (x @ p["qkv"]).reshape(*x.shape[:2], 3, HEADS, HEAD)
    x = jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0), is_causal=True)
    return x.reshape(*x.shape[:2], -1) @ p["out"]


def grouped_projections(p, x):
    heads = (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
    return [split(x @ p[name], number) for name, number in heads]


def grouped_by_repeat(p, x):
    q, k, v = grouped_projections(p, x)
    k, v = (jnp.repeat(each, HEADS // KV_HEADS, axis=2) for each in (k, v))
    return attend(q, k, v) @ p["out"]


def grouped_by_reshape(p, x):
    q, k, v = grouped_projections(p, x)
    q = q.reshape(*q.shape[:2], KV_HEADS, HEADS // KV_HEADS, HEAD)
    scores = jnp.einsum("bqgrd,bkgd->bgrqk", q, k) / jnp.sqrt(HEAD)
    x = jnp.einsum("bgrqk,bkgd->bqgrd", jax.nn.softmax(scores), v)
    return x.reshape(*x.shape[:2], -1) @ p["out"]


def grouped_by_library(p, x):
    x = jax.nn.dot_product_attention(*grouped_projections(p, x), is_causal=True)
    return x.reshape(*x.shape[:2], -1) @ p["out"]


def angles(length):
    """Cosines and sines, [length, 1, head / 2] each."""
    rate = 10_000.0 ** (-jnp.arange(0, HEAD, 2) / HEAD)
    turn = jnp.arange(length)[:, None, None] * rate
    return jnp.cos(turn), jnp.sin(turn)


def rotate_halves(x):
    cos, sin = angles(x.shape[1])
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def rotate_pairs(x):
    cos, sin = angles(x.shape[1])
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)


def rotary(rotate, p, x):
    q, k, v = grouped_projections(p, x)
    k, v = (jnp.repeat(each, HEADS // KV_HEADS, axis=2) for each in (rotate(k), v))
    return attend(rotate(q), k, v) @ p["out"]


def multi_query(p, x):
    """All heads share one key and one value (arXiv:1911.02150)."""
    q, k, v = split(x @ p["q"], HEADS), x @ p["k"], x @ p["v"]
    scores = jnp.einsum("bqhd,bkd->bhqk", q, k) / jnp.sqrt(HEAD)
    x = jnp.einsum("bhqk,bkd->bqhd", jax.nn.softmax(scores), v)
    return x.reshape(*x.shape[:2], -1) @ p["out"]


def latent(p, x):
    """Keys and values from one narrow vector (arXiv:2405.04434)."""
    narrow = rms_norm(p["norm"], x @ p["down"])
    k, v = jnp.split(narrow @ p["up"], 2, axis=-1)
    return attend(*(split(each, HEADS) for each in (x @ p["q"], k, v))) @ p["out"]


def normed_queries(p, x):
    """Queries and keys are normed in each head, as in Gemma 3."""
    q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
    q, k = (rms_norm(p[name], split(each, HEADS)) for name, each in (("a", q), ("b", k)))
    return attend(q, k, split(v, HEADS)) @ p["out"]


def mlp(p, x):
    return jax.nn.gelu(x @ p["up"] + p["bias"]) @ p["down"]


def glu(p, x):
    a, b = jnp.split(x @ p["up"], 2, axis=-1)
    return (jax.nn.silu(a) * b) @ p["down"]


def glu_pair(p, x):
    return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]


def shapes(attention, feed, **more):
    norms = {"first": (WIDTH,), "second": (WIDTH,)}
    own = {"layer": {"attention": attention, "feed": feed, **norms}}
    return {"table": (VOCABULARY, WIDTH), "norm": (WIDTH,), **own, **more}


def case(name, attention, of, feed, to, **more):
    def apply(p, x):
        return decoder(attention, feed, p, x)

    apply.__name__ = f"decoder {name}"
    return raw(apply, shapes(of, to, **more), tokens(VOCABULARY, 2, LENGTH))


def scan_over_layers(p, x):
    """A stack of three: memory is saved by computing each layer again."""

    @jax.checkpoint
    def body(x, p):
        return layer(fused, glu_pair, p, x), None

    x, _ = lax.scan(body, p["table"][x], p["layers"])
    return rms_norm(p["norm"], x) @ p["head"]


def unrolled(p, x):
    """Two layers, each its own arrays."""
    x = p["table"][x]
    for each in p["layers"]:
        x = layer(fused, mlp, each, x)
    return rms_norm(p["norm"], x) @ p["head"]


ONE = shapes(FUSED, GLU_PAIR)["layer"]
STACK = jax.tree.map(lambda shape: (3, *shape), ONE, is_leaf=lambda x: isinstance(x, tuple))
TABLES = {"table": (VOCABULARY, WIDTH), "norm": (WIDTH,), "head": (WIDTH, 5)}
HEAD_OF_ITS_OWN = {"head": (WIDTH, 9)}
LATENT = {
    "q": (WIDTH, HEADS * HEAD),
    "down": (WIDTH, 8),
    "norm": (8,),
    "up": (8, 2 * HEADS * HEAD),
    "out": (HEADS * HEAD, WIDTH),
}
MULTI_QUERY = GROUPED | {"k": (WIDTH, HEAD), "v": (WIDTH, HEAD)}
halves = functools.partial(rotary, rotate_halves)
pairs = functools.partial(rotary, rotate_pairs)
CASES = [
    case("fused", fused, FUSED, mlp, MLP, positions=(LENGTH, WIDTH)),
    case("fused by reshape", fused_by_reshape, FUSED, glu, GLU),
    case("fused by head", fused_by_head, FUSED, mlp, MLP, **HEAD_OF_ITS_OWN),
    case("library", by_library, FUSED, glu_pair, GLU_PAIR),
    case("grouped by repeat", grouped_by_repeat, GROUPED, glu, GLU, **HEAD_OF_ITS_OWN),
    case("grouped by reshape", grouped_by_reshape, GROUPED, mlp, MLP),
    case("grouped library", grouped_by_library, GROUPED, glu_pair, GLU_PAIR),
    case("rotary halves", halves, GROUPED, glu_pair, GLU_PAIR, **HEAD_OF_ITS_OWN),
    case("rotary pairs", pairs, GROUPED, glu, GLU),
    case("multi-query", multi_query, MULTI_QUERY, mlp, MLP),
    case("latent", latent, LATENT, mlp, MLP, **HEAD_OF_ITS_OWN),
    case("normed queries", normed_queries, FUSED | {"a": (HEAD,), "b": (HEAD,)}, mlp, MLP),
    raw(scan_over_layers, TABLES | {"layers": STACK}, tokens(VOCABULARY, 2, LENGTH)),
    raw(
        unrolled,
        TABLES | {"layers": [shapes(FUSED, MLP)["layer"]] * 2},
        tokens(VOCABULARY, 2, LENGTH),
    ),
]
