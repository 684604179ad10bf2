"""A trained language model, pruned in one shot by each method and compared on held-out text.

    python examples/oneshot_lm.py                       # trains first; to out/oneshot_lm
    python examples/oneshot_lm.py --load out/oneshot_lm/model.safetensors
    python examples/oneshot_lm.py --methods wanda sparsegpt --sparsities 0.5 --windows 16

The model is the decoder of sharded_lm.py: it reads bytes of the Python standard library's source
files, and every tenth file is held out. A few windows of the training text are all that pruning
sees; nothing is trained afterwards. 2:4 keeps two of every four weights along the inputs of each
product, as sparse matrix units take them.

Figures (results.json) and a plot (sparsity.png) go to --out, with the dense model.
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from rich.console import Console
from rich.table import Table
from safetensors.flax import load_file, save_file
from sharded_lm import BATCH, CONTEXT, HEAD, Decoder, bits_per_byte, load_text
from tqdm import tqdm

from jaxprune import NM, Rule, oneshot
from jaxprune.analysis import plots

METHODS = {
    "magnitude": oneshot.magnitude(),
    "wanda": oneshot.wanda(),
    "sparsegpt": oneshot.sparsegpt(),
    "alps": oneshot.alps(),
}
# Kernels of query, key and value are (inputs, heads, width): N:M lies along their first axis.
HEADS_2_4 = Rule(".*/(query|key|value)/kernel", pattern=NM(2, 4, axis=0))


def train(text, width, layers, steps):
    """Params of a decoder that has read `steps` batches of the text."""
    model, key = Decoder(width, layers), jax.random.key(0)
    params = model.init(key, jnp.zeros((1, CONTEXT), int))["params"]
    rate = optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 20, steps)
    tx = optax.adamw(rate, b2=0.95, weight_decay=0.1)

    @jax.jit
    def step(params, opt_state, windows):
        loss, grads = jax.value_and_grad(bits_per_byte)(params, model.apply, windows)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    opt_state, rng = tx.init(params), np.random.default_rng(0)
    for i in (bar := tqdm(range(steps), desc="training", unit="step")):
        windows = cut_windows(text, rng.integers(0, len(text) - CONTEXT, BATCH))
        params, opt_state, loss = step(params, opt_state, windows)
        if i % 20 == 0 or i == steps - 1:
            bar.set_postfix_str(f"bits per byte {loss:.2f}")
    return params


def cut_windows(text, starts):
    return text[starts[:, None] + np.arange(CONTEXT + 1)]


def spread_windows(text, number):
    """So many windows at equal distances."""
    return cut_windows(text, np.linspace(0, len(text) - CONTEXT - 1, number, dtype=int))


def load(path):
    """(model, params): what a model is, its arrays say."""
    params = unflatten_dict(load_file(path), sep="/")
    width = params["embed"]["embedding"].shape[1]
    return Decoder(width, sum(name.startswith("block_") for name in params)), params


def settings(sparsities):
    """Heading of a column -> arguments of `prune_model`."""
    columns = {f"{100 * s:g} %": {"sparsity": s} for s in sparsities}
    columns["2:4"] = {"sparsity": 0.5, "pattern": NM(2, 4), "rules": [HEADS_2_4]}
    return columns


def table(runs, columns, dense):
    """Held-out bits per byte; rows are methods."""
    made = Table(title=f"bits per byte of held-out text; {dense:.3f} dense", min_width=60)
    made.add_column("method")
    for name in [*columns, "time"]:
        made.add_column(name, justify="right")
    for name, found in runs.items():
        seconds = sum(run["seconds"] for run in found.values())
        bits = (f"{found[column]['bits_per_byte']:.3f}" for column in columns)
        made.add_row(name, *bits, f"{seconds:.0f} s")
    return made


def points(runs, columns):
    """For the plot: each method by its sparsities, and with 2:4 as one beside it."""
    found = {}
    for column, how in columns.items():
        for name, run in runs.items():
            line = f"{name}, 2:4" if column == "2:4" else name
            found.setdefault(line, {})[how["sparsity"]] = run[column]["bits_per_byte"]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", type=pathlib.Path, help="safetensors; else one is trained")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--width", type=int, default=128, help=f"a multiple of {HEAD}")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--windows", type=int, default=64, help=f"calibration, of {CONTEXT} bytes")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.5, 0.6, 0.7, 0.8])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/oneshot_lm"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    text, held_out = load_text()
    if args.load is None:
        args.load = args.out / "model.safetensors"
        params = train(text, args.width, args.layers, args.steps)
        save_file(flatten_dict(params, sep="/"), args.load)
    model, params = load(args.load)
    windows = spread_windows(held_out, 512)
    evaluate = jax.jit(lambda params: bits_per_byte(params, model.apply, windows))
    dense = float(evaluate(params))

    batches = np.array_split(spread_windows(text, args.windows)[:, :-1], -(-args.windows // 32))
    apply = lambda params, batch: model.apply({"params": params}, batch)  # noqa: E731
    columns, runs = settings(args.sparsities), {name: {} for name in args.methods}
    work = [(name, column) for name in runs for column in columns]
    for name, column in (bar := tqdm(work, unit="run")):
        bar.set_description(f"{name}, {column}")
        pruned, _, report = oneshot.prune_model(
            apply, params, batches, method=METHODS[name], **columns[column]
        )
        runs[name][column] = {
            "bits_per_byte": float(evaluate(pruned)),
            "sparsity": report.sparsity,
            "seconds": report.seconds,
            "layers": {
                layer.name: {"size": layer.size, "kept": layer.kept, "error": layer.error}
                for layer in report.layers
            },
        }
    Console(width=100).print(table(runs, columns, dense))
    config = {**vars(args), "load": str(args.load), "out": str(args.out)}
    results = {"config": config, "dense": dense, "runs": runs}
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    plots.tradeoff(
        points(runs, columns),
        metric="bits per byte of held-out text",
        dense=dense,
        like={f"{name}, 2:4": name for name in runs},
        path=args.out / "sparsity.png",
    )
    print(f"figures and a plot are in {args.out}")


if __name__ == "__main__":
    main()
