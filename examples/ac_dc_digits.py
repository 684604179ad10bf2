"""AC/DC on scikit-learn's digits: one run gives a dense and a sparse network.

    python examples/ac_dc_digits.py                   # 90 % sparse in turn with dense
    python examples/ac_dc_digits.py --quick           # a smoke test

A Flax NNX network trains in phases: all layers in one ranking, compressed, decompressed, and so
on. The dense network is what is there before the last compression.
"""

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxprune
from jaxprune.analysis import plots

BATCH = 64


class Network(nnx.Module):
    """Three dense layers."""

    def __init__(self, rngs):
        self.a = nnx.Linear(64, 300, rngs=rngs)
        self.b = nnx.Linear(300, 100, rngs=rngs)
        self.head = nnx.Linear(100, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.b(nnx.relu(self.a(x)))))


@nnx.jit
def train_step(network, optimizer, x, y):
    def loss(network):
        return optax.softmax_cross_entropy_with_integer_labels(network(x), y).mean()

    optimizer.update(network, nnx.grad(loss)(network))


@nnx.jit
def accuracy(network, x, y):
    return jnp.mean(network(x).argmax(-1) == y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--quick", action="store_true", help="120 steps: a smoke test")
    parser.add_argument("--out", type=pathlib.Path, help="file for a plot of the run")
    args = parser.parse_args()
    steps = 120 if args.quick else args.steps

    images, labels = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(
        images.astype(np.float32) / 16, labels, test_size=450, stratify=labels, random_state=0
    )
    phases = jaxprune.ac_dc(
        args.sparsity,
        begin=steps // 8,
        end=steps * 3 // 4,
        sparse=steps // 16,
        dense=steps // 16,
    )
    network = Network(nnx.Rngs(0))
    # A warm restart with the last compression: the sparse network is fine-tuned as the dense was.
    rate = optax.join_schedules(
        [optax.cosine_decay_schedule(2e-3, phases.end), optax.cosine_decay_schedule(1e-3, steps)],
        [phases.end],
    )
    tx = jaxprune.prune(optax.adam(rate), sparsity=phases, scope="global")
    optimizer = nnx.Optimizer(network, tx, wrt=nnx.Param)
    history = []
    order = np.random.default_rng(0).integers(0, len(x), (steps, BATCH))
    for t, batch in enumerate(tqdm(order, unit="step")):
        if t == phases.end:
            dense = float(accuracy(network, test_x, test_y))
        train_step(network, optimizer, x[batch], y[batch])
        if t % max(steps // 240, 1) == 0:
            history.append((t, float(accuracy(network, test_x, test_y))))
    masks = jaxprune.get_masks(optimizer)
    print(jaxprune.summary(nnx.state(network, nnx.Param), masks))
    density = jaxprune.masks.density(masks)
    print(f"dense, before the last compression: {100 * dense:.2f} % of the test images")
    print(
        f"sparse, at the end, with {100 * density:.1f} % of the weights: "
        f"{100 * float(accuracy(network, test_x, test_y)):.2f} %"
    )
    if args.out:
        at, values = zip(*history, strict=True)
        plots.training(at, phases, {"test accuracy": values}, path=args.out)


if __name__ == "__main__":
    main()
