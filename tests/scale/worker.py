"""One process of several: trains the cases on a mesh over all of them and writes its own shards.

    python worker.py COORDINATOR NUM_PROCESSES PROCESS_ID OUT CASE ...

Weights, gradients, rates and decays are dyadic: no sum and no product is ever rounded, so that what
is left (a division, a root) is the same number however a program is cut and fused.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxprune as jp

STEPS = 7
EVENTS = (0, 3, 5)
COURSE = {"sparsity": jp.polynomial(0.75, begin=0, end=5, init=0.25), "when": EVENTS}
BATCH = 16
# Rows that devices cut within a byte of mask bits and between bytes; columns; a leaf not cut.
LEAVES = {
    "columns": ((8, 16), P(None, "x")),
    "rows": ((16, 8), P("x")),
    "tall": ((64, 8), P("x")),
    "whole": ((12, 8), P()),
}


def sgd():
    return optax.sgd(0.125, momentum=0.5)


def adam():
    return optax.adam(2**-6, b1=0.5, b2=0.5)


# name -> (transform, the leaves it prunes)
CASES = {
    "global": (jp.prune(sgd(), **COURSE, scope="global"), LEAVES),
    "leaf": (jp.prune(adam(), **COURSE), ("columns", "rows")),
    "nm": (jp.prune(sgd(), **COURSE, pattern=jp.NM(2, 4)), ("columns", "rows")),
    "block": (
        optax.chain(adam(), jp.prune(**COURSE, pattern=jp.Block((4, 4)), scope="global")),
        ("rows", "tall"),
    ),
}


def host_params(names):
    """Weights in 16ths: so coarse that many are equal, also across the borders of processes."""
    rng = np.random.default_rng(0)
    kernels = {}
    for name in names:
        values = np.round(rng.normal(size=LEAVES[name][0]) * 16) / 16
        kernels[name] = {"kernel": values.astype(np.float32)}
    return {**kernels, "dense": {"bias": np.ones(8, np.float32)}}


def places(mesh, tree):
    """A sharding for each leaf of params or state: its param's, where its shape allows that."""

    def one(path, x):
        names = [key.key for key in path if getattr(key, "key", None) in LEAVES]
        place = NamedSharding(mesh, LEAVES[names[0]][1] if names else P())
        cuts = [*place.spec, *[None] * x.ndim][: x.ndim]
        fits = all(n % mesh.size == 0 for n, cut in zip(x.shape, cuts, strict=True) if cut)
        return place if fits else NamedSharding(mesh, P())

    return jax.tree_util.tree_map_with_path(one, tree)


def batch(step):
    """Rows of small integers that depend on the step alone."""

    def digits(width, stride):
        index = jnp.arange(BATCH * width, dtype=jnp.int32).reshape(BATCH, width)
        return ((index * stride + step * 101) % 31 % 7 - 3).astype(jnp.float32)

    return digits


def loss(params, step):
    """Linear in each kernel: its gradient is a sum over the batch, of integers, then halved."""
    digits = batch(step)
    total = 0.0
    for i, (name, leaf) in enumerate(params.items()):
        if name == "dense":
            total += (leaf["bias"] * digits(8, 3).sum(0)).sum()
        else:
            rows, columns = leaf["kernel"].shape
            total += ((digits(rows, 37 + i) @ leaf["kernel"]) * digits(columns, 53 + i)).sum()
    return total / 32


def run(name, mesh):
    """What a run is after each step: params, masks, state, and whether masks changed."""
    tx, names = CASES[name]
    values = host_params(names)
    params = jax.tree.map(
        lambda x, place: jax.make_array_from_callback(x.shape, place, lambda index: x[index]),
        values,
        places(mesh, values),
    )
    there = places(mesh, (params, jax.eval_shape(tx.init, params)))

    @functools.partial(jax.jit, out_shardings=there)
    def advance(step, params, state):
        updates, state = tx.update(jax.grad(loss)(params, step), state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(tx.init, out_shardings=there[1])(params)
    for step in range(STEPS):
        params, state = advance(np.int32(step), params, state)
        masks, changed = jp.get_masks(state), jp.masks_changed(state)
        yield {"changed": changed, "masks": masks, "params": params, "state": state}


def flat(tree):
    """Path -> array."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def main(coordinator, num_processes, process_id, out, *cases):
    """Writes every shard of this process that has a place in params, masks or state."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.distributed.initialize(coordinator, int(num_processes), int(process_id))
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType.Auto,))
    shards = {}
    for name in cases:
        for step, moment in enumerate(run(name, mesh)):
            for path, x in flat(moment).items():
                for shard in x.addressable_shards:
                    start = ",".join(str(cut.start or 0) for cut in shard.index)
                    shards[f"{name}/{step}/{path}|{start}|{shard.device.id}"] = np.asarray(
                        shard.data
                    )
    np.savez(out, **shards)


if __name__ == "__main__":
    main(*sys.argv[1:])
