"""Compiles the update of decoders of 1, 7 and 70 billion parameters ahead of time; nothing runs.

python -m benchmarks.scale [--models 1B 7B 70B] [--devices 8 64 512] [--scope global] [--tpu]

Devices are simulated on the CPU. With --tpu and libtpu installed the compiler is that of TPU v5p,
for pods of as many chips; no TPU is needed for that.
"""

import argparse
import json
import math
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

import jaxprune
from benchmarks.collectives import collectives
from benchmarks.tables import table

# width, layers, hidden width, width of keys and values, vocabulary
MODELS = {
    "1B": (2048, 16, 8192, 512, 128256),
    "7B": (4096, 32, 11008, 4096, 32000),
    "70B": (8192, 80, 28672, 1024, 32000),
}
MESHES = {8: (8, 1), 64: (16, 4), 512: (64, 8)}  # data (FSDP) by model (tensor parallel)
TOPOLOGIES = {8: "v5p:2x2x2", 64: "v5p:4x4x4", 512: "v5p:8x8x8"}
CASES = (*((name, jaxprune.Unstructured()) for name in MODELS), ("7B", jaxprune.NM(2, 4)))
INWARD, OUTWARD = P(None, "data", "model"), P(None, "model", "data")


def decoder(name):
    """Shapes and placements of a decoder whose layers are stacked, as `nn.scan` makes them."""
    d, layers, hidden, kv, vocabulary = MODELS[name]
    kernels = {
        "query": ((layers, d, d), INWARD),
        "key": ((layers, d, kv), INWARD),
        "value": ((layers, d, kv), INWARD),
        "out": ((layers, d, d), OUTWARD),
        "gate": ((layers, d, hidden), INWARD),
        "up": ((layers, d, hidden), INWARD),
        "down": ((layers, hidden, d), OUTWARD),
        "head": ((d, vocabulary), P("data", "model")),
    }
    tree = {name: {"kernel": leaf} for name, leaf in kernels.items()}
    tree["embedder"] = {"embedding": ((vocabulary, d), P("model", "data"))}
    tree["norm"] = {"scale": ((layers, d), P(None, "data"))}
    return tree


def num_weights(name):
    """Of a decoder, all leaves together."""
    leaves = jax.tree.leaves(decoder(name), is_leaf=lambda x: isinstance(x, tuple))
    return sum(math.prod(shape) for shape, _ in leaves)


def place(tree, mesh):
    """ShapeDtypeStructs of a decoder's params."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf[0], jnp.float32, sharding=NamedSharding(mesh, leaf[1])
        ),
        tree,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def state_like(tx, params, mesh):
    """The state of a transform: what belongs to a parameter lies where that does."""
    specs = {
        jax.tree_util.keystr(path): x.sharding
        for path, x in jax.tree_util.tree_flatten_with_path(params)[0]
    }

    def describe(path, x):
        name = jax.tree_util.keystr(path)
        found = [s for end, s in specs.items() if name.endswith(end) and x.ndim > 1]
        sharding = found[0] if found else NamedSharding(mesh, P())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(describe, jax.eval_shape(tx.init, params))


def compile_update(tx, params, mesh):
    """The program of one update, and how long it took to compile."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    with jax.set_mesh(mesh):
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(
            params, state_like(tx, params, mesh), params
        )
        start = time.perf_counter()
        program = lowered.compile()
    return program, time.perf_counter() - start


def measure(name, devices, chips, pattern, scope="global"):
    """One row of the table."""
    mesh = Mesh(
        np.array(chips).reshape(MESHES[devices]), ("data", "model"), axis_types=(AxisType.Auto,) * 2
    )
    params = place(decoder(name), mesh)
    plain, _ = compile_update(optax.adam(1e-3), params, mesh)
    pruning = jaxprune.prune(
        optax.adam(1e-3),
        sparsity=jaxprune.polynomial(0.8, begin=1_000, end=10_000),
        scope=scope,
        pattern=pattern,
    )
    program, seconds = compile_update(pruning, params, mesh)
    leaves = jax.tree.leaves(params)
    shard = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)
    found = collectives(program.as_text())
    parts = {False: [x for x in found if not x.in_search], True: [x for x in found if x.in_search]}
    temporary = program.memory_analysis().temp_size_in_bytes
    flops = [p.cost_analysis()["flops"] for p in (program, plain)]
    return {
        "model": name,
        "weights, 1e9": num_weights(name) / 1e9,
        "devices": devices,
        "mesh": "x".join(map(str, MESHES[devices])),
        "pattern": str(pattern),
        "shard, MiB": shard / 2**20,
        "temporary, MiB": temporary / 2**20,
        "temporary, x shard": temporary / shard,
        "plain temporary, x shard": plain.memory_analysis().temp_size_in_bytes / shard,
        "once: operations": kinds(parts[False]),
        "once: KiB": sum(x.bytes for x in parts[False]) / 1024,
        "each turn: operations": kinds(parts[True]),
        "each turn: KiB": sum(x.bytes for x in parts[True]) / 1024,
        "largest, KiB": max(x.bytes for x in found) / 1024,
        "GFLOP, one turn": flops[0] / 1e9,
        "GFLOP, plain": flops[1] / 1e9,
        "compile, s": seconds,
    }


def kinds(found):
    """How many collectives of each kind."""
    names = sorted({x.kind for x in found})
    return ", ".join(f"{sum(x.kind == name for x in found)} {name}" for name in names) or "none"


def fits(name, devices):
    """Whether params, gradients and the moments of adam fit the 95 GiB of a v5p."""
    return 16 * num_weights(name) / devices < 95 * 2**30


def devices_of(count, tpu):
    """Simulated devices, or those of a TPU pod."""
    if not tpu:
        return jax.devices()[:count]
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[count]).devices


def rows(rounds, quick=False, *, tpu=False, cases=CASES, counts=tuple(MESHES), scope="global"):
    """Rows of the table, of models and patterns, on so many devices each.

    Nothing is timed, and this process has no other devices afterwards.
    """
    del rounds
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(counts))
    for name, pattern in cases[: 1 if quick else None]:
        for count in counts[: 1 if quick else None]:
            if not tpu or fits(name, count):
                yield measure(name, count, devices_of(count, tpu), pattern, scope)


def main():
    """Compiles what is asked for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--devices", nargs="+", type=int, choices=MESHES, default=list(MESHES))
    parser.add_argument("--scope", choices=["leaf", "global"], default="global")
    parser.add_argument("--nm", action="store_true", help="2:4 instead of unstructured")
    parser.add_argument("--tpu", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/scale.json"))
    args = parser.parse_args()
    pattern = jaxprune.NM(2, 4) if args.nm else jaxprune.Unstructured()
    cases = [(name, pattern) for name in args.models]
    made = list(rows(1, tpu=args.tpu, cases=cases, counts=args.devices, scope=args.scope))
    console = Console(width=240)
    console.print(table(f"The update, compiled; scope {args.scope}", made))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(made, indent=2))
    console.print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
