"""Bytes of sparse files, and the time to write and read them, beside other formats.

python -m benchmarks.export [--sparsity 0.5 0.75 0.9 0.95] [--rounds N] [--small] [--out FILE]

The 25.5 million weights of ResNet-50 as an initialiser draws them, pruned by magnitude in each
leaf. Files are written to a temporary directory and synced.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
from rich.console import Console

from benchmarks import trees
from benchmarks.tables import table
from jaxprune import export


def pruned(params, sparsity):
    """Kernels with their smallest weights at 0, and masks."""

    def cut(w):
        if w.ndim < 2:
            return w, None
        mask = np.abs(w) >= np.quantile(np.abs(w), sparsity)
        return np.where(mask, w, np.float32(0)), mask

    pairs = {
        name: {k: cut(np.asarray(w)) for k, w in leaf.items()} for name, leaf in params.items()
    }
    return tuple(
        {name: {k: pair[i] for k, pair in leaf.items()} for name, leaf in pairs.items()}
        for i in range(2)
    )


def npz(path, tree):
    """What numpy writes."""
    flat = {f"{name}/{k}": w for name, leaf in tree.items() for k, w in leaf.items()}
    with open(path, "wb") as stream:
        np.savez_compressed(stream, **flat)
        stream.flush()
        os.fsync(stream.fileno())


def read_npz(path):
    """All arrays of a file of numpy."""
    with np.load(path) as stream:
        return {name: stream[name] for name in stream.files}


def ways(masks):
    """Name -> (write, read)."""
    made = {
        "`save`": (lambda p, t: export.save(p, t), export.load),
        "`save`, masks too": (lambda p, t: export.save(p, t, masks=masks), export.load),
        "`save`, zstd": (lambda p, t: export.save(p, t, compress="zstd"), export.load),
        "`save`, bfloat16": (lambda p, t: export.save(p, t, dtype="bfloat16"), export.load),
        "`save`, bfloat16 and zstd": (
            lambda p, t: export.save(p, t, dtype="bfloat16", compress="zstd"),
            export.load,
        ),
        "`numpy.savez_compressed`": (npz, read_npz),
    }
    try:
        import orbax.checkpoint as ocp
    except ImportError:
        return made
    checkpointer = ocp.StandardCheckpointer()

    def write(path, tree):
        checkpointer.save(path, tree, force=True)
        checkpointer.wait_until_finished()

    return made | {"orbax, default": (write, checkpointer.restore)}


def size(path):
    """Bytes of a file, or of all in a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def measure(params, sparsity, rounds):
    """A row for each way."""
    tree, masks = pruned(params, sparsity)
    dense = sum(w.nbytes for w in jax.tree.leaves(tree))
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for name, (write, read) in ways(masks).items():
            path, spent = pathlib.Path(directory) / name, {"save": [], "load": []}
            for _ in range(rounds):
                start = time.perf_counter()
                write(path, tree)
                middle = time.perf_counter()
                read(path)
                spent["save"].append(middle - start)
                spent["load"].append(time.perf_counter() - middle)
            rows.append(
                {
                    "sparsity": sparsity,
                    "format": name,
                    "bytes": size(path),
                    "x dense": size(path) / dense,
                    "times smaller": dense / size(path),
                    "save, s": statistics.median(spent["save"]),
                    "load, s": statistics.median(spent["load"]),
                }
            )
    for name, count in export.sizes(tree, formats=("csr", "bcoo")).items():
        rows.append(
            {
                "sparsity": sparsity,
                "format": name.upper(),
                "bytes": count,
                "x dense": count / dense,
                "times smaller": dense / count,
            }
        )
    return rows


def rows(rounds, quick=False, sparsities=(0.5, 0.75, 0.9, 0.95)):
    """A row for each way, in the columns of the page; seconds are those at 90 %."""
    params = trees.resnet50(jax.random.key(0), trees.SMALL if quick else trees.RESNET50)
    made = {}
    for s in sparsities:
        for found in measure(params, s, rounds):
            row = made.setdefault(found["format"], {"format": found["format"]})
            row[f"{100 * s:g} %"] = found["x dense"]
            if s == 0.9:
                row |= {name: found.get(name) for name in ("save, s", "load, s")}
    order = ["format", *(f"{100 * s:g} %" for s in sparsities), "save, s", "load, s"]
    return [{name: row.get(name) for name in order} for row in made.values()]


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.5, 0.75, 0.9, 0.95])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a small network, as a smoke test")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/export.json"))
    args = parser.parse_args()
    params = trees.resnet50(jax.random.key(0), trees.SMALL if args.small else trees.RESNET50)
    made = [row for s in args.sparsity for row in measure(params, s, args.rounds)]
    console = Console(width=140)
    console.print(table("Files of sparse params, relative to dense float32", made))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(made, indent=2))
    console.print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
