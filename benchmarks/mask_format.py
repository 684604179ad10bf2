"""What a mask costs a step on TPU, as bits and as bools: bytes that the compiler says are moved.

python -m benchmarks.mask_format

Needs libtpu, whose compiler it asks about one TPU v5p, and no TPU.
"""

import math
import os

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

from benchmarks.tables import table
from jaxprune.transforms._inner import masked_update

SHAPES = [(4096, 4096), (32, 256, 1024), (32, 256, 2752), (256, 8000)]
FORMS = {"plain": "adam alone", "bits": "bits", "bools": "bools"}


def moved(shape, form, sharding):
    """Bytes per weight of one adam step, plain or with a mask in the form given."""
    adam = optax.with_extra_args_support(optax.adam(1e-3))

    def step(w, state, grads, mask):
        if form == "plain":
            updates, state = adam.update(grads, state, w)
        else:
            updates, state = masked_update(adam, mask, grads, state, w, {})
        return optax.apply_updates(w, updates), state, mask

    def describe(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    w = jax.ShapeDtypeStruct(shape, jnp.float32)
    short = (*shape[:-2], shape[-2] // 8, shape[-1])
    mask = jax.ShapeDtypeStruct(*((short, jnp.uint8) if form == "bits" else (shape, jnp.bool_)))
    arguments = jax.tree.map(describe, (w, jax.eval_shape(adam.init, w), w, mask))
    program = jax.jit(step, donate_argnums=(0, 1, 3)).lower(*arguments).compile()
    return program.cost_analysis()["bytes accessed"] / math.prod(shape)


def rows(rounds, quick=False):
    """Rows of the table; nothing is timed."""
    del rounds
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    jax.config.update("jax_platforms", "cpu")
    pod = topologies.get_topology_desc(platform="tpu", topology_name="v5p:2x2x1")
    sharding = NamedSharding(Mesh(pod.devices[:1], ("x",)), P())
    return [
        {"leaf": "x".join(map(str, shape))}
        | {heading: moved(shape, form, sharding) for form, heading in FORMS.items()}
        for shape in SHAPES[: 1 if quick else None]
    ]


def main():
    """Prints the table."""
    title = "Bytes per weight of a step of adam, float32, TPU v5p"
    Console(width=100).print(table(title, rows(1)))


if __name__ == "__main__":
    main()
