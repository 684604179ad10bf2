"""A sharded language model, pruned to 80 % while it trains: one line in the optimizer.

    python examples/sharded_lm.py             # 8 simulated devices, to out/sharded_lm
    python examples/sharded_lm.py --resume    # goes on from the last checkpoint there
    python examples/sharded_lm.py --devices 2 --width 256 --layers 4

A small decoder reads bytes of the Python standard library's own source files; every tenth file is
held out. Params, moments and masks are cut over all devices (FSDP), and so is the batch. Nothing in
the step knows of pruning, and what is random in it is a function of the step: the train state alone
resumes the run, to the bit on as many devices as before.

Figures (results.json) and a plot (training.png) go to --out. A run without --resume deletes the
checkpoints that it finds there.
"""

import argparse
import hashlib
import json
import math
import pathlib
import shutil
import sysconfig

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax.training.train_state import TrainState
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

import jaxprune
from jaxprune.analysis import plots

CONTEXT = 64
BATCH = 32
HEAD = 32  # width of an attention head
MOST_BYTES = 4_000_000


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    @nn.compact
    def __call__(self, x):
        width, mask = x.shape[-1], nn.make_causal_mask(x[..., 0])
        attend = nn.MultiHeadDotProductAttention(width // HEAD, use_bias=False, name="attention")
        x = x + attend(nn.RMSNorm(name="norm_1")(x), mask=mask)
        y = nn.gelu(nn.Dense(4 * width, name="up")(nn.RMSNorm(name="norm_2")(x)))
        return x + nn.Dense(width, name="down")(y)


class Decoder(nn.Module):
    """From bytes to logits of the next byte."""

    width: int
    layers: int

    @nn.compact
    def __call__(self, x):
        embed = nn.Embed(256, self.width, name="embed")
        x = embed(x) + nn.Embed(CONTEXT, self.width, name="position")(jnp.arange(x.shape[-1]))
        for i in range(self.layers):
            x = Block(name=f"block_{i}")(x)
        return embed.attend(nn.RMSNorm(name="norm")(x))


def load_text():
    """(train, held out): bytes of the standard library's modules, in the order of their names."""
    files = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [file.read_bytes() for file in files]
    parts = [text for i, text in enumerate(texts) if i % 10], texts[::10]
    return [np.frombuffer(b"".join(part)[:MOST_BYTES], np.uint8) for part in parts]


def cut(x, mesh):
    """FSDP: along the largest axis that the devices divide; without one, a copy on each device."""
    fits = [axis for axis, n in enumerate(x.shape) if n % mesh.size == 0]
    largest = max(fits, key=lambda axis: x.shape[axis], default=None)
    return NamedSharding(mesh, P(*("fsdp" if axis == largest else None for axis in range(x.ndim))))


def make_state(model, tx, key, mesh):
    """A train state whose arrays are cut over the mesh."""
    init = lambda key: model.init(key, jnp.zeros((1, CONTEXT), int))["params"]  # noqa: E731
    shardings = jax.tree.map(lambda x: cut(x, mesh), jax.eval_shape(init, key))
    params = jax.jit(init, out_shardings=shardings)(key)
    # Moments and masks lie where their params lie; counters go to every device.
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
    everywhere = NamedSharding(mesh, P())
    return jax.tree.map(lambda x: x if jnp.ndim(x) else jax.device_put(x, everywhere), state)


def bits_per_byte(params, apply_fn, windows):
    windows = windows.astype(int)
    logits = apply_fn({"params": params}, windows[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:])
    return losses.mean() / math.log(2)


def make_step(shardings, key, mesh):
    """The training step: nothing in it knows of pruning."""

    def step(state, text):
        key_step = jax.random.fold_in(key, state.step)
        starts = jax.random.randint(key_step, (BATCH, 1), 0, len(text) - CONTEXT)
        windows = text[starts + jnp.arange(CONTEXT + 1)]
        windows = jax.lax.with_sharding_constraint(windows, NamedSharding(mesh, P("fsdp")))
        loss, grads = jax.value_and_grad(bits_per_byte)(state.params, state.apply_fn, windows)
        return state.apply_gradients(grads=grads), loss

    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))


