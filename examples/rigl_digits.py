"""Sparse from the first step: static masks, SET and RigL on scikit-learn's digits.

    python examples/rigl_digits.py                    # 95 % of the weights are never there
    python examples/rigl_digits.py --sparsity 0.9
    python examples/rigl_digits.py --quick            # a smoke test

A Flax network trains three times from the same weights with the same batches. The training loop
is the same for all: the optimizer is what differs.
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxprune
from jaxprune.analysis import plots

BATCH = 64


class Network(nn.Module):
    """Three dense layers."""

    @nn.compact
    def __call__(self, x):
        for width in (300, 100):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)


def optimizers(sparsity, steps, key):
    """Name -> the optimizer, which is all that differs."""
    rate = optax.cosine_decay_schedule(2e-3, steps)
    how = {"sparsity": sparsity, "key": key, "when": jaxprune.every(20, end=steps * 3 // 4)}
    return {
        "dense": optax.adam(rate),
        "static": jaxprune.static(
            optax.adam(rate), sparsity=sparsity, score=jaxprune.scores.random(key)
        ),
        "SET": jaxprune.set_(optax.adam(rate), **how),
        "RigL": jaxprune.rigl(optax.adam(rate), **how),
    }


@jax.jit
def train_step(state, x, y):
    def loss(params):
        logits = state.apply_fn({"params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return state.apply_gradients(grads=jax.grad(loss)(state.params))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, 60 steps: a smoke test")
    parser.add_argument("--out", type=pathlib.Path, help="file for a picture of a mask")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.seeds = 60, 1

    images, labels = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(
        images.astype(np.float32) / 16, labels, test_size=450, stratify=labels, random_state=0
    )
    network, found = Network(), {}
    for seed in range(args.seeds):
        key = jax.random.key(seed)
        params = network.init(key, x[:1])["params"]
        order = np.random.default_rng(seed).integers(0, len(x), (args.steps, BATCH))
        for name, tx in optimizers(args.sparsity, args.steps, key).items():
            state = TrainState.create(apply_fn=network.apply, params=params, tx=tx)
            if name != "dense":  # so that the first forward pass is sparse, too
                masks = jaxprune.get_masks(state)
                state = state.replace(params=jaxprune.apply_masks(params, masks))
            for batch in tqdm(order, desc=f"seed {seed}, {name}", unit="step", leave=False):
                state = train_step(state, x[batch], y[batch])
            logits = network.apply({"params": state.params}, test_x)
            found.setdefault(name, []).append(float(jnp.mean(logits.argmax(-1) == test_y)))
            if name == "RigL" and seed == 0:
                rigl = jaxprune.get_masks(state)
                print(jaxprune.summary(state.params, rigl))
    print(f"\ntest accuracy, {100 * args.sparsity:g} % sparse, mean of {args.seeds} seeds (range)")
    for name, values in found.items():
        values = 100 * np.array(values)
        print(f"{name:8} {values.mean():.2f} % ({values.min():.2f} to {values.max():.2f})")
    if args.out:
        plots.mask(rigl["Dense_0"]["kernel"], name="Dense_0/kernel", path=args.out)


if __name__ == "__main__":
    main()
