"""What each criterion costs at 25 million parameters, as a multiple of one training step.

python -m benchmarks.criterion_cost [--rounds N] [--batch N] [--probe-batch N] [--blocks N ...]
    [--only TEXT] [--quick] [--out FILE]

The training step is forward and backward of ResNet-50 at 224x224, and sgd with momentum. Of the
update alone, with and without `prune`, the differences are measured: at an event, and between two,
where some criteria remember gradients.
"""

import argparse
import functools
import json
import pathlib

import jax
import optax
from jax import lax
from rich.console import Console
from tqdm import tqdm

import jaxprune as jp
from benchmarks import files, resnet50, timing, trees
from benchmarks.environment import environment, sentence
from benchmarks.step import Loop
from benchmarks.tables import table

WARMUP = 1


def optimizer():
    """The same for all."""
    return optax.sgd(1e-3, momentum=0.9)


def criteria(blocks):
    """Name -> arguments of `prune`."""
    scores, channel = jp.scores, jp.Channel()
    return {
        "magnitude": {},
        "magnitude, global": {"scope": "global"},
        "random": {"score": scores.random(jax.random.key(0))},
        "saliency": {"score": scores.saliency},
        "snip": {"score": scores.snip},
        "accumulated_saliency": {"score": scores.accumulated_saliency()},
        "movement": {"score": scores.movement},
        "obd": {"score": scores.obd()},
        "lamp, global": {"score": scores.lamp, "scope": "global"},
        "normalized, global": {"score": scores.normalized(), "scope": "global"},
        "squared, channels": {"score": scores.squared, "pattern": channel},
        "taylor, channels": {"score": scores.taylor, "pattern": channel},
        "geometric_median, channels": {"score": scores.geometric_median, "pattern": channel},
        **{f"obs, blocks of {block}": {"score": scores.obs(block)} for block in blocks},
    }


def probing():
    """Name -> a criterion that looks at the loss itself."""
    diagonal = jp.scores.hutchinson(jax.random.key(0))
    return {"grasp": jp.scores.grasp, "obd(hutchinson)": jp.scores.obd(diagonal)}


def pruning(rounds, **options):
    """Every second update is an event, and each prunes a little more than the one before."""
    last = 2 * (rounds + WARMUP) - 1
    return jp.prune(
        optimizer(),
        sparsity=jp.linear(0.9, begin=1, end=last, init=0.8),
        when=jp.every(2, begin=1, end=last),
        **options,
    )


def measure(options, params, grads, others, rounds):
    """What one criterion costs: a row of the table."""
    loop = Loop(pruning(rounds, **options), params, grads)
    weights = sum(mask.size for mask in jax.tree.leaves(jp.get_masks(loop.state)))
    state = jax.tree.leaves((loop.state.masks, loop.state.score_state))
    functions = others | {"between": loop, "event": loop}
    times = timing.interleaved(functions, rounds=rounds, warmup=WARMUP)

    def more(kind):
        extra = [x - y for x, y in zip(times[kind], times["plain"], strict=True)]
        return timing.ratio(extra, times["training"])

    return {
        "event, x training step": more("event"),
        "between events, x training step": more("between"),
        "state, bytes per weight": sum(x.nbytes for x in state) / weights,
        "temporary, bytes per weight": loop.temporary / weights,
        "training step, s": timing.milliseconds(times["training"]) / 1e3,
        "compile, s": loop.compile_s,
    }


def shape(quick):
    """(params, side of images)."""
    stages, side = (trees.SMALL, 32) if quick else (trees.RESNET50, 224)
    return trees.resnet50(jax.random.key(0), stages), side


def rows(rounds, quick=False, *, images=8, blocks=(16,), only=""):
    """Rows of criteria, one by one."""
    params, side = shape(quick)
    batch = resnet50.random_batch(jax.random.key(1), images, side)
    grad = jax.grad(resnet50.loss)
    grads = jax.jit(grad)(params, batch)
    others = {
        "training": Loop(optimizer(), params, batch, grad),
        "plain": Loop(optimizer(), params, grads),
    }
    chosen = {name: how for name, how in criteria(blocks).items() if only in name}
    for name, options in tqdm(chosen.items()):
        yield {"criterion": name} | measure(options, params, grads, others, rounds)


def probe_rows(rounds, quick=False, *, images=1, only=""):
    """Rows of criteria that look at the loss itself, at an event; selection is not part of it.

    In `prune` a probe is inside a loop of at most one turn, and XLA's CPU code for gradients of
    convolutions is another there.
    """
    params, side = shape(quick)
    batch = resnet50.random_batch(jax.random.key(1), images, side)
    grad = jax.grad(resnet50.loss)
    grads = jax.jit(grad)(params, batch)
    training = Loop(optimizer(), params, batch, grad)
    chosen = {name: criterion for name, criterion in probing().items() if only in name}
    for name, criterion in tqdm(chosen.items()):

        def alone(params, grads, batch, step, probe=criterion.probe):
            return probe(lambda params: resnet50.loss(params, batch), params, grads, step)

        def looped(params, grads, batch, step, alone=alone):
            def turn(carry):
                return carry[0] + 1, alone(params, grads, batch, step)

            return lax.while_loop(lambda carry: carry[0] <= step, turn, (step, grads))[1]

        inputs = (params, grads, batch, 0)
        made = {"probe": timing.compiled(alone, *inputs), "loop": timing.compiled(looped, *inputs)}
        functions = {"training": training}
        functions |= {kind: functools.partial(one[0], *inputs) for kind, one in made.items()}
        times = timing.interleaved(functions, rounds=rounds, warmup=WARMUP)
        yield {
            "criterion": name,
            "probe, x training step": timing.ratio(times["probe"], times["training"]),
            "in a loop, x training step": timing.ratio(times["loop"], times["training"]),
            "training step, s": timing.milliseconds(times["training"]) / 1e3,
            "compile of the loop, s": made["loop"][1],
        }


def main():
    """Runs it all and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="images of a training step")
    parser.add_argument("--probe-batch", type=int, default=1, help="images of a probe")
    parser.add_argument("--blocks", type=int, nargs="*", default=[16], help="of obs")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="of criteria with it in their name"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/criterion_cost.json"))
    args = parser.parse_args()
    tables = {
        f"In prune, batches of {args.batch}": rows(
            args.rounds, args.quick, images=args.batch, blocks=args.blocks, only=args.only
        ),
        f"Probes, batches of {args.probe_batch}": probe_rows(
            args.rounds, args.quick, images=args.probe_batch, only=args.only
        ),
    }
    console = Console(width=180)
    results = {"environment": environment()}
    console.print(sentence(results["environment"]))
    for title, made in tables.items():
        results[title] = []
        for row in made:  # written one by one: blocks too large for memory lose no other row
            results[title].append(row)
            files.write(args.out, json.dumps(results, indent=2))
        if results[title]:
            console.print(table(title, results[title]))
    console.print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
