"""One-shot pruning of single layers: SparseGPT beside PyTorch, and what each method gives.

python -m benchmarks.oneshot [--only speed|quality] [--inputs 4096] [--rounds 3] [--quick]

Speed: SparseGPT and Wanda against the published algorithms in PyTorch (a peer, not a dependency)
on the same W and H, in turn within one run. Quality: the loss relative to that of SparseGPT, with
damping 0.01, and judged with the Gram matrix without damping. Layers are those of networks trained
on digits and on text, with the inputs that they see in training data, and a synthetic one: inputs
of decaying spectrum, of which a few stand out. Where other programs use the machine, set
OPENBLAS_NUM_THREADS=1: threads of the eigendecomposition of `alps` that wait for each other are
slow beyond measure.
"""

import argparse
import functools
import importlib
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from benchmarks.environment import peer_version
from benchmarks.peers import tried
from benchmarks.tables import NOTES, table
from benchmarks.tasks import Digits, Text, fit
from benchmarks.timing import compiled, interleaved, milliseconds, once, ratio
from jaxprune.oneshot import cores

CUTS = {
    "50 %": (0.5, cores.Cut()),
    "70 %": (0.7, cores.Cut()),
    "2:4": (0.5, cores.Cut(nm=(2, 4))),
}
OBC_INPUTS = 256  # more take longer than a benchmark should


def sparsegpt_core(W, H, keep, cut):
    return cores.sparsegpt(W, H, keep, cut)[0]


def wanda_core(W, H, keep, cut):
    return masked(W, cores.wanda(W, jnp.diagonal(H), keep, cut))


