"""Pruning is one line: an MLP of plain arrays learns digits and loses 90 % of its weights.

python examples/raw_pytree.py
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxprune
from jaxprune.analysis import plots


def loss_fn(p, x, y):
    hidden = jax.nn.relu(x @ p["w1"] + p["b1"])
    logits = hidden @ p["w2"] + p["b2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits


def main(steps, out):
    data = train_test_split(*load_digits(return_X_y=True), random_state=0)
    x, x_test, y, y_test = map(jnp.array, data)
    k1, k2, key = jax.random.split(jax.random.key(0), 3)
    w1, w2 = jax.random.normal(k1, (64, 512)) / 64, jax.random.normal(k2, (512, 10)) / 16
    params = {"w1": w1, "b1": jnp.zeros(512), "w2": w2, "b2": jnp.zeros(10)}

    sparsity = jaxprune.polynomial(0.9, begin=steps // 5, end=steps * 3 // 5)
    tx = jaxprune.prune(optax.adamw(1e-3), sparsity=sparsity)  # the one line
    state = tx.init(params)

    @jax.jit
    def step(params, state, key):
        batch = jax.random.randint(key, (64,), 0, len(x))
        grads, _ = jax.grad(loss_fn, has_aux=True)(params, x[batch], y[batch])
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for t in range(steps):
        params, state = step(params, state, jax.random.fold_in(key, t))
    masks = jaxprune.get_masks(state)
    print(jaxprune.summary(params, masks))
    print(f"test accuracy {(loss_fn(params, x_test, y_test)[1].argmax(-1) == y_test).mean():.2%}")
    if out:
        plots.mask(masks["w1"], name="w1", path=out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=pathlib.Path, help="file for a picture of a mask")
    main(**vars(parser.parse_args()))
