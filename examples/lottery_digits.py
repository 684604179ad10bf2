"""Lottery tickets on scikit-learn's digits, against both controls.

    python examples/lottery_digits.py             # 12 rounds, 5 seeds, under five minutes
    python examples/lottery_digits.py --quick     # a smoke test

Each round trains, prunes a fifth of what remains, all layers in one ranking, and rewinds to the
weights of an early step. A ticket has to beat the same weights under random masks, and other
weights under its own masks; both train for as many steps as the ticket. All seeds train side by
side, in one vmap.

A table and a plot (tickets.md, tickets.png) go to out/lottery_digits, and every round is saved
there: a run that was stopped goes on where it was.
"""

import argparse
import functools
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxprune
from jaxprune.analysis import plots

SIZES = (64, 300, 100, 10)
BATCH, RATE = 64, 2e-3


def load_data():
    """(train images, train labels), (test images, test labels)."""
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    x, test_x, y, test_y = train_test_split(
        images, labels, test_size=450, stratify=labels, random_state=0
    )
    return (jnp.array(x), jnp.array(y)), (jnp.array(test_x), jnp.array(test_y))


def init(key):
    """Three dense layers."""
    return {
        f"layer_{i}": {
            "kernel": jax.random.normal(jax.random.fold_in(key, i), (n, m)) * (2 / n) ** 0.5,
            "bias": jnp.zeros(m),
        }
        for i, (n, m) in enumerate(itertools.pairwise(SIZES))
    }


def logits(params, x):
    for i in range(3):
        x = x @ params[f"layer_{i}"]["kernel"] + params[f"layer_{i}"]["bias"][None]
        x = jax.nn.relu(x) if i < 2 else x
    return x


def loss(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


def make_run(data, steps, seeds):
    """`run(params, masks, begin, end)` for all seeds at once: (params, test accuracy)."""
    (x, y), (test_x, test_y) = data
    rate = optax.cosine_decay_schedule(RATE, steps)

    def one(params, masks, key, begin, end):
        tx = jaxprune.keep(optax.adam(lambda t: rate(t + begin)), masks)

        def step(carry, key):
            params, state = carry
            batch = jax.random.randint(key, (BATCH,), 0, len(x))
            grads = jax.grad(loss)(params, x[batch], y[batch])
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(key, steps)[begin:end]
        (params, _), _ = lax.scan(step, (params, tx.init(params)), keys)
        return params, (logits(params, test_x).argmax(-1) == test_y).mean()

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def run(params, masks, begin, end):
        keys = jax.random.split(jax.random.key(1), seeds)
        return jax.vmap(lambda p, m, k: one(p, m, k, begin, end))(params, masks, keys)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds, 40 steps: a smoke test")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/lottery_digits"))
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps, args.seeds = 2, 40, 2

    run = make_run(load_data(), args.steps, args.seeds)
    draw = jax.jit(jax.vmap(init))
    start = draw(jax.random.split(jax.random.key(0), args.seeds))
    ones = jax.vmap(lambda params: jaxprune.masks.make(params, 0.0))(start)
    early = args.steps // 20
    params, _ = run(start, ones, 0, early)  # the weights to rewind to

    def train_fn(params, masks, number):
        params, accuracy = run(params, masks, early, args.steps)
        return params, {"accuracy": accuracy}

    found = jaxprune.iterate.lottery_tickets(
        params,
        train_fn,
        rounds=args.rounds,
        replicates=True,
        directory=args.out / f"rounds_{args.steps}_{args.seeds}",
        progress=True,
    )
    controls = jaxprune.iterate.controls(
        jax.random.key(2),
        found,
        params,
        train_fn,
        init_fn=lambda key: draw(jax.random.split(key, args.seeds)),
        replicates=True,
        progress=True,
    )
    runs = {"ticket": found[1:], **controls}
    for name, rounds in runs.items():
        print(f"\n{name}\n{jaxprune.iterate.report(rounds)}")
    last = {name: rounds[-1].metrics["accuracy"].mean() for name, rounds in runs.items()}
    print(
        f"\nwith {100 * (1 - found[-1].sparsity):.1f} % of the weights: "
        + ", ".join(f"{name} {100 * value:.2f} %" for name, value in last.items())
    )
    lines = ["| weights left | ticket | random masks | random init |", "|---:|---:|---:|---:|"]
    for same in zip(*runs.values(), strict=True):
        cells = [f"{100 * one.metrics['accuracy'].mean():.2f} %" for one in same]
        lines.append(f"| {100 * (1 - same[0].sparsity):.1f} % | {' | '.join(cells)} |")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "tickets.md").write_text("\n".join(lines) + "\n")
    plots.tradeoff(
        {name: {r.sparsity: r.metrics["accuracy"] for r in one} for name, one in runs.items()},
        dense=found[0].metrics["accuracy"],
        log=True,
        path=args.out / "tickets.png",
    )
    print(f"a table and a plot are in {args.out}")


if __name__ == "__main__":
    main()