def speed_rows(rounds, quick=False, inputs=4096):
    """Rows: seconds of both, in turn, compile time, and memory in Gram matrices."""
    inputs = 512 if quick else inputs
    rng = np.random.default_rng(0)
    X = rng.normal(size=(inputs + 256, inputs)).astype(np.float32)
    X *= np.arange(1, inputs + 1, dtype=np.float32) ** -0.25
    W = jnp.asarray(rng.normal(size=(inputs, inputs)), jnp.float32)
    H = cores.damped(jnp.asarray(X.T @ X))
    cases = {"sparsegpt": ("SparseGPT", sparsegpt_core), "wanda": ("Wanda", wanda_core)}
    for name, (title, core) in cases.items():
        for kept, sparsity in (("50 %", 0.5), ("2:4", (2, 4))):
            run = functools.partial(core, cut=CUTS[kept][1])
            program, seconds, temporary = compiled(run, W, H, W.size // 2)
            functions = {"jaxprune": functools.partial(program, W, H, W.size // 2)}
            peer = functools.partial(torchs, name, W, H, sparsity)
            theirs, failed = tried({"PyTorch": peer} if peer_version("torch") else {})
            functions |= theirs
            times = interleaved(functions, rounds=rounds, warmup=1)
            row = {"method": f"{title}, {kept} of {inputs} x {inputs}"}
            row |= {"compile, s": seconds, "temporary, Gram matrices": temporary / H.nbytes}
            row |= dict.fromkeys(("jaxprune, s", "PyTorch, s", "PyTorch / jaxprune"))
            row |= {f"{key}, s": milliseconds(t) / 1e3 for key, t in times.items()}
            row["loss / theirs"] = None
            if theirs:
                row["PyTorch / jaxprune"] = ratio(times["PyTorch"], times["jaxprune"])
                lost = cores.loss(functions["jaxprune"]() - W, H)
                row["loss / theirs"] = f"{lost / cores.loss(theirs['PyTorch']().T - W, H):.4f}"
            yield row | {NOTES: failed}


def torchs(name, W, H, sparsity):
    """A method in PyTorch, where outputs stand first."""
    import torch

    method = getattr(importlib.import_module("benchmarks.torch_oneshot"), name)
    tensors = torch.tensor(np.asarray(W).T.copy()), torch.tensor(np.asarray(H))
    return lambda: method(*tensors, sparsity).numpy()


class Seen:
    """A kernel that remembers what it is multiplied with."""

    def __init__(self, kernel):
        self.kernel, self.inputs = kernel, []

    def __rmatmul__(self, x):
        self.inputs.append(x.reshape(-1, x.shape[-1]))
        return x @ self.kernel


def seen_by(task, params, batches):
    """Name -> (W, X) of each layer."""
    is_layer = lambda x: isinstance(x, dict) and "kernel" in x  # noqa: E731
    watched = jax.tree.map(
        lambda x: x | {"kernel": Seen(x["kernel"])} if is_layer(x) else x, params, is_leaf=is_layer
    )
    for batch in batches:
        task.logits(watched, batch)
    found = jax.tree_util.tree_flatten_with_path(watched, is_leaf=lambda x: isinstance(x, Seen))[0]
    return {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/"): (
            x.kernel,
            jnp.concatenate(x.inputs),
        )
        for path, x in found
        if isinstance(x, Seen)
    }


class WideText(Text):
    width = 128


def layers(quick):
    """Name -> (W, X)."""
    found = {}
    for name, task in (("digits", Digits()), ("text", WideText())):
        steps = 20 if quick else task.steps
        train = jax.jit(lambda key, task=task, steps=steps: _trained(task, key, steps))
        params = train(jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), 2 if quick else 16)
        batches = [task.x] if name == "digits" else [task.sample(key)[:, :-1] for key in keys]
        of_task = seen_by(task, params, batches)
        names = {
            "digits": ["layer_1"],
            "text": ["block_0/qkv", "block_1/up", "block_1/down"],
        }[name]
        found |= {f"{name}: {layer}": of_task[layer] for layer in names}
    rng = np.random.default_rng(0)
    n = 256
    X = rng.normal(size=(4 * n, n)) @ (
        np.arange(1, n + 1)[:, None] ** -0.5 * rng.normal(size=(n, n))
    )
    X[:, rng.choice(n, 4, replace=False)] *= 10
    W = rng.normal(size=(n, n)) / n**0.5
    return found | {"synthetic": (jnp.asarray(W, jnp.float32), jnp.asarray(X, jnp.float32))}


def _trained(task, key, steps):
    return fit(task, optax.adam(task.rate), task.init(key), key, steps)[0]


def masked(W, mask):
    return jnp.where(mask, W, 0)


def refitted(W, H, keep, cut):
    return cores.refit(W, H, cores.sparsegpt(W, H, keep, cut)[1])


METHODS = {
    "magnitude": lambda W, H, keep, cut: masked(W, cores.magnitude(W, keep, cut)),
    "Wanda": wanda_core,
    "SparseGPT": sparsegpt_core,
    "SparseGPT, refitted": refitted,
    "OBC": lambda *args: cores.obc(*args)[0],
    "ALPS": lambda *args: cores.alps(*args)[0],
}


def quality_rows(rounds, quick=False):
    """Rows: loss relative to SparseGPT's and seconds, of each method on each layer."""
    for layer, (W, X) in layers(quick).items():
        H = jnp.matmul(X.T, X, precision="highest")
        square = cores.damped(H)
        for name, (sparsity, cut) in CUTS.items():
            keep = round(W.size * (1 - sparsity))
            base = cores.loss(METHODS["SparseGPT"](W, square, keep, cut) - W, H)
            row = {"layer": f"{layer} {W.shape[0]}x{W.shape[1]}", "kept": name}
            row["SparseGPT / all"] = f"{base / cores.loss(W, H):.4f}"
            for method, core in METHODS.items():
                if method == "OBC" and (quick or len(W) > OBC_INPUTS):
                    row[method] = ""
                    continue
                run = jax.jit(core, static_argnums=3)
                pruned = run(W, square, keep, cut)
                spent = [once(lambda run=run: run(W, square, keep, cut)) for _ in range(rounds)]  # noqa: B023
                found = cores.loss(pruned - W, H) / base
                row[method] = f"{found:.2f} ({statistics.median(spent):.2f})"
            yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("speed", "quality"))
    parser.add_argument("--inputs", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    args = parser.parse_args()
    console = Console(width=180)
    if args.only != "quality":
        rows = speed_rows(1 if args.quick else args.rounds, args.quick, args.inputs)
        console.print(table("Beside PyTorch", list(rows)))
    if args.only != "speed":
        title = "loss relative to SparseGPT's (seconds)"
        console.print(table(title, list(quality_rows(args.rounds, args.quick))))


if __name__ == "__main__":
    main()
