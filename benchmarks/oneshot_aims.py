"""What layers see and aim at when a trained model is pruned: a decoder on text, bits per byte.

python -m benchmarks.oneshot_aims [--seeds 3] [--steps 600]

Each row is a method, each column what layers see and aim at; the mean over seeds, and the lowest
and highest of them.
"""

import argparse
import functools

import jax
import optax
from rich.console import Console

from benchmarks.studies import Size, cells, gather
from benchmarks.tables import table
from benchmarks.tasks import Text, fit
from jaxprune import oneshot

METHODS = {
    "magnitude": oneshot.magnitude(),
    "Wanda": oneshot.wanda(),
    "SparseGPT": oneshot.sparsegpt(),
    "SparseGPT, refitted": oneshot.sparsegpt(refit=True),
    "ALPS": oneshot.alps(),
}
AIMS = {
    "pruned inputs, dense outputs": {},
    "pruned inputs": {"asymmetric": False},
    "dense inputs": {"sequential": False},
}
FULL = Size(seeds=3, levels=(0.5, 0.7))
QUICK = Size(seeds=1, levels=(0.5,), shorter=20)
STEPS = 600
BATCHES = 8


def units(task, size=FULL, steps=STEPS):
    """Name -> a function that gives rows: all methods and aims, with one seed."""
    evaluate = jax.jit(task.evaluate)
    steps = steps // size.shorter
    train = jax.jit(lambda p, k: fit(task, optax.adamw(task.rate), p, k, steps)[0])

    def of(seed):
        init, order, *data = jax.random.split(jax.random.key(seed), 2 + BATCHES)
        params = train(task.init(init), order)
        batches = [task.sample(key)[:, :-1] for key in data]
        rows = [{"method": "dense", "sparsity": "", "0.0": [float(evaluate(params))]}]
        for name, method in METHODS.items():
            for level in size.levels:
                row = {"method": name, "sparsity": f"{level:.0%}".replace("%", " %")}
                for aim, kwargs in AIMS.items():
                    if kwargs and name in ("magnitude", "Wanda"):
                        continue  # kept weights are as they were
                    pruned = oneshot.prune_model(
                        task.logits, params, batches, sparsity=level, method=method, **kwargs
                    )[0]
                    row[aim] = [float(evaluate(pruned))]
                rows.append(row)
        return rows

    return {f"seed {seed}": functools.partial(of, seed) for seed in range(size.seeds)}


def main():
    """Trains, prunes and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=FULL.seeds)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    size = Size(args.seeds, FULL.levels)
    rows = gather(units(Text(), size, args.steps))
    Console(width=200).print(table("bits per byte of held-out text", cells(rows, digits=3)))


if __name__ == "__main__":
    main()
