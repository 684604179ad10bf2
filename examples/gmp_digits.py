"""Gradual magnitude pruning of a small convolutional network, with a dense baseline beside it.

    python examples/gmp_digits.py                                # 90 % of the weights, per layer
    python examples/gmp_digits.py --scope global                 # all layers in one ranking
    python examples/gmp_digits.py --pattern nm                   # 2:4, so 50 %
    python examples/gmp_digits.py --pattern block --sparsity 0.8

The data are scikit-learn's digits, 1 797 images of 8 x 8, split once with a fixed seed (1 077 to
train, 270 to validate, 450 to test, each class in proportion). A run's seed sets its weights, its
batches and its augmentation. Both networks train from scratch for the same steps, with the same
learning rates and weight decay; pruning is the one difference. Hyperparameters were chosen on
validation accuracy, with little search.

Tables (results.md, results.json) and plots (sparsity.png, layers.png) go to out/gmp_digits.
"""

import argparse
import functools
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxprune
from jaxprune.analysis import plots

SPLIT_SEED = 0
BATCH = 64
PATTERNS = {
    "unstructured": jaxprune.Unstructured(),
    "nm": jaxprune.NM(2, 4),
    "block": jaxprune.Block((4, 4)),
}
# The first convolution stays dense, as is usual: it has few weights, and its one input channel is
# not divisible by 4, for 2:4. Biases and norms are dense by default.
RULES = (jaxprune.Rule("stem/.*", dense=True),)


class Residual(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x))))))."""

    @nn.compact
    def __call__(self, x):
        y = x
        for name in ("a", "b"):
            y = nn.relu(nn.LayerNorm(name=f"norm_{name}")(y))
            y = nn.Conv(x.shape[-1], (3, 3), name=f"conv_{name}")(y)
        return x + y


class Network(nn.Module):
    """A residual network of about 170 000 weights."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(32, (3, 3), name="stem")(x)
        x = nn.Conv(64, (3, 3), strides=2, name="down")(nn.relu(x))
        x = Residual(name="block_1")(x)
        x = Residual(name="block_2")(x)
        x = nn.relu(nn.LayerNorm(name="norm")(x))
        return nn.Dense(10, name="head")(x.mean((1, 2)))


def load_data():
    """{"train": (images, labels), "validation": ..., "test": ...}, always the same split."""
    digits = load_digits()
    images = digits.images[..., None].astype(np.float32) / 16
    labels = digits.target.astype(np.int32)
    split = functools.partial(train_test_split, random_state=SPLIT_SEED)
    rest, test = split(np.arange(len(labels)), test_size=450, stratify=labels)
    train, validation = split(rest, test_size=270, stratify=labels[rest])
    parts = {"train": train, "validation": validation, "test": test}
    return {name: (jnp.array(images[i]), jnp.array(labels[i])) for name, i in parts.items()}


def random_shift(key, images):
    """Moves each image by at most one pixel along each axis."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 3)
    crop = lambda image, at: lax.dynamic_slice(image, (*at, 0), images.shape[1:])  # noqa: E731
    return jax.vmap(crop)(padded, corners)


@jax.jit
def init(key):
    return Network().init(key, jnp.zeros((1, 8, 8, 1)))["params"]


@jax.jit
def accuracy(params, images, labels):
    return (Network().apply({"params": params}, images).argmax(-1) == labels).mean()


def make_step(tx):
    """The training step: nothing in it knows of pruning. Compiled once for all seeds."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, key, images, labels):
        params, opt_state = state
        key_batch, key_shift = jax.random.split(key)
        batch = jax.random.randint(key_batch, (BATCH,), 0, len(labels))

        def loss_fn(params):
            logits = Network().apply({"params": params}, random_shift(key_shift, images[batch]))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch])
            return losses.mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    return step


