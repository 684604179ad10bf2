"""What an event costs: masks of whole trees, in memory passes over the same weights."""

import functools
import statistics

import jax
import numpy as np

import jaxprune as jp
from benchmarks import peers, timing, trees
from benchmarks.tables import NOTES

SIDE = 4096


def pattern_cases(side, stages):
    """Name -> (tree, options of masks.make, kind that peers know it by)."""
    key = jax.random.key(0)
    resnet, square = trees.resnet50(key, stages), trees.matrix(key, side)
    yield "ResNet-50 (25.5 M), each leaf, 90 %", resnet, {"sparsity": 0.9}, "local"
    yield "ResNet-50, global, 90 %", resnet, {"sparsity": 0.9, "scope": "global"}, "global"
    for sparsity in (0.5, 0.8, 0.9, 0.95):
        yield f"4096x4096, {100 * sparsity:.0f} %", square, {"sparsity": sparsity}, "local"
    yield "4096x4096, 2:4", square, {"sparsity": 0.5, "pattern": jp.NM(2, 4)}, "nm"
    for edge in (4, 16):
        block = {"sparsity": 0.9, "pattern": jp.Block((edge, edge))}
        yield f"4096x4096, blocks {edge}x{edge}, 90 %", square, block, "block"


def criterion_cases(side, stages):
    """The same for criteria: what magnitude takes beside them is in the table of patterns."""
    key = jax.random.key(0)
    scores, channels = jp.scores, {"sparsity": 0.5, "pattern": jp.Channel()}
    square, resnet = trees.matrix(key, side), trees.resnet50(key, stages)
    ranked = {"sparsity": 0.9, "scope": "global"}
    yield "magnitude", resnet, {"sparsity": 0.9}, "local"
    yield "random", resnet, {"sparsity": 0.9, "score": scores.random(key)}, "random"
    yield "LAMP, global", resnet, ranked | {"score": scores.lamp}, "lamp"
    yield "normalized, global", resnet, ranked | {"score": scores.normalized()}, "none"
    yield (
        "saliency",
        resnet,
        {"sparsity": 0.9, "score": scores.saliency, "grads": resnet},
        "saliency",
    )
    yield "L2 norm of channels", resnet, channels | {"score": scores.squared}, "channel"
    median = channels | {"score": scores.geometric_median}
    yield "geometric median of channels", resnet, median, "none"
    yield "L2 norm of channels, 4096x4096", square, channels | {"score": scores.squared}, "channel"


def pattern_rows(rounds, quick=False):
    """Rows: masks by magnitude, in different patterns."""
    return measured(pattern_cases, rounds, quick)


def criterion_rows(rounds, quick=False):
    """Rows: masks of all of ResNet-50 by different criteria."""
    return measured(criterion_cases, rounds, quick)


def measured(cases, rounds, quick):
    """A row for each case."""
    sizes = (64, trees.SMALL) if quick else (SIDE, trees.RESNET50)
    for name, tree, options, kind in cases(*sizes):
        kernels = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim > 1]
        size = sum(leaf.size for leaf in kernels)
        grads = options.pop("grads", None)
        make = functools.partial(jp.masks.make, **options)
        program, seconds, temporary = timing.compiled(
            lambda t, g, make=make: make(t, grads=g), tree, grads
        )
        functions = {
            "pass": timing.MemoryPass(kernels),
            "copy": timing.copy_pass(kernels),
            "jaxprune": functools.partial(program, tree, grads),
        }
        theirs, failed = peers.functions(kind, kernels, options["sparsity"], options.get("pattern"))
        functions |= theirs
        times = timing.interleaved(functions, rounds=rounds)
        yield {
            "case": name,
            "one pass, ms": timing.milliseconds(times["pass"]),
            "jaxprune": timing.ratio(times["jaxprune"], times["pass"]),
            "in copies": timing.ratio(times["jaxprune"], times["copy"]),
            **peers.columns(times, "pass"),
            "temporary memory, x params": temporary / (4 * size),
            "compile, s": seconds,
            NOTES: failed,
        }


def pass_rows(rounds, quick=False):
    """Rows: the spread over sparsities, since the number of reads varies."""
    key = jax.random.key(1)
    side, stages = (64, trees.SMALL) if quick else (SIDE, trees.RESNET50)
    sparsities = np.linspace(0.5, 0.98, 2 if quick else 13)
    cases = {
        "4096x4096": (trees.matrix(key, side), "leaf"),
        "ResNet-50, each leaf": (trees.resnet50(key, stages), "leaf"),
        "ResNet-50, global": (trees.resnet50(key, stages), "global"),
    }
    for name, (tree, scope) in cases.items():
        kernels = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim > 1]
        make = jax.jit(lambda t, s, scope=scope: jp.masks.make(t, s, scope=scope))
        units = {"in place": timing.MemoryPass(kernels), "in copies": timing.copy_pass(kernels)}
        ratios = {unit: [] for unit in units}
        for s in sparsities:
            functions = {**units, "ours": lambda: make(tree, np.float32(s))}  # noqa: B023
            times = timing.interleaved(functions, rounds=min(rounds, max(3, rounds // 3)))
            for unit in units:
                ratios[unit].append(timing.ratio(times["ours"], times[unit]))
        row = {"case": name}
        for unit, found in ratios.items():
            row[f"median, {unit}"] = statistics.median(found)
            row |= {f"lowest, {unit}": min(found), f"highest, {unit}": max(found)}
        yield row
