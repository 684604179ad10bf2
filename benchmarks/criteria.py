"""Which criterion prunes best: gradual and one-shot, on digits and on text, three seeds.

python -m benchmarks.criteria [--task digits|text] [--quick] [--out FILE]

Gradual: a trained network is pruned by a cubic schedule over 60 % of a second run, and fine-tuned
for the rest. One-shot: the same trained network is pruned at once and not trained again. Everything
but one argument, the criterion (or scope, or allocation), is the same.
"""

import argparse
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console

import jaxprune as jp
from benchmarks.studies import Size, cells, each, each_at, gather
from benchmarks.tables import markdown, table
from benchmarks.tasks import Digits, Text, fit

FULL = Size(seeds=3, levels=(0.8, 0.9, 0.95, 0.98))
QUICK = Size(seeds=1, levels=(0.9,), shorter=20)


def methods(key):
    """Name -> what differs."""
    scores = jp.scores
    return {
        "random": {"score": scores.random(key)},
        "magnitude": {},
        "magnitude, global": {"scope": "global"},
        "magnitude, ERK": {"allocate": jp.allocate.erdos_renyi_kernel},
        "LAMP": {"score": scores.lamp, "scope": "global"},
        "saliency": {"score": scores.accumulated_saliency(0.9), "scope": "global"},
        "movement": {"score": scores.movement},
        "OBD": {"score": scores.obd(), "scope": "global"},
        "OBS": {"score": scores.obs(32, damp=1e-7, window=24), "scope": "global"},
    }


def train_dense(task, steps, seeds=FULL.seeds):
    """The trained networks, one for each seed, stacked."""

    def run(key):
        init, order = jax.random.split(key)
        rate = optax.cosine_decay_schedule(task.rate, steps)
        return fit(task, optax.adam(rate), task.init(init), order, steps)[0]

    return each(run, jax.random.split(jax.random.key(0), seeds))


def prune_gradually(task, dense, name, steps, levels=FULL.levels):
    """The metric [levels, seeds] after pruning while training, by the method of that name."""
    ramp = functools.partial(jp.polynomial, begin=steps // 10, end=steps * 7 // 10)

    def run(params, key, drawn, level):
        rate = optax.cosine_decay_schedule(task.rate / 2, steps)
        tx = jp.prune(
            optax.adam(rate),
            sparsity=ramp(level),
            when=jp.every(max(steps // 12, 1)),
            **methods(drawn)[name],
        )
        params, state = fit(task, tx, params, key, steps)
        kept = [m.sum() for m in jax.tree.leaves(jp.get_masks(state))]
        return task.evaluate(params), sum(kept)

    seeds = count_of(dense)
    own = dense, jax.random.split(jax.random.key(1), seeds), draws(seeds)
    if "allocate" in methods(own[2][0])[name]:  # solved on the host
        found = [each(functools.partial(run, level=level), *own) for level in levels]
        return [np.stack(x) for x in zip(*found, strict=True)]
    return [np.asarray(x) for x in each_at(run, jnp.asarray(levels), *own)]


def prune_at_once(task, dense, name, number, levels=FULL.levels):
    """The metric [levels, seeds] of the trained networks, pruned and not trained again.

    Each seed has so many batches of its own.
    """
    values = np.zeros((len(levels), count_of(dense)))
    kept = np.zeros(values.shape, int)
    evaluate = jax.jit(task.evaluate)
    batches = calibration(task, count_of(dense), number)
    for seed, drawn in enumerate(draws(count_of(dense))):
        params = jax.tree.map(lambda x: x[seed], dense)  # noqa: B023
        options = {"loss": task.loss, "batches": batches[seed], "per_example": True}
        for i, level in enumerate(levels):
            pruned, masks = jp.prune_params(params, level, **options, **methods(drawn)[name])
            values[i, seed] = evaluate(pruned)
            kept[i, seed] = sum(int(m.sum()) for m in jax.tree.leaves(masks))
    return values, kept


def draws(seeds):
    """A key for each seed, for methods that draw."""
    return jax.random.split(jax.random.key(3), seeds)


def calibration(task, seeds, number):
    """So many batches for each seed."""
    keys = jax.random.split(jax.random.key(2), (seeds, number))
    return [[task.sample(key) for key in of_seed] for of_seed in keys]


def count_of(dense):
    """The number of seeds that networks were trained with."""
    return len(jax.tree.leaves(dense)[0])


def units(task, size=FULL):
    """Name -> a function that gives rows: a method, in one of the two ways, at all levels."""
    steps = task.steps // size.shorter
    trained = functools.cache(lambda: train_dense(task, 2 * steps, size.seeds))
    number = max(16 // size.shorter, 2)

    def dense():
        values = np.asarray(jax.jit(jax.vmap(task.evaluate))(trained()))
        return [{"method": "dense", "how": "", "0.0": values.tolist()}]

    def gradual(name):
        return rows(name, "gradual", prune_gradually(task, trained(), name, steps, size.levels)[0])

    def one_shot(name):
        return rows(name, "one-shot", prune_at_once(task, trained(), name, number, size.levels)[0])

    def rows(name, kind, values):
        found = {str(s): v.tolist() for s, v in zip(size.levels, values, strict=True)}
        return [{"method": name, "how": kind} | found]

    found = {"dense": dense}
    for name in methods(jax.random.key(0)):
        found[f"{name}, gradual"] = functools.partial(gradual, name)
        found[f"{name}, one-shot"] = functools.partial(one_shot, name)
    return found


def fit_of(task):
    """How well the trained network of the first seed fits its data: rows of a table."""
    params = jax.tree.map(lambda x: x[0], train_dense(task, 2 * task.steps))
    batches = [task.sample(key) for key in jax.random.split(jax.random.key(4), 2048 // task.batch)]
    alone = jax.tree.map(lambda *x: jnp.concatenate(x)[:, None], *batches)
    gradient = lambda example: jax.grad(task.loss)(params, example)  # noqa: E731
    square = jax.jit(lambda example: optax.tree.norm(gradient(example), squared=True))
    traces = lax.map(square, alone)
    traces = np.sort(traces)[::-1]
    top = traces[: len(traces) // 100].sum() / traces.sum()
    loss = np.mean([task.loss(params, batch) for batch in batches])
    return [{"training loss": float(loss), "1 % of examples have of the Fisher trace": float(top)}]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=("digits", "text"))
    parser.add_argument("--fit", action="store_true", help="how well the trained networks fit")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/criteria.json"))
    args = parser.parse_args()
    tasks = {"digits": Digits, "text": Text}
    results = {}
    for name in [args.task] if args.task else tasks:
        task = tasks[name]()
        if args.fit:
            Console().print(table(f"{name}: the trained network", fit_of(task)))
            continue
        size = QUICK if args.quick else FULL
        results[name] = gather(units(task, size))
        title = f"{name}: {task.unit}, mean of {size.seeds} seeds (lowest to highest)"
        Console(width=180).print(table(title, cells(results[name])))
    if args.fit:
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1))
    tables = [f"{name}\n\n{markdown(cells(rows))}\n" for name, rows in results.items()]
    args.out.with_suffix(".md").write_text("\n".join(tables))
    print(f"wrote {args.out} and {args.out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
