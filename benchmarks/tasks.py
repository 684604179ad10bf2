"""Two small tasks on real data: scikit-learn's digits, and the standard library's own sources."""

import pathlib
import sysconfig

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Digits:
    """A network of three layers, 64-300-100-10, on scikit-learn's digits; accuracy in %."""

    unit, steps, rate, batch = "test accuracy, %", 480, 2e-3, 64

    def __init__(self):
        images, labels = load_digits(return_X_y=True)
        split = train_test_split(
            images.astype(np.float32) / 16, labels, test_size=450, stratify=labels, random_state=0
        )
        self.x, self.test_x, self.y, self.test_y = map(jnp.asarray, split)

    def init(self, key):
        sizes = (64, 300, 100, 10)
        keys = jax.random.split(key, 3)
        return {
            f"layer_{i}": {
                "kernel": jax.random.normal(k, (n, m)) * (2 / n) ** 0.5,
                "bias": jnp.zeros(m),
            }
            for i, (k, n, m) in enumerate(zip(keys, sizes[:-1], sizes[1:], strict=True))
        }

    def logits(self, params, x):
        for i in range(3):
            layer = params[f"layer_{i}"]
            x = x @ layer["kernel"] + layer["bias"][None]
            x = jax.nn.relu(x) if i < 2 else x
        return x

    def loss(self, params, batch):
        x, y = batch
        return optax.softmax_cross_entropy_with_integer_labels(self.logits(params, x), y).mean()

    def sample(self, key):
        i = jax.random.randint(key, (self.batch,), 0, len(self.x))
        return self.x[i], self.y[i]

    def evaluate(self, params):
        return 100 * jnp.mean(self.logits(params, self.test_x).argmax(-1) == self.test_y)


class Text:
    """A decoder of two blocks on the standard library's sources; loss in bits per byte."""

    unit, steps, rate, batch = "bits per byte", 300, 3e-3, 16
    width, heads, context, blocks = 64, 4, 48, 2

    def __init__(self):
        root = pathlib.Path(sysconfig.get_path("stdlib"))
        names = ("email", "json", "http", "logging", "unittest", "xml", "asyncio", "concurrent")
        files = sorted(file for name in names for file in (root / name).rglob("*.py"))
        data = np.frombuffer(b"".join(file.read_bytes() for file in files), np.uint8)
        data = np.minimum(data, 127)
        cut = len(data) * 9 // 10
        self.data = jnp.asarray(data[:cut])
        rest = data[cut:]
        rest = rest[: len(rest) // (self.context + 1) * (self.context + 1)]
        self.test = jnp.asarray(rest.reshape(-1, self.context + 1)[::4][:512])

    def init(self, key):
        d = self.width
        keys = iter(jax.random.split(key, 2 + 4 * self.blocks))

        def kernel(n, m):
            return {"kernel": jax.random.normal(next(keys), (n, m)) / n**0.5}

        params = {
            "embedding": jax.random.normal(next(keys), (128, d)) * 0.5,
            "position": jnp.zeros((self.context, d)),
            "head": kernel(d, 128),
        }
        for i in range(self.blocks):
            params[f"block_{i}"] = {
                "qkv": kernel(d, 3 * d),
                "out": kernel(d, d),
                "up": kernel(d, 4 * d),
                "down": kernel(4 * d, d),
            }
        return params

    def logits(self, params, tokens):
        x = params["embedding"][tokens] + params["position"][None]
        seen = jnp.tril(jnp.ones((self.context, self.context), bool))[None, None]
        for i in range(self.blocks):
            p = params[f"block_{i}"]
            qkv = (_norm(x) @ p["qkv"]["kernel"]).reshape(*x.shape[:2], 3, self.heads, -1)
            q, k, v = jnp.moveaxis(qkv, 2, 0)
            pairs = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
            weights = jax.nn.softmax(jnp.where(seen, pairs, -1e9))
            mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
            x = x + mixed @ p["out"]["kernel"]
            x = x + jax.nn.gelu(_norm(x) @ p["up"]["kernel"]) @ p["down"]["kernel"]
        return _norm(x) @ params["head"]["kernel"]

    def loss(self, params, batch):
        logits = self.logits(params, batch[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()

    def sample(self, key):
        first = jax.random.randint(key, (self.batch, 1), 0, len(self.data) - self.context - 1)
        return self.data[first + jnp.arange(self.context + 1)[None]].astype(jnp.int32)

    def evaluate(self, params):
        return self.loss(params, self.test.astype(jnp.int32)) / jnp.log(2.0)


def _norm(x):
    return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-5)


def fit(task, tx, params, key, steps):
    """Params and state after so many steps, in one program."""

    def step(carry, key):
        params, state = carry
        grads = jax.grad(task.loss)(params, task.sample(key))
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    return lax.scan(step, (params, tx.init(params)), jax.random.split(key, steps))[0]
