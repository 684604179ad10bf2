"""Pruning a Flax NNX model to 90 %, with a dense one beside it: one line in the optimizer.

python examples/nnx_digits.py
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxprune
from jaxprune.analysis import plots


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.hidden_1 = nnx.Linear(64, 256, rngs=rngs)
        self.norm = nnx.LayerNorm(256, rngs=rngs)
        self.hidden_2 = nnx.Linear(256, 256, rngs=rngs)
        self.head = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.hidden_1(x)))
        return self.head(nnx.relu(self.hidden_2(x)))


@nnx.jit
def train_step(model, optimizer, x, y):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss_fn)(model))


def train(tx, steps, x, y):
    model = MLP(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    key = jax.random.key(1)
    for t in range(steps):
        batch = jax.random.randint(jax.random.fold_in(key, t), (64,), 0, len(x))
        train_step(model, optimizer, x[batch], y[batch])
    return model, optimizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=pathlib.Path, help="file for a plot of the layers")
    args = parser.parse_args()
    steps = args.steps
    data = train_test_split(*load_digits(return_X_y=True), random_state=0)
    x, x_test, y, y_test = map(jnp.array, data)

    dense, _ = train(optax.adamw(1e-3), steps, x / 16, y)
    sparsity = jaxprune.polynomial(0.9, begin=steps // 5, end=steps * 3 // 5)
    model, optimizer = train(jaxprune.prune(optax.adamw(1e-3), sparsity=sparsity), steps, x / 16, y)

    params = nnx.state(model, nnx.Param)
    found = jaxprune.summary(params, jaxprune.get_masks(optimizer))
    print(found)
    for name, one in (("dense", dense), ("sparse", model)):
        print(f"{name}: test accuracy {(one(x_test / 16).argmax(-1) == y_test).mean():.2%}")
    if args.out:
        plots.layers(found, path=args.out)


if __name__ == "__main__":
    main()
