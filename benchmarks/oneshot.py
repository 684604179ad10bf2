"""One-shot pruning of single layers: SparseGPT beside PyTorch, and what each method gives.

python -m benchmarks.oneshot [--only speed|quality] [--inputs 4096] [--rounds 3] [--quick]

Speed: SparseGPT at 50 % against the published algorithm in PyTorch (a peer, not a dependency) on
the same W and H, in turn within one run. Quality: the loss relative to that of SparseGPT, with
damping 0.01, and judged with the Gram matrix without damping. Layers are those of networks trained
on digits and on text, with the inputs that they see in training data, and a synthetic one: inputs
of decaying spectrum, of which a few stand out. Where other programs use the machine, set
OPENBLAS_NUM_THREADS=1: threads of the eigendecomposition of `alps` that wait for each other are
slow beyond measure.
"""

import argparse
import functools
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from benchmarks.tables import table
from benchmarks.tasks import Digits, Text, fit
from benchmarks.timing import compiled, interleaved, milliseconds, once, ratio
from jaxprune.oneshot import cores

CUTS = {
    "50 %": (0.5, cores.Cut()),
    "70 %": (0.7, cores.Cut()),
    "2:4": (0.5, cores.Cut(nm=(2, 4))),
}
OBC_INPUTS = 256  # more take longer than a benchmark should


def torch_sparsegpt(torch, W, H, sparsity, block=128):
    """The published algorithm on W [outputs, inputs], with 0.5 for `sparsity`, or (2, 4)."""
    W = W.clone()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H))
    U = torch.linalg.cholesky(inverse, upper=True)
    for a in range(0, W.shape[1], block):
        b = min(a + block, W.shape[1])
        part, own = W[:, a:b].clone(), U[a:b, a:b]
        d = torch.diag(own)
        errors, gone = torch.zeros_like(part), torch.zeros_like(part, dtype=torch.bool)
        if not isinstance(sparsity, tuple):
            scores = part**2 / d[None] ** 2
            gone = scores <= torch.sort(scores.flatten())[0][int(scores.numel() * sparsity) - 1]
        for i in range(b - a):
            if isinstance(sparsity, tuple) and i % sparsity[1] == 0:
                n, m = sparsity
                scores = part[:, i : i + m] ** 2 / d[None, i : i + m] ** 2
                lowest = torch.topk(scores, m - n, dim=1, largest=False)[1]
                gone.scatter_(1, i + lowest, True)
            w = part[:, i]
            kept = torch.where(gone[:, i], 0.0, w)
            error = (w - kept) / d[i]
            part[:, i:] -= error[:, None] @ own[i, i:][None]
            part[:, i], errors[:, i] = kept, error
        W[:, a:b] = part
        W[:, b:] -= errors @ U[a:b, b:]
    return W


def speed(inputs, rounds):
    """Rows: seconds of both, in turn, compile time, and memory in Gram matrices."""
    try:
        import torch
    except ImportError:
        torch = None
    rng = np.random.default_rng(0)
    X = rng.normal(size=(inputs + 256, inputs)).astype(np.float32)
    X *= np.arange(1, inputs + 1, dtype=np.float32) ** -0.25
    W = jnp.asarray(rng.normal(size=(inputs, inputs)), jnp.float32)
    H = cores.damped(jnp.asarray(X.T @ X))
    keep = W.size // 2
    for name, sparsity in (("50 %", 0.5), ("2:4", (2, 4))):
        run = functools.partial(cores.sparsegpt, cut=CUTS[name][1])
        program, seconds, temporary = compiled(run, W, H, keep)
        row = {
            "SparseGPT": f"{name} of {inputs} x {inputs}",
            "compile, s": f"{seconds:.1f}",
            "temporary, Gram matrices": f"{temporary / H.nbytes:.2f}",
        }
        functions = {"jaxprune": functools.partial(program, W, H, keep)}
        if torch is not None:
            w, h = torch.tensor(np.asarray(W).T.copy()), torch.tensor(np.asarray(H))
            theirs = functools.partial(torch_sparsegpt, torch, w, h, sparsity)
            functions["PyTorch"] = lambda f=theirs: f().numpy()
        times = interleaved(functions, rounds=rounds, warmup=1)
        row |= {f"{key}, s": f"{milliseconds(t) / 1e3:.2f}" for key, t in times.items()}
        if torch is not None:
            row["PyTorch / jaxprune"] = f"{ratio(times['PyTorch'], times['jaxprune']):.2f}"
            got = cores.loss(program(W, H, keep)[0] - W, H)
            row["loss / theirs"] = f"{got / cores.loss(jnp.asarray(theirs().numpy().T) - W, H):.4f}"
        yield row


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
    "Wanda": lambda W, H, keep, cut: masked(W, cores.wanda(W, jnp.diagonal(H), keep, cut)),
    "SparseGPT": lambda *args: cores.sparsegpt(*args)[0],
    "SparseGPT, refitted": refitted,
    "OBC": lambda *args: cores.obc(*args)[0],
    "ALPS": lambda *args: cores.alps(*args)[0],
}


def quality(quick):
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
                spent = [once(lambda run=run: run(W, square, keep, cut)) for _ in range(3)]  # noqa: B023
                found = cores.loss(pruned - W, H) / base
                row[method] = f"{found:.2f} ({statistics.median(spent):.2f} s)"
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
        rows = speed(512 if args.quick else args.inputs, 1 if args.quick else args.rounds)
        console.print(table("SparseGPT beside PyTorch", list(rows)))
    if args.only != "speed":
        title = "loss relative to SparseGPT's (seconds)"
        console.print(table(title, list(quality(args.quick))))


if __name__ == "__main__":
    main()
