"""Networks of arrays and functions alone."""

import jax
import jax.numpy as jnp
from jax import lax
from zoo_case import normal, raw, tokens


def mlp(p, x):
    for layer in p[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ p[-1]["w"] + p[-1]["b"]


MLP = [
    {"w": (6, 16), "b": (16,)},
    {"w": (16, 12), "b": (12,)},
    {"w": (12, 5), "b": (5,)},
]


def cnn(p, x):
    """Channels first, as PyTorch has them."""
    for layer in p["convs"]:
        x = lax.conv_general_dilated(x, layer["w"], (1, 1), "SAME")
        x = (x - layer["mean"][:, None, None]) * layer["scale"][:, None, None]
        x = jax.nn.relu(x)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return x.reshape(len(x), -1) @ p["head"]


CNN = {
    "convs": [
        {"w": (8, 3, 3, 3), "mean": (8,), "scale": (8,)},
        {"w": (12, 8, 3, 3), "mean": (12,), "scale": (12,)},
    ],
    "head": (12 * 4, 5),
}


def lstm(p, x):
    """The gates are quarters of one kernel, which takes the input and the state together."""

    def step(carry, x):
        h, c = carry
        gates = jnp.concatenate([x, h], axis=-1) @ p["gates"] + p["bias"]
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((len(x), 8))
    _, h = lax.scan(step, (start, start), x.swapaxes(0, 1))
    return h.swapaxes(0, 1) @ p["head"]


LSTM = {"gates": (4 + 8, 4 * 8), "bias": (4 * 8,), "head": (8, 5)}


def mixture_of_experts(p, x):
    gate = jax.nn.softmax(x @ p["gate"])
    y = jax.nn.gelu(jnp.einsum("bi,eih->beh", x, p["up"]) + p["bias"])
    y = jnp.einsum("beh,eho->beo", y, p["down"])
    return jnp.einsum("be,beo->bo", gate, y) @ p["head"]


MIXTURE = {
    "gate": (6, 4),
    "up": (4, 6, 16),
    "bias": (4, 16),
    "down": (4, 16, 10),
    "head": (10, 5),
}


def bilinear(p, x, y):
    z = jnp.einsum("bi,ijk,bj->bk", jnp.tanh(x @ p["x"]), p["core"], jnp.tanh(y @ p["y"]))
    return z @ p["head"]


def low_rank(p, x, y):
    return jnp.einsum("br,br,ro->bo", x @ p["x"], y @ p["y"], p["out"])


def graph(p, adjacency, x):
    x = jax.nn.relu(adjacency @ x @ p[0])
    x = jax.nn.relu(adjacency @ x @ p[1])
    return (adjacency @ x).mean(1) @ p[2]


def split_paths(p, x):
    """Two halves of the channels go different ways and meet again."""
    x = jax.nn.relu(x @ p["in"])
    a, b = x[:, :6], x[:, 6:]
    x = jnp.concatenate([jnp.tanh(a) @ p["a"], b, jnp.square(a)], axis=-1)
    return x @ p["out"]


def repeated(p, x):
    """One block, three times, as a universal transformer has it."""
    x = x @ p["in"]
    for _ in range(3):
        x = x + jnp.tanh(x @ p["up"]) @ p["down"]
    return x @ p["out"]


def mixer(p, x):
    """Mixes tokens, then channels (arXiv:2105.01601)."""
    x = x @ p["in"]
    tokens = jax.nn.gelu(x.swapaxes(1, 2) @ p["token_up"]) @ p["token_down"]
    x = x + tokens.swapaxes(1, 2)
    x = x + jax.nn.gelu(x @ p["up"]) @ p["down"]
    return x.mean(1) @ p["out"]


MIXER = {
    "in": (3, 12),
    "token_up": (7, 10),
    "token_down": (10, 7),
    "up": (12, 20),
    "down": (20, 12),
    "out": (12, 5),
}


def bag_of_words(p, x):
    return jax.nn.relu(p["table"][x].mean(1) @ p["hidden"]) @ p["out"]


def pairwise_ratio(p, x):
    """Element by element, with each kind of arithmetic and a comparison."""
    a, b = x @ p["a"], x @ p["b"]
    x = jnp.where(a > b, a * b, a / (1.0 + b**2)) - jnp.maximum(a, b) ** 3
    return (lax.rsqrt(1.0 + x**2) * jnp.clip(x, -1.0, 1.0)) @ p["out"]


def stateful(p, x, h):
    """A step of a recurrent network that returns its state beside its answer."""
    h = jnp.tanh(x @ p["in"] + h @ p["recurrent"])
    return jax.nn.relu(h @ p["up"]) @ p["out"], h


CASES = [
    raw(mlp, MLP, normal(3, 6)),
    raw(cnn, CNN, normal(2, 3, 8, 8)),
    raw(lstm, LSTM, normal(2, 6, 4)),
    raw(mixture_of_experts, MIXTURE, normal(3, 6)),
    raw(
        bilinear,
        {"x": (6, 8), "y": (4, 12), "core": (8, 12, 10), "head": (10, 5)},
        normal(3, 6),
        normal(3, 4),
    ),
    raw(low_rank, {"x": (6, 12), "y": (4, 12), "out": (12, 5)}, normal(3, 6), normal(3, 4)),
    raw(graph, [(4, 8), (8, 12), (12, 5)], normal(2, 7, 7), normal(2, 7, 4)),
    raw(split_paths, {"in": (6, 14), "a": (6, 10), "out": (10 + 8 + 6, 5)}, normal(3, 6)),
    raw(repeated, {"in": (6, 8), "up": (8, 12), "down": (12, 8), "out": (8, 5)}, normal(3, 6)),
    raw(mixer, MIXER, normal(2, 7, 3)),
    raw(bag_of_words, {"table": (17, 8), "hidden": (8, 12), "out": (12, 5)}, tokens(17, 2, 6)),
    raw(pairwise_ratio, {"a": (6, 12), "b": (6, 12), "out": (12, 5)}, normal(3, 6)),
    raw(
        stateful,
        {"in": (6, 8), "recurrent": (8, 8), "up": (8, 12), "out": (12, 5)},
        normal(3, 6),
        normal(3, 8),
    ),
]
