"""Pruning an Equinox model to 90 %, with a dense one beside it: one line in the optimizer.

    python examples/equinox_digits.py
    python examples/equinox_digits.py --pattern nm  # 2:4, 50 %

Equinox weights are (out, in), so the groups of 2:4 lie along axis -1: NM(2, 4, axis=-1).
"""

import argparse
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxprune
from jaxprune.analysis import plots


def loss_fn(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()


def train(tx, steps, x, y):
    key_model, key_steps = jax.random.split(jax.random.key(0))
    model = eqx.nn.MLP(64, 10, width_size=256, depth=2, key=key_model)
    opt_state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, opt_state, key):
        batch = jax.random.randint(key, (64,), 0, len(x))
        grads = eqx.filter_grad(loss_fn)(model, x[batch], y[batch])
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, opt_state = tx.update(grads, opt_state, params)
        return eqx.apply_updates(model, updates), opt_state

    for t in range(steps):
        model, opt_state = step(model, opt_state, jax.random.fold_in(key_steps, t))
    return model, opt_state


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pattern", choices=("unstructured", "nm"), default="unstructured")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=pathlib.Path, help="file for a picture of a mask")
    args = parser.parse_args()
    data = train_test_split(*load_digits(return_X_y=True), random_state=0)
    x, x_test, y, y_test = map(jnp.array, data)
    x, x_test = x / 16, x_test / 16

    final, pattern = 0.9, jaxprune.Unstructured()
    if args.pattern == "nm":
        final, pattern = 0.5, jaxprune.NM(2, 4, axis=-1)
    sparsity = jaxprune.polynomial(final, begin=args.steps // 5, end=args.steps * 3 // 5)
    tx = jaxprune.prune(optax.adamw(1e-3), sparsity=sparsity, pattern=pattern)
    dense, _ = train(optax.adamw(1e-3), args.steps, x, y)
    model, opt_state = train(tx, args.steps, x, y)

    params = eqx.filter(model, eqx.is_inexact_array)
    masks = jaxprune.get_masks(opt_state)
    print(jaxprune.summary(params, masks))
    for name, one in (("dense", dense), ("sparse", model)):
        print(f"{name}: test accuracy {(jax.vmap(one)(x_test).argmax(-1) == y_test).mean():.2%}")
    if args.out:
        plots.mask(masks.layers[1].weight, name="layers/1/weight", pattern=pattern, path=args.out)


if __name__ == "__main__":
    main()
