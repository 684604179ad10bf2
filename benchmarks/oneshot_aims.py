"""What layers see and aim at when a trained model is pruned: a decoder on text, bits per byte.

python -m benchmarks.oneshot_aims [--seeds 3] [--steps 600]

Each row is a method, each column what layers see and aim at; the mean over seeds, and the lowest
and highest of them.
"""

import argparse
import statistics

import jax
import optax
from rich.console import Console

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
SPARSITIES = (0.5, 0.7)
BATCHES = 8


def main():
    """Trains, prunes and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    task = Text()
    evaluate = jax.jit(task.evaluate)
    train = jax.jit(lambda p, k: fit(task, optax.adamw(task.rate), p, k, args.steps)[0])
    found, dense = {}, []
    for seed in range(args.seeds):
        init, steps, *data = jax.random.split(jax.random.key(seed), 2 + BATCHES)
        params = train(task.init(init), steps)
        dense.append(float(evaluate(params)))
        batches = [task.sample(key)[:, :-1] for key in data]
        for name, method in METHODS.items():
            for aim, kwargs in AIMS.items():
                if kwargs and name in ("magnitude", "Wanda"):
                    continue  # kept weights are as they were
                for sparsity in SPARSITIES:
                    pruned = oneshot.prune_model(
                        task.logits, params, batches, sparsity=sparsity, method=method, **kwargs
                    )[0]
                    bits = float(evaluate(pruned))
                    found.setdefault((name, sparsity), {}).setdefault(aim, []).append(bits)
    rows = [
        {"method": name, "sparsity": f"{sparsity:.0%}"}
        | {aim: _spread(row[aim]) if aim in row else "" for aim in AIMS}
        for (name, sparsity), row in found.items()
    ]
    title = f"bits per byte of held-out text; dense {_spread(dense)}"
    Console(width=200).print(table(title, rows))


def _spread(values):
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
