"""What sparse training costs beside a plain step of the optimizer, on the tree of ResNet-50.

python -m benchmarks.sparse_step [--rounds N]

The optimizer alone, without a model: gradients are given. Each method between its events, and at
one; and eight members under one vmap, of a smaller tree, beside one by itself.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

import jaxprune as jp
from benchmarks import timing, trees
from benchmarks.step import Loop
from benchmarks.tables import table

MEMBERS = 8


def adam():
    return optax.adam(1e-3)


def methods(when, every):
    """Name -> transform, with events when and as often as said."""
    moving = {"sparsity": 0.9, "key": jax.random.key(1), "when": when}
    masks = {"forward": 0.9, "backward": 0.8}
    return {
        "static": jp.static(adam(), sparsity=0.9, score=jp.scores.random(jax.random.key(1))),
        "SET": jp.set_(adam(), **moving),
        "RigL": jp.rigl(adam(), **moving),
        "SRigL": jp.srigl(adam(), **moving),
        "straight-through": jp.straight_through(adam(), sparsity=0.9, every=every),
        "SR-STE": jp.straight_through(adam(), sparsity=0.9, every=every, decay=2e-4),
        "Top-KAST": jp.top_kast(
            adam(), sparsity=masks["forward"], backward_sparsity=masks["backward"], every=every
        ),
        "proximal L1": optax.chain(adam(), jp.proximal_l1(1e-7)),
        "group lasso": optax.chain(adam(), jp.group_lasso(1e-7)),
    }


def cost_rows(rounds, quick=False):
    """Rows of the table of methods."""
    params = trees.resnet50(jax.random.key(0), trees.SMALL if quick else trees.RESNET50)
    grads = jax.tree.map(lambda x: 1e-3 * x, params)
    between = methods(jp.every(10**6, begin=10**6, end=2 * 10**6), 10**6)
    at = methods(jp.every(1, begin=0, end=1000), 1)
    select = jax.jit(lambda p: jp.masks.make(p, 0.9))
    bytes_ = sum(x.size for x in jax.tree.leaves(params)) * 4
    for name in between:
        loops = {
            "plain": Loop(adam(), params, grads),
            "between": Loop(between[name], params, grads),
        }
        if name in ("straight-through", "SR-STE", "Top-KAST", "SET", "RigL", "SRigL"):
            loops["event"] = Loop(at[name], params, grads)
        times = timing.interleaved({**loops, "selection": lambda: select(params)}, rounds=rounds)
        row = {"method": name, "between events, x plain": ratio(times, "between")}
        if "event" in loops:
            row["event, x plain"] = ratio(times, "event")
            row["selection, x plain"] = ratio(times, "selection")
        row["temporary, x params"] = loops["between"].temporary / bytes_
        row["compile, s"] = loops["between"].compile_s
        yield row


def ratio(times, name):
    return float(np.median(np.array(times[name]) / np.array(times["plain"])))


def member_rows(rounds, quick=False):
    """Eight members under one vmap beside one by itself, between events."""
    side = 64 if quick else 512
    params = {f"layer_{i}": {"kernel": jnp.ones((side, side)) + i} for i in range(4)}
    stacked = jax.tree.map(lambda x: jnp.stack([x] * MEMBERS), params)
    between = methods(jp.every(10**6, begin=10**6, end=2 * 10**6), 10**6)
    for name in ("static", "SET", "RigL", "SRigL", "straight-through", "Top-KAST"):
        tx = between[name]
        together = optax.GradientTransformation(jax.vmap(tx.init), jax.vmap(tx.update))
        plain = optax.GradientTransformation(jax.vmap(adam().init), jax.vmap(adam().update))
        loops = {
            "one": Loop(tx, params, params),
            "eight": Loop(together, stacked, stacked),
            "plain": Loop(plain, stacked, stacked),
        }
        times = {k: np.array(v) for k, v in timing.interleaved(loops, rounds=rounds).items()}
        yield {
            "method": name,
            "a member, x one alone": float(np.median(times["eight"] / times["one"]) / MEMBERS),
            "eight, x eight plain": float(np.median(times["eight"] / times["plain"])),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    console = Console(width=160)
    console.print(table(f"adam, {MEMBERS} members", list(member_rows(args.rounds))))
    console.print(table("adam on the tree of ResNet-50", list(cost_rows(args.rounds))))


if __name__ == "__main__":
    main()