def train(tx, step, recipe, data, seed, bar, *, pruned):
    """One run: its final state, its test accuracy, and its history on the validation images."""
    key_init, key_steps = jax.random.split(jax.random.key(seed))
    params = init(key_init)
    state = params, tx.init(params)
    history = {"step": [], "validation": [], "sparsity": []}
    regular = max(recipe.total_steps // 80, 1)
    for t in range(recipe.total_steps):
        state, loss = step(state, jax.random.fold_in(key_steps, t), *data["train"])
        last = t == recipe.total_steps - 1
        if (t + 1) % regular == 0 or last or (pruned and jaxprune.masks_changed(state[1])):
            masks = jaxprune.get_masks(state[1]) if pruned else None
            history["step"].append(t)
            history["validation"].append(float(accuracy(state[0], *data["validation"])))
            history["sparsity"].append(1 - jaxprune.masks.density(masks))
            bar.set_postfix_str(
                f"loss {loss:.3f}, validation {100 * history['validation'][-1]:.1f} %, "
                f"sparsity {100 * history['sparsity'][-1]:.1f} %"
            )
        bar.update()
    return state, float(accuracy(state[0], *data["test"])), history


def result_of(state, test, history, *, pruned):
    """What is written about one run."""
    params, opt_state = state
    masks = jaxprune.get_masks(opt_state) if pruned else jax.tree.map(lambda _: None, params)
    found = jaxprune.summary(params, masks)
    return {
        "test": test,
        "sparsity": found.prunable.sparsity,
        "model_sparsity": found.model.sparsity,
        "nonzero": found.model.nonzero,
        "layers": {
            r.path: {"size": r.size, "kept": r.kept, "nonzero": r.nonzero} for r in found.rows
        },
        "history": history,
    }


def comparison(results):
    """Rows of the final table, dense beside sparse."""
    percent = "{:.2f} %".format
    rows = [["", *results]]
    for seed in range(len(results["dense"])):
        rows.append([f"test accuracy, seed {seed}"])
        rows[-1] += [percent(100 * runs[seed]["test"]) for runs in results.values()]
    for label, key in (
        ("test accuracy, mean", "test"),
        ("sparsity, prunable weights", "sparsity"),
        ("sparsity, whole model", "model_sparsity"),
    ):
        rows.append([label, *(percent(100 * mean(runs, key)) for runs in results.values())])
    rows.append(["non-zero parameters"])
    rows[-1] += [f"{round(mean(runs, 'nonzero')):,}" for runs in results.values()]
    return rows


def history(results, key):
    """For the plot: dense and sparse, each with its own steps; all seeds."""
    return {
        name: (runs[0]["history"]["step"], [run["history"][key] for run in runs])
        for name, runs in results.items()
    }


def mean(runs, key):
    return float(np.mean([run[key] for run in runs]))


def verdict(results):
    """Whether pruning cost more than a point, either way."""
    dense, sparse = (100 * mean(results[name], "test") for name in ("dense", "sparse"))
    within = "within" if dense - sparse <= 1 else "NOT within"
    return f"sparse is {within} 1 point of dense: {sparse:.2f} % against {dense:.2f} % on average"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scope", choices=("leaf", "global"), default="leaf")
    parser.add_argument("--pattern", choices=PATTERNS, default="unstructured")
    parser.add_argument("--sparsity", type=float, help="default: 0.9, and 0.5 for nm")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--quick", action="store_true", help="one seed, 40 steps: a smoke test")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/gmp_digits"))
    args = parser.parse_args()
    if args.sparsity is None:
        args.sparsity = 0.5 if args.pattern == "nm" else 0.9
    if args.quick:
        args.steps, args.seeds = 40, 1

    recipe = jaxprune.recipes.gmp(
        args.steps,
        sparsity=args.sparsity,
        learning_rate=3e-3,
        weight_decay=0.1,
        stabilize=0.25,
        prune=0.45,
        events=12,
        warmup=args.steps // 20,
    )
    how = {
        "sparsity": recipe.sparsity,
        "when": recipe.when,
        "pattern": PATTERNS[args.pattern],
        "scope": args.scope,
        "rules": RULES,
    }
    optimizer = optax.adamw(recipe.learning_rate, weight_decay=recipe.weight_decay)
    pruner = jaxprune.prune(optimizer, **how)

    data, results = load_data(), {}
    shapes = jax.eval_shape(init, jax.random.key(0))
    print(f"{recipe}\n\n{jaxprune.plan(shapes, **how)}")
    with tqdm(total=2 * args.seeds * args.steps, unit="step") as bar:
        for name, tx in (("dense", optimizer), ("sparse", pruner)):
            step, results[name] = make_step(tx), []
            for seed in range(args.seeds):
                bar.set_description(f"{name}, seed {seed}")
                pruned = name == "sparse"
                run = train(tx, step, recipe, data, seed, bar, pruned=pruned)
                results[name].append(result_of(*run, pruned=pruned))

    (params, opt_state), *_ = run
    found = jaxprune.summary(params, jaxprune.get_masks(opt_state))
    print(f"\nThe last sparse network:\n{found}")
    rows, sentence = comparison(results), verdict(results)
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row, end_section="mean" in row[0])
    Console().print(table)
    print(sentence)

    args.out.mkdir(parents=True, exist_ok=True)
    config = {key: str(x) if isinstance(x, pathlib.Path) else x for key, x in vars(args).items()}
    content = {"config": config, "verdict": sentence, "runs": results}
    (args.out / "results.json").write_text(json.dumps(content, indent=1))
    rows.insert(1, ["---", "---:", "---:"])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    (args.out / "results.md").write_text("\n".join([*lines, "", sentence, ""]))
    plots.training(
        results["dense"][0]["history"]["step"],
        history(results, "sparsity"),
        {"validation accuracy": history(results, "validation")},
        stages=recipe.stages,
        path=args.out / "sparsity.png",
    )
    plots.layers(found, path=args.out / "layers.png")
    print(f"tables and plots are in {args.out}")


if __name__ == "__main__":
    main()
