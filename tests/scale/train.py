"""A training process to be killed: restores the last checkpoint, if any, and trains to the end.

    python train.py MODE CHECKPOINTS OUT

It uses all devices that there are. MODE is "network", an MLP with Adam, whose sums depend on how
they are cut; or "elementwise", where no number depends on that. One line is printed per thing that
happens: `restored N`, `event I` before the step of an event is dispatched, `step I` once it is
done, `saving N` before N steps are saved, `done` once all is saved and OUT is written: the masks
after each event of this process, and the last train state.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxprune as jp

STEPS = 12
EVENTS = (2, 6, 10)
SAVE_EVERY = 2
BATCH = 32
COURSE = {"sparsity": jp.polynomial(0.8, begin=2, end=10, init=0.3), "when": EVENTS}
SHAPES = {"first": (16, 64), "second": (64, 16)}


def dense(key, shape):
    """A layer."""
    return {"bias": jnp.zeros(shape[1]), "kernel": jax.random.normal(key, shape) / shape[0] ** 0.5}


def init_params():
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    return {
        name: dense(key, shape) for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }


def loss(params, step):
    """A regression; the step alone says which batch is read."""
    x = jax.random.normal(jax.random.fold_in(jax.random.key(1), step), (BATCH, 16))
    h = x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh(), P("x")))
    for layer in params.values():
        h = jnp.tanh(h @ layer["kernel"] + layer["bias"][None])
    return ((h - jnp.sin(3 * x)) ** 2).mean()


def network(params, step):
    return jax.grad(loss)(params, step)


def elementwise(params, step):
    """Numbers that depend on the step and the place alone."""

    def one(w):
        index = jnp.arange(w.size, dtype=jnp.int32).reshape(w.shape)
        return (((index * 37 + step * 101) % 31 - 15) / 16).astype(w.dtype)

    return jax.tree.map(one, params)


# Decays that are powers of 2, and gradients of few bits: rounding does not depend on fusion.
MODES = {
    "elementwise": (elementwise, optax.adam(2**-6, b1=0.5, b2=0.5)),
    "network": (network, optax.adam(2**-6)),
}


@functools.cache
def mesh():
    return jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType.Auto,))


def fsdp(tree):
    """Shapes with shardings: every leaf is cut along its first axis where the devices divide it."""

    def one(x):
        cut = P("x") if x.ndim and x.shape[0] % mesh().size == 0 else P()
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh(), cut))

    return jax.tree.map(one, tree)


def say(*words):
    print(*words, flush=True)


def main(mode, checkpoints, out):
    jax.config.update("jax_numpy_rank_promotion", "raise")
    grads, optimizer = MODES[mode]
    tx = jp.prune(optimizer, **COURSE, scope="global")

    def init():
        params = init_params()
        return {"params": params, "opt_state": tx.init(params), "step": jnp.zeros((), jnp.int32)}

    def advance(state):
        g = grads(state["params"], state["step"])
        updates, opt_state = tx.update(g, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}

    abstract = fsdp(jax.eval_shape(init))
    places = jax.tree.map(lambda x: x.sharding, abstract)
    with ocp.CheckpointManager(checkpoints) as manager:
        latest = manager.latest_step()
        if latest is None:
            state = jax.jit(init, out_shardings=places)()
        else:
            state = manager.restore(latest, args=ocp.args.StandardRestore(abstract))
            say("restored", latest)
        advance = jax.jit(advance, donate_argnums=0, out_shardings=places)
        seen = {}
        for step in range(int(state["step"]), STEPS):
            if step in EVENTS:
                say("event", step)
            state = advance(state)
            masks = jp.get_masks(state["opt_state"])
            assert bool(jp.masks_changed(state["opt_state"])) == (step in EVENTS)
            say("step", step)
            if step in EVENTS:
                seen[f"event {step}"] = masks
            if (step + 1) % SAVE_EVERY == 0:
                say("saving", step + 1)
                manager.save(step + 1, args=ocp.args.StandardSave(state))
        manager.wait_until_finished()
    leaves = jax.tree_util.tree_flatten_with_path({**seen, "last": state})[0]
    named = {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}
    np.savez(out, **named)
    say("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
