"""What an event costs: masks of whole trees, in memory passes over the same weights."""

import statistics

import jax
import numpy as np

import jaxprune
from benchmarks import peers, timing, trees


def cases():
    """Name -> (tree, options of masks.make, kind that peers know it by)."""
    key = jax.random.key(0)
    resnet, square = trees.resnet50(key), trees.matrix(key)
    yield "ResNet-50, each leaf, 90 %", resnet, {"sparsity": 0.9}, "local"
    yield "ResNet-50, global, 90 %", resnet, {"sparsity": 0.9, "scope": "global"}, "global"
    for sparsity in (0.5, 0.8, 0.9, 0.95):
        yield f"4096x4096, {100 * sparsity:.0f} %", square, {"sparsity": sparsity}, "local"
    nm = {"sparsity": 0.5, "pattern": jaxprune.NM(2, 4)}
    yield "4096x4096, 2:4", square, nm, "nm"
    for side in (4, 16):
        block = {"sparsity": 0.9, "pattern": jaxprune.Block((side, side))}
        yield f"4096x4096, blocks {side}x{side}, 90 %", square, block, "block"


def run(rounds):
    """Rows for the table."""
    rows = []
    for name, tree, options, kind in cases():
        kernels = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim > 1]
        size = sum(leaf.size for leaf in kernels)
        program, seconds, temporary = timing.compiled(
            lambda t, options=options: jaxprune.masks.make(t, **options), tree
        )
        functions = {
            "pass": timing.MemoryPass(kernels),
            "copy": timing.copy_pass(kernels),
            "ours": lambda: program(tree),  # noqa: B023
        }
        functions |= peers.functions(kind, kernels, options["sparsity"])
        times = timing.interleaved(functions, rounds=rounds)
        row = {"case": name, "pass_ms": timing.milliseconds(times["pass"])}
        for other in ("ours", *peers.NAMES):
            if other in times:
                row[other] = timing.ratio(times[other], times["pass"])
        row["ours_copies"] = timing.ratio(times["ours"], times["copy"])
        row |= {"temporary": temporary / (4 * size), "compile_s": seconds}
        rows.append(row)
    return rows


def passes(rounds, sparsities=None):
    """The spread over sparsities: the number of reads varies."""
    sparsities = np.linspace(0.5, 0.98, 13) if sparsities is None else sparsities
    key = jax.random.key(1)
    trees_ = {
        "4096x4096": (trees.matrix(key), "leaf"),
        "ResNet-50, each leaf": (trees.resnet50(key), "leaf"),
        "ResNet-50, global": (trees.resnet50(key), "global"),
    }
    rows = []
    for name, (tree, scope) in trees_.items():
        kernels = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim > 1]
        make = jax.jit(lambda t, s, scope=scope: jaxprune.masks.make(t, s, scope=scope))
        units = {"pass": timing.MemoryPass(kernels), "copy": timing.copy_pass(kernels)}
        ratios = {unit: [] for unit in units}
        for s in sparsities:
            functions = {**units, "ours": lambda: make(tree, np.float32(s))}  # noqa: B023
            times = timing.interleaved(functions, rounds=max(3, rounds // 3))
            for unit in units:
                ratios[unit].append(timing.ratio(times["ours"], times[unit]))
        row = {"case": name}
        for unit, measured in ratios.items():
            row[f"median_{unit}"] = statistics.median(measured)
            row[f"lowest_{unit}"], row[f"highest_{unit}"] = min(measured), max(measured)
        rows.append(row)
    return rows
