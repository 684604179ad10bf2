"""What an order of the input channels regains of the magnitude that 2:4 loses, and its time.

python -m benchmarks.permutation [--channels N [N ...]] [--escapes N]
"""

import argparse
import time

import jax
import numpy as np
from rich.console import Console

from benchmarks.tables import table
from jaxprune import NM, patterns


def weights(channels, seed=0):
    """Name -> square matrix (in, out), from bell-shaped to heavy-tailed."""
    rng = np.random.default_rng(seed)
    shape = channels, channels
    yield "Gaussian", rng.normal(size=shape)
    yield "Student t, 3 degrees", rng.standard_t(3, size=shape)
    scales = np.exp(rng.normal(size=(channels, 1)))
    yield "log-normal input scales", scales * rng.normal(size=shape)
    yield "rank 8", rng.normal(size=(channels, 8)) @ rng.normal(size=(8, channels))
    kinds = np.repeat([10.0, 1.0], channels // 2)[:, None]  # as after a concatenation
    yield "first half tenfold", kinds * rng.normal(size=shape)


def run(channels, escapes):
    """Rows for the table."""
    rows = []
    runs = {"0.25 sweeps": {"sweeps": 0.25}}
    if channels <= 1024:
        runs["all sweeps"] = {}
    if channels <= 256:
        runs["escapes"] = {"escapes": escapes, "key": jax.random.key(0)}
    for name, w in weights(channels):
        w = w.astype(np.float32)
        patterns.permutation(w, NM(2, 4), sweeps=1e-9)  # compiles
        row = {"weights": name, "channels": channels}
        for what, options in runs.items():
            start = time.perf_counter()
            found = patterns.permutation(w, NM(2, 4), **options)
            row["2:4 loses, %"] = 100 * (1 - found.before / found.total)
            row[f"{what} regain, %"] = 100 * found.regained
            row[f"{what}, s"] = time.perf_counter() - start
        rows.append(row)
    return rows


def main():
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--escapes", type=int, default=100)
    args = parser.parse_args()
    made = [row for channels in args.channels for row in run(channels, args.escapes)]
    title = f"Share of the magnitude lost by 2:4 that an order regains, {args.escapes} escapes"
    Console(width=140).print(table(title, made))


if __name__ == "__main__":
    main()
