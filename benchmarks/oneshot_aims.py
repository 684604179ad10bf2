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
    """Name -> a function that gives rows: a method, all aims, with each seed."""
    evaluate = jax.jit(task.evaluate)
    steps = steps // size.shorter

    @functools.cache
    def trained():
        """(params, batches to calibrate with) of each seed."""
        train = jax.jit(lambda p, k: fit(task, optax.adamw(task.rate), p, k, steps)[0])
        found = []
        for seed in range(size.seeds):
            init, order, *data = jax.random.split(jax.random.key(seed), 2 + BATCHES)
            batches = [task.sample(key)[:, :-1] for key in data]
            found.append((train(task.init(init), order), batches))
        return found

    def dense():
        values = [float(evaluate(params)) for params, _ in trained()]
        return [{"method": "dense", "sparsity": "", "0.0": values}]

    def of(name):
        moves = name not in ("magnitude", "Wanda")  # else kept weights are as they were
        aims = AIMS if moves else {aim: kwargs for aim, kwargs in AIMS.items() if not kwargs}
        return [
            {"method": name, "sparsity": f"{level:.0%}".replace("%", " %")}
            | {aim: values(METHODS[name], level, kwargs) for aim, kwargs in aims.items()}
            for level in size.levels
        ]

    def values(method, level, kwargs):
        options = {"sparsity": level, "method": method, **kwargs}
        return [
            float(evaluate(oneshot.prune_model(task.logits, params, batches, **options)[0]))
            for params, batches in trained()
        ]

    return {"dense": dense} | {name: functools.partial(of, name) for name in METHODS}


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