def digest(tree):
    """A fingerprint of all bits of all arrays."""
    arrays = [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]
    return hashlib.sha256(b"".join(arrays)).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--width", type=int, default=128, help=f"a multiple of {HEAD}")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--devices", type=int, default=8, help=f"simulated; a divisor of {BATCH}")
    parser.add_argument("--checkpoint-every", type=int, default=100, help="steps")
    parser.add_argument("--resume", action="store_true", help="from the last checkpoint in --out")
    parser.add_argument("--stop-after", type=int, help="a step: as if the machine were taken away")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/sharded_lm"))
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", args.devices)
    mesh = jax.make_mesh((args.devices,), ("fsdp",), axis_types=(AxisType.Auto,))

    begin, end, between = args.steps // 4, args.steps * 3 // 4, max(args.steps // 40, 1)
    learning_rate = optax.warmup_cosine_decay_schedule(0, 3e-3, args.steps // 20, args.steps)
    tx = jaxprune.prune(  # the one line
        optax.adamw(learning_rate, b2=0.95, weight_decay=0.1),
        sparsity=jaxprune.polynomial(0.8, begin=begin, end=end),
        when=jaxprune.every(between),
        scope="global",
        max_sparsity=0.95,
    )
    key_init, key_steps = jax.random.split(jax.random.key(0))
    state = make_state(Decoder(args.width, args.layers), tx, key_init, mesh)
    step = make_step(jax.tree.map(lambda x: x.sharding, state), key_steps, mesh)
    text, held_out = load_text()
    starts = np.linspace(0, len(held_out) - CONTEXT - 1, 256, dtype=int)
    windows = held_out[starts[:, None] + np.arange(CONTEXT + 1)]
    windows = jax.device_put(windows, NamedSharding(mesh, P("fsdp")))
    text = jax.device_put(text, NamedSharding(mesh, P()))
    evaluate = jax.jit(bits_per_byte, static_argnums=1)
    history = {"loss": [], "validation": []}  # of each step; (step, bits per byte, sparsity)

    def validate():
        bits = float(evaluate(state.params, state.apply_fn, windows))
        sparsity = 1 - jaxprune.masks.density(jaxprune.get_masks(state))
        history["validation"].append((int(state.step), bits, sparsity))

    checkpoints = args.out.absolute() / "checkpoints"
    if not args.resume:
        shutil.rmtree(checkpoints, ignore_errors=True)
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(checkpoints, options=options) as manager:
        latest = manager.latest_step() or 0
        if latest:
            like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
            read = {"state": ocp.args.StandardRestore(like), "history": ocp.args.JsonRestore()}
            restored = manager.restore(latest, args=ocp.args.Composite(**read))
            state, history = restored.state, restored.history  # the history is for the plot only
        else:
            validate()
        bar = tqdm(range(latest + 1, args.steps + 1), total=args.steps, initial=latest, unit="step")
        for done in bar:
            state, loss = step(state, text)
            history["loss"].append(float(loss))
            waited = done - history["validation"][-1][0]
            if jaxprune.masks_changed(state) or waited == between or done == args.steps:
                validate()
            _, bits, sparsity = history["validation"][-1]
            bar.set_postfix_str(
                f"bits per byte {loss:.2f}, validation {bits:.2f}, sparsity {100 * sparsity:.1f} %"
            )
            if done % args.checkpoint_every == 0 or done == args.steps:
                saved = ocp.args.StandardSave(state), ocp.args.JsonSave(history)
                manager.save(done, args=ocp.args.Composite(state=saved[0], history=saved[1]))
            if done == args.stop_after:
                return

    masks = jaxprune.get_masks(state)
    summary = jaxprune.summary(state.params, masks)
    (_, first, _), *_, (_, last, _) = history["validation"]
    print(f"{summary}\nvalidation: {first:.2f} bits per byte at the start, {last:.2f} at the end")
    results = {
        "config": {**vars(args), "out": str(args.out)},
        "resumed_at": latest,
        "bits_per_byte": {"start": first, "end": last},
        "sparsity": summary.prunable.sparsity,
        "kept": {row.path: row.kept for row in summary.rows},
        "size": {row.path: row.size for row in summary.rows},
        "digest": {"params": digest(state.params), "masks": digest(masks)},
        "history": history,
    }
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    steps, validation, sparsity = np.transpose(history["validation"])
    losses = history["loss"]
    batches = range(1, len(losses) + 1), losses
    bits = {"training batch": batches, "validation": (steps, validation)}
    plots.training(steps, sparsity, {"bits per byte": bits}, path=args.out / "training.png")
    print(f"figures and a plot are in {args.out}")


if __name__ == "__main__":
    main()
