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

import jaxprune as jp
from benchmarks.studies import Size, cells, each, each_at, gather
from benchmarks.tables import markdown, table
from benchmarks.tasks import Digits, Text

FULL = Size(seeds=5, levels=(0.9, 0.95, 0.98))
QUICK = Size(seeds=1, levels=(0.9,), shorter=20)
MOST_SEEDS = {Text: 3}  # of a task whose networks take long
ROUNDS = (3, 7, 10, 13, 17)  # of lottery tickets that are shown
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
    """(params, masks) after the run, and the params after `pause` steps, or None without."""

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
    keys, carry, halfway = jax.random.split(key, steps), (params, state), None
    if pause:
        carry = lax.scan(step, carry, keys[:pause])[0]
        halfway = carry[0]
    params, state = lax.scan(step, carry, keys[pause:])[0]
    masks = jp.get_masks(state)
    return jp.apply_masks(params, masks), masks, halfway


def train_all(task, name, level, steps, seeds=FULL.seeds):
    """The metric of each seed, sparse; and of the dense model on the way, where there is one."""
    through = name in ("Top-KAST", "straight-through")
    pause = steps * 5 // 8 if name == "AC/DC" else None

    def run(key):
        init, order, own = jax.random.split(key, 3)
        rate = optax.cosine_decay_schedule(task.rate, steps)
        tx = methods(level, steps, own)[name](optax.adam(rate))
        params, _, halfway = train(
            task, tx, task.init(init), order, steps, through=through, pause=pause
        )
        found = [params] if halfway is None else [params, halfway]
        return [task.evaluate(params) for params in found]

    return np.asarray(each(run, jax.random.split(jax.random.key(0), seeds)))


def dense(task, steps, seeds=FULL.seeds):
    """The metric of each seed, trained dense from the same weights and batches."""

    def run(key):
        init, order, _ = jax.random.split(key, 3)
        params = task.init(init)
        tx = optax.adam(optax.cosine_decay_schedule(task.rate, steps))
        kept = jp.keep(tx, jp.masks.make(params, 0.0))
        return task.evaluate(train(task, kept, params, order, steps)[0])

    return np.asarray(each(run, jax.random.split(jax.random.key(0), seeds)))


def sparse_units(task, size=FULL):
    """Name -> a function that gives rows: a method at one level."""
    steps = 2 * task.steps // size.shorter
    seeds = min(size.seeds, MOST_SEEDS.get(type(task), size.seeds))

    def of_dense():
        return [{"method": "dense", "0.0": dense(task, steps, seeds).tolist()}]

    def of(name, level):
        found = train_all(task, name, level, steps, seeds).tolist()
        rows = [{"method": name, str(level): found[0]}]
        rows += [{"method": f"{name}, its dense model", str(level): x} for x in found[1:]]
        return rows

    return {"dense": of_dense} | {
        f"{name}, {level:g}": functools.partial(of, name, level)
        for name in methods(0.9, steps, None)
        for level in size.levels
    }


def lottery_units(task, size=FULL):
    """Name -> a function that gives rows: tickets and controls, rewound to one step."""
    early = max(task.steps // size.shorter // 20, 1)
    return {
        f"step {step}": functools.partial(lottery_rows, task, size, step) for step in (0, early)
    }


def lottery_rows(task, size, begin):
    """Rows of tickets and controls that are rewound to step `begin`."""
    steps, rounds = task.steps // size.shorter, 17 if size.shorter == 1 else 2
    keys = jax.random.split(jax.random.key(0), size.seeds)
    start = jax.jit(jax.vmap(task.init))(keys)
    order = jax.random.split(jax.random.key(1), size.seeds)

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
    params = run(start, dense_masks, 0, begin)[0] if begin else start
    tickets = jp.iterate.lottery_tickets(
        params, train_fn(begin), rounds=rounds, replicates=True, progress=True
    )
    others = jp.iterate.controls(
        jax.random.key(2),
        tickets,
        params,
        train_fn(begin),
        init_fn=lambda key: jax.vmap(task.init)(jax.random.split(key, size.seeds)),
        replicates=True,
        progress=True,
    )
    runs = {f"ticket, rewound to step {begin}": tickets[1:]}
    runs |= {f"{control}, step {begin}": found for control, found in others.items()}
    shown = [i - 1 for i in ROUNDS if i <= rounds] or [0]
    return [
        {"method": label}
        | {f"{found[i].sparsity:.3f}": found[i].metrics["metric"].tolist() for i in shown}
        for label, found in runs.items()
    ]


def decay_units(task, size=FULL):
    """Name -> a function that gives rows: gradual pruning by magnitude with a penalty."""
    steps = 2 * task.steps // size.shorter
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

    def of(name, optimizer):
        def run(key, level):
            init, order, _ = jax.random.split(key, 3)
            ramp = jp.polynomial(level, begin=begin, end=end)
            tx = jp.prune(optimizer, sparsity=ramp, when=jp.every(max(steps // 50, 1)))
            return task.evaluate(train(task, tx, task.init(init), order, steps)[0])

        keys = jax.random.split(jax.random.key(0), size.seeds)
        found = each_at(run, jnp.asarray(size.levels), keys)
        levels = {str(s): v.tolist() for s, v in zip(size.levels, found, strict=True)}
        return [{"method": name} | levels]

    return {name: functools.partial(of, name, tx) for name, tx in optimizers.items()}


TASKS = {
    "digits": (Digits, sparse_units),
    "text": (Text, sparse_units),
    "lottery": (Digits, lottery_units),
    "decay": (Digits, decay_units),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("out/sparse_training.json")
    )
    args = parser.parse_args()
    results, tables = {}, []
    size = QUICK if args.quick else FULL
    for name in [args.task] if args.task else TASKS:
        make_task, units = TASKS[name]
        task = make_task()
        results[name] = gather(units(task, size))
        title = f"{name}: {task.unit}, mean of the seeds (lowest to highest)"
        rows = cells(results[name])
        Console(width=180).print(table(title, rows))
        tables.append(f"{name}\n\n{markdown(rows)}\n")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1))
    args.out.with_suffix(".md").write_text("\n".join(tables))
    print(f"wrote {args.out} and {args.out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
