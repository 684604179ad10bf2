"""A language model with half of its heads and hidden units, that writes as the large one does.

    python examples/compact_lm.py                  # trains first; to out/compact_lm
    python examples/compact_lm.py --sparsity 0.75

The model is the decoder of sharded_lm.py, which reads bytes of the Python standard library's source
files; every tenth file is held out. It is trained, then trained on while heads and hidden units are
pruned, then cut; dense trains on beside it for as many steps. The width of the residual stream, and
that of a head, stay as they are.

The small model is a function of smaller arrays, at any batch size and length up to the context. The
figures of the table (results.json) and the mask of the heads (heads.png) go to --out.
"""

import argparse
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from compact_cnn import milliseconds
from oneshot_lm import cut_windows, spread_windows
from rich.console import Console
from rich.table import Table
from sharded_lm import BATCH, CONTEXT, Decoder, bits_per_byte, load_text
from tqdm import tqdm

import jaxprune
from jaxprune import compact
from jaxprune.analysis import plots

TIMED = 64  # windows


def train(name, tx, params, apply, text, steps):
    """Params and the optimizer's state after some steps; nothing in it knows of pruning."""

    @jax.jit
    def step(params, opt_state, windows):
        loss, grads = jax.value_and_grad(bits_per_byte)(params, apply, windows)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    opt_state, rng = tx.init(params), np.random.default_rng(0)
    for _ in (bar := tqdm(range(steps), desc=name, unit="step")):
        windows = cut_windows(text, rng.integers(0, len(text) - CONTEXT, BATCH))
        params, opt_state, loss = step(params, opt_state, windows)
    bar.set_postfix_str(f"bits per byte {loss:.2f}")
    return params, opt_state


def adamw(steps, peak):
    rate = optax.warmup_cosine_decay_schedule(0, peak, steps // 20, steps)
    return optax.adamw(rate, b2=0.95, weight_decay=0.1)


def heads_and_hidden(groups):
    """A share of the heads and of the hidden units; features of a head and the stream stay."""
    return [g.name for g in groups if g.name.endswith(("query/kernel[1]", "up/kernel[1]"))]


def make_writer(apply):
    """write(variables, text, number, key): the text and as many more bytes, drawn one by one."""

    @jax.jit
    def draw(variables, window, last, key):
        logits = apply(variables, window[None])[0, last]
        return jax.random.categorical(key, logits / 0.7)

    def write(variables, text, number, key):
        text = list(text)
        for i in range(number):
            seen = text[-CONTEXT:]
            window = np.zeros(CONTEXT, int)
            window[: len(seen)] = seen  # attention is causal: what comes behind has no part
            step_key = jax.random.fold_in(key, i)
            text.append(int(draw(variables, window, len(seen) - 1, step_key)))
        return bytes(text)

    return write


def table(results):
    made = Table("", *results)
    for label, key, text in [
        ("bits per held-out byte", "bits_per_byte", "{:.3f}"),
        ("parameters", "parameters", "{:,}"),
        ("multiply-adds of a window", "macs", "{:,}"),
        (f"ms for {TIMED} windows", "milliseconds", "{:.1f}"),
    ]:
        made.add_row(label, *(text.format(found[key]) for found in results.values()))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sparsity", type=float, default=0.5, help="of heads and hidden units")
    parser.add_argument("--steps", type=int, default=400, help="of training, and of pruning")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15, help="calls to time")
    parser.add_argument("--bytes", type=int, default=200, help="to write at the end")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/compact_lm"))
    args = parser.parse_args()

    text, held_out = load_text()
    model = Decoder(args.width, args.layers)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, CONTEXT), int))
    fit = functools.partial(train, apply=model.apply, text=text)
    params, _ = fit("first", adamw(args.steps, 3e-3), variables["params"], steps=args.steps)
    again = adamw(args.steps, 1e-3)
    dense, _ = fit("dense", again, params, steps=args.steps)

    # What is tied to what; heads and hidden units alone are to be cut.
    tokens = jax.ShapeDtypeStruct((1, CONTEXT), jnp.int32)
    groups = compact.trace_groups(model.apply, {"params": params}, tokens)
    goal = compact.plan(
        groups,
        {"params": params},
        sparsity=args.sparsity,
        skip=["params/embed/.*"],  # the residual stream
    )
    goal = compact.Plan(groups, {name: goal.kept[name] for name in heads_and_hidden(groups)})
    print(goal)

    # Pruning while training: at each event the lowest heads and units go, up to what the plan says.
    end = args.steps * 3 // 5
    pruner = jaxprune.prune(
        again,
        sparsity=jaxprune.polynomial(goal.sparsity, begin=0, end=end),
        when=jaxprune.every(max(args.steps // 40, 1), begin=0, end=end),
        pattern=goal.pattern(under="params"),
    )
    masked, opt_state = fit("pruned", pruner, params, steps=args.steps)

    # Smaller arrays, and the same function of them.
    plan = compact.plan_from_masks(groups, jaxprune.get_masks(opt_state), under="params")
    windows = jnp.asarray(spread_windows(held_out, 512))
    some = windows[:4, :-1].astype(int)
    print(compact.verify(plan, {"params": masked}, some, key=jax.random.key(1)))
    small = plan.cut(masked)

    networks = {
        "dense": (model.apply, dense),
        "masked": (model.apply, masked),
        "compact": (plan.apply, small),
    }
    timed = windows[:TIMED, :-1].astype(int)
    calls = {
        name: functools.partial(jax.jit(apply), {"params": params}, timed)
        for name, (apply, params) in networks.items()
    }
    spent = milliseconds(calls, args.rounds)
    results = {
        name: {
            "bits_per_byte": float(
                jax.jit(bits_per_byte, static_argnums=1)(params, apply, windows)
            ),
            "parameters": plan.parameters[name == "compact"],
            "macs": plan.macs[name == "compact"],
            "milliseconds": spent[name],
        }
        for name, (apply, params) in networks.items()
    }
    Console().print(table(results))
    print(
        f"compact takes 1 / {spent['dense'] / spent['compact']:.2f} of the time of dense with "
        f"{plan.macs[1] / plan.macs[0]:.2f} of its multiply-adds"
    )
    begin = b"    def __init__(self, "
    written = make_writer(plan.apply)({"params": small}, begin, args.bytes, jax.random.key(2))
    print(f"\nThe compact model writes:\n{written.decode(errors='replace')}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    name, masks = "block_0/attention/query/kernel", jaxprune.get_masks(opt_state)
    query = masks["block_0"]["attention"]["query"]["kernel"]
    plots.mask(query, name=name, path=args.out / "heads.png")


if __name__ == "__main__":
    main()
