"""Sparse from start to end, and lottery tickets: what moving weights and rewinding are worth.

python -m benchmarks.sparse_training [--task digits|text|lottery|decay] [--quick] [--out FILE]

All methods train from the same random weights, for the same number of steps, with the same
optimizer and learning rates; leaves share the sparsity by ERK. Lottery tickets are networks for
digits: 20 % of what remains goes in each round.
"""

import argparse
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console
from tqdm import tqdm

import jaxprune as jp
from benchmarks.tables import table
from benchmarks.tasks import Digits, Text

OUT = pathlib.Path("out/sparse_training.json")
TASKS = ("digits", "text", "lottery", "decay")
LEVELS = (0.9, 0.95, 0.98)
SEEDS = 5
ERK = jp.allocate.erdos_renyi_kernel


def methods(level, steps, key):
    """Name -> a function from an optimizer to a transform."""
    when = jp.every(max(steps // 50, 1), begin=0, end=steps * 3 // 4)
    ramp = functools.partial(jp.polynomial, level, begin=steps // 10, end=steps * 3 // 4)
    moving = {"sparsity": level, "when": when, "key": key}
    phases = {"begin": steps // 8, "end": steps * 5 // 8}
    phases |= {"sparse": max(steps // 16, 1), "dense": max(steps // 16, 1)}
    return {
        "static": lambda tx: jp.static(tx, sparsity=level, score=jp.scores.random(key)),
        "SET": lambda tx: jp.set_(tx, **moving),
        "RigL": lambda tx: jp.rigl(tx, **moving),
        "RigL, gradual from 50 %": lambda tx: jp.rigl(
            tx,
            sparsity=jp.polynomial(level, init=0.5, begin=0, end=steps * 3 // 4),
            when=when,
            key=key,
        ),
        "Top-KAST": lambda tx: jp.top_kast(
            tx, sparsity=level, backward_sparsity=level - 0.1, allocate=ERK
        ),
        "straight-through": lambda tx: jp.straight_through(
            tx, sparsity=level, decay=2e-4, allocate=ERK
        ),
        "AC/DC": lambda tx: jp.prune(tx, sparsity=jp.ac_dc(level, **phases), allocate=ERK),
        "gradual": lambda tx: jp.prune(tx, sparsity=ramp(), when=when, allocate=ERK),
    }


def train(task, tx, params, key, steps, *, through=False, pause=None):
    """(params, masks) after the run, and the params after `pause` steps."""

    def step(carry, key):
        params, state = carry

        def loss(params):
            seen = jp.sparse_view(params, jp.get_masks(state)) if through else params
            return task.loss(seen, task.sample(key))

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    state = tx.init(params)
    if not through:
        params = jp.apply_masks(params, jp.get_masks(state))
    keys = jax.random.split(key, steps)
    pause = steps if pause is None else pause
    halfway = lax.scan(step, (params, state), keys[:pause])[0]
    params, state = lax.scan(step, halfway, keys[pause:])[0]
    masks = jp.get_masks(state)
    return jp.apply_masks(params, masks), masks, halfway[0]


def train_all(task, name, make, level, steps):
    """The metric of each seed, sparse and of the dense model on the way, and weights kept."""
    through = name in ("Top-KAST", "straight-through")
    pause = steps * 5 // 8 if name == "AC/DC" else None

    @jax.jit
    @jax.vmap
    def run(key):
        init, order, own = jax.random.split(key, 3)
        rate = optax.cosine_decay_schedule(task.rate, steps)
        tx = make(level, steps, own)[name](optax.adam(rate))
        params, masks, halfway = train(
            task, tx, task.init(init), order, steps, through=through, pause=pause
        )
        kept = sum(m.sum() for m in jax.tree.leaves(masks))
        return task.evaluate(params), task.evaluate(halfway), kept

    sparse, halfway, kept = map(np.asarray, run(jax.random.split(jax.random.key(0), SEEDS)))
    return sparse, halfway if name == "AC/DC" else None, kept


def dense(task, steps):
    """The metric of each seed, trained dense from the same weights and batches."""

    @jax.jit
    @jax.vmap
    def run(key):
        init, order, _ = jax.random.split(key, 3)
        params = task.init(init)
        tx = optax.adam(optax.cosine_decay_schedule(task.rate, steps))
        kept = jp.keep(tx, jp.masks.make(params, 0.0))
        return task.evaluate(train(task, kept, params, order, steps)[0])

    return np.asarray(run(jax.random.split(jax.random.key(0), SEEDS)))


def sparse_rows(task, *, quick=False):
    """Rows of the table of a task."""
    steps = 48 if quick else 2 * task.steps
    rows = [{"method": "dense", "0.0": dense(task, steps).tolist()}]
    for name in tqdm(methods(0.9, steps, None)):
        row = {"method": name}
        other = {"method": f"{name}, its dense model"}
        for level in LEVELS:
            found, halfway, kept = train_all(task, name, methods, level, steps)
            row[str(level)] = found.tolist()
            row.setdefault("kept", []).append(int(kept[0]))
            if halfway is not None:
                other[str(level)] = halfway.tolist()
        rows += [row] + ([other] if len(other) > 1 else [])
    return rows


def lottery_rows(task, *, quick=False):
    """Rows of tickets and controls, rewound to initialisation and to an early step."""
    steps, rounds = (40, 2) if quick else (task.steps, 17)
    early = max(steps // 20, 1)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    start = jax.jit(jax.vmap(task.init))(keys)
    order = jax.random.split(jax.random.key(1), SEEDS)

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def run(params, masks, begin, end):
        def one(params, masks, key):
            rate = optax.cosine_decay_schedule(task.rate, steps)
            tx = jp.keep(optax.adam(lambda t: rate(t + begin)), masks)

            def step(carry, key):
                params, state = carry
                grads = jax.grad(task.loss)(params, task.sample(key))
                updates, state = tx.update(grads, state, params)
                return (optax.apply_updates(params, updates), state), None

            every = jax.random.split(key, steps)[begin:end]
            params = lax.scan(step, (params, tx.init(params)), every)[0][0]
            return params, task.evaluate(params)

        return jax.vmap(one)(params, masks, order)

    def train_fn(begin):
        def train(params, masks, number):
            del number
            params, metric = run(params, masks, begin, steps)
            return params, {"metric": metric}

        return train

    dense_masks = jax.vmap(lambda p: jp.masks.make(p, 0.0))(start)
    later = run(start, dense_masks, 0, early)[0]
    rows = []
    for name, params, begin in (("step 0", start, 0), (f"step {early}", later, early)):
        tickets = jp.iterate.lottery_tickets(
            params, train_fn(begin), rounds=rounds, replicates=True, progress=True
        )
        others = jp.iterate.controls(
            jax.random.key(2),
            tickets,
            params,
            train_fn(begin),
            init_fn=lambda key: jax.vmap(task.init)(jax.random.split(key, SEEDS)),
            replicates=True,
            progress=True,
        )
        runs = {f"ticket, rewound to {name}": tickets[1:]}
        runs |= {f"{control}, {name}": found for control, found in others.items()}
        for label, found in runs.items():
            row = {"method": label}
            row |= {f"{one.sparsity:.3f}": one.metrics["metric"].tolist() for one in found}
            rows.append(row)
    return rows


def decay_rows(task, *, quick=False):
    """Rows of gradual pruning by magnitude, layer by layer, with penalties at different times."""
    steps = 40 if quick else 2 * task.steps
    begin, end = steps * 3 // 10, steps * 7 // 10
    rate = optax.cosine_decay_schedule(task.rate, steps)

    def decayed(schedule):
        return optax.adamw(rate, weight_decay=schedule)

    def l1(strength):
        early = optax.piecewise_constant_schedule(strength, {begin: 0.0})
        return optax.chain(optax.adam(rate), jp.proximal_l1(lambda t: rate(t) * early(t)))

    optimizers = {"no penalty": optax.adam(rate)}
    for decay in (0.1, 1.0):
        off = optax.piecewise_constant_schedule(decay, {end: 0.0})
        before = optax.piecewise_constant_schedule(decay, {begin: 0.0})
        optimizers |= {
            f"weight decay {decay:g}, throughout": decayed(decay),
            f"weight decay {decay:g}, off after pruning": decayed(off),
            f"weight decay {decay:g}, before pruning": decayed(before),
        }
    optimizers |= {f"L1 {x:g}, before pruning": l1(x) for x in (0.003, 0.03)}
    rows = []
    for name, optimizer in tqdm(optimizers.items()):

        def run(key, level, optimizer=optimizer):
            init, order, _ = jax.random.split(key, 3)
            ramp = jp.polynomial(level, begin=begin, end=end)
            tx = jp.prune(optimizer, sparsity=ramp, when=jp.every(max(steps // 50, 1)))
            params, masks, _ = train(task, tx, task.init(init), order, steps)
            return task.evaluate(params), sum(m.sum() for m in jax.tree.leaves(masks))

        every = jax.jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))
        found, kept = every(jax.random.split(jax.random.key(0), SEEDS), jnp.asarray(LEVELS))
        row = {"method": name, "kept": kept[:, 0].tolist()}
        rows.append(row | {str(s): v.tolist() for s, v in zip(LEVELS, found, strict=True)})
    return rows


def shown(rows, levels):
    """Means and, in brackets, the range over seeds."""
    for row in rows:
        cells = {"method": row["method"]}
        for level in levels:
            v = np.array(row.get(level, []))
            cells[level] = f"{v.mean():.2f} ({v.min():.2f}-{v.max():.2f})" if v.size else ""
        yield cells


def markdown(rows, levels):
    """The same table as Markdown."""
    heads = ["dense" if level == "0.0" else f"{100 * float(level):.4g} %" for level in levels]
    lines = [f"| method | {' | '.join(heads)} |", "|---" + "|---:" * len(levels) + "|"]
    lines += [f"| {' | '.join(cells.values())} |" for cells in shown(rows, levels)]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("out/sparse_training.json")
    )
    args = parser.parse_args()
    results, tables = {}, []
    for name in [args.task] if args.task else TASKS:
        task = Text() if name == "text" else Digits()
        if name == "lottery":
            rows = lottery_rows(task, quick=args.quick)
            levels = [level for level in rows[0] if level != "method"]
            levels = levels if args.quick else [levels[i - 1] for i in (3, 7, 10, 13, 17)]
        elif name == "decay":
            rows, levels = decay_rows(task, quick=args.quick), [*map(str, LEVELS)]
        else:
            rows, levels = sparse_rows(task, quick=args.quick), ["0.0", *map(str, LEVELS)]
        results[name] = rows
        title = f"{name}: {task.unit}, mean of {SEEDS} seeds (lowest to highest)"
        Console(width=180).print(table(title, list(shown(rows, levels))))
        tables.append(f"{name}\n\n{markdown(rows, levels)}\n")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1))
    args.out.with_suffix(".md").write_text("\n".join(tables))
    print(f"wrote {args.out} and {args.out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
