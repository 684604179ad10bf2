"""A residual network with half of its multiply-adds: trained, pruned by channels, made smaller.

    python examples/compact_cnn.py              # to out/compact_cnn
    python examples/compact_cnn.py --macs 0.25

The network trains on scikit-learn's digits, as in gmp_digits.py. Then it trains on twice: dense,
and pruned towards the widths that fit the budget, while the weights choose the channels. What is
masked is cut out, and the last steps are those of the small network, with the moments of the one
that it was cut from. Dense and compact take the same number of steps at the same rates.

The figures of the table (results.json) and a plot (layers.png) go to --out.
"""

import argparse
import functools
import json
import pathlib
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict
from gmp_digits import BATCH, load_data, random_shift
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

import jaxprune
from jaxprune import compact
from jaxprune.analysis import plots


class Residual(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), or with a shortcut where the shape changes."""

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, train):
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        conv = functools.partial(nn.Conv, use_bias=False)
        y = conv(self.width, (3, 3), self.stride, name="conv_a")(x)
        y = nn.relu(norm(name="norm_a")(y))
        y = norm(name="norm_b")(conv(self.width, (3, 3), name="conv_b")(y))
        if x.shape != y.shape:
            x = conv(self.width, (1, 1), self.stride, name="shortcut")(x)
            x = norm(name="norm_shortcut")(x)
        return nn.relu(x + y)


class Network(nn.Module):
    """A residual network of about 340 000 weights."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(48, (3, 3), use_bias=False, name="stem")(x)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, name="norm")(x))
        for i, (width, stride) in enumerate([(48, 1), (96, 2), (96, 1)]):
            x = Residual(width, stride, name=f"block_{i}")(x, train)
        return nn.Dense(10, name="head")(x.mean((1, 2)))


MODEL = Network()


def loss_fn(variables, images, labels):
    """The loss in training, and the new running statistics."""
    logits, new = MODEL.apply(variables, images, train=True, mutable=["batch_stats"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), new["batch_stats"]


def make_step(tx, loss):
    """The training step, of the dense network, the masked one and the small one."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(variables, opt_state, key, images, labels):
        key_batch, key_shift = jax.random.split(key)
        batch = jax.random.randint(key_batch, (BATCH,), 0, len(labels))
        shifted = random_shift(key_shift, images[batch])

        def of_params(params):
            return loss(variables | {"params": params}, shifted, labels[batch])

        grads, stats = jax.grad(of_params, has_aux=True)(variables["params"])
        updates, opt_state = tx.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, "batch_stats": stats}, opt_state

    return step


def train(name, tx, loss, variables, opt_state, steps, data):
    """Variables and the optimizer's state after some steps, given as a range."""
    step, key = make_step(tx, loss), jax.random.key(1)
    state = jax.tree.map(jnp.copy, (variables, opt_state))  # the step takes its arguments' memory
    for t in tqdm(steps, desc=name, unit="step"):
        state = step(*state, jax.random.fold_in(key, t), *data)
    return state


def accuracy(apply, variables, images, labels):
    return float((jax.jit(apply)(variables, images).argmax(-1) == labels).mean())


def milliseconds(calls, rounds):
    """Median time of each call, made in turn: what else runs on the machine slows all alike."""
    seconds = {name: [] for name in calls}
    for _ in range(rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(spent[2:]) for name, spent in seconds.items()}


def table(results):
    made = Table("", *results)
    for label, key, text in [
        ("test accuracy", "accuracy", "{:.2%}"),
        ("parameters", "parameters", "{:,}"),
        ("multiply-adds of an image", "macs", "{:,}"),
        (f"ms for {BATCH} images", "milliseconds", "{:.2f}"),
    ]:
        made.add_row(label, *(text.format(found[key]) for found in results.values()))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--macs", type=float, default=0.5, help="fraction of multiply-adds to keep")
    parser.add_argument("--steps", type=int, default=250, help="of each of the two parts")
    parser.add_argument("--rounds", type=int, default=100, help="calls to time")
    parser.add_argument("--quick", action="store_true", help="8 steps: a smoke test")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/compact_cnn"))
    args = parser.parse_args()
    if args.quick:
        args.steps, args.rounds = 8, 1
    steps, cut_at = args.steps, args.steps * 3 // 4

    data = load_data()
    variables = jax.jit(MODEL.init)(jax.random.key(0), data["train"][0][:1])
    rate = optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 10, steps)
    adamw = optax.adamw(rate, weight_decay=0.01)
    run = functools.partial(train, data=data["train"])
    trained, _ = run(
        "first", adamw, loss_fn, variables, adamw.init(variables["params"]), range(steps)
    )
    start = adamw.init(trained["params"])
    dense, _ = run("dense", adamw, loss_fn, trained, start, range(steps))

    # What is tied to what, and the widths that fit the budget.
    groups = compact.trace_groups(MODEL.apply, trained, data["train"][0][:1])
    goal = compact.plan(groups, trained, macs=args.macs)
    print(f"{groups}\n\n{goal}")

    # Pruning while training; the schedule says how far along it is.
    pruner = jaxprune.prune(
        adamw,
        sparsity=jaxprune.polynomial(goal.sparsity, begin=steps // 10, end=cut_at * 2 // 3),
        when=jaxprune.every(max(steps // 40, 1), begin=steps // 10, end=cut_at * 2 // 3),
        pattern=goal.pattern(under="params"),
    )
    start = pruner.init(trained["params"])
    masked, opt_state = run("pruned", pruner, loss_fn, trained, start, range(cut_at))

    # Smaller arrays, of which the same function is made, and the same training goes on.
    plan = compact.plan_from_masks(groups, jaxprune.get_masks(opt_state), under="params")
    print(compact.verify(plan, masked, data["test"][0][:BATCH], key=jax.random.key(2)))
    small, moments = plan.cut(masked), plan.cut(opt_state.inner_state)
    tuned, _ = run("compact", adamw, plan.wrap(loss_fn), small, moments, range(cut_at, steps))

    networks = {
        "dense": (MODEL.apply, dense),
        "masked": (MODEL.apply, masked),
        "compact": (plan.apply, tuned),
    }
    images = data["test"][0][:BATCH]
    calls = {
        name: functools.partial(jax.jit(apply), network, images)
        for name, (apply, network) in networks.items()
    }
    spent = milliseconds(calls, args.rounds)
    results = {
        name: {
            "accuracy": accuracy(apply, network, *data["test"]),
            "parameters": plan.parameters[name == "compact"],
            "macs": plan.macs[name == "compact"],
            "milliseconds": spent[name],
        }
        for name, (apply, network) in networks.items()
    }
    Console().print(table(results))
    lost = 100 * (results["dense"]["accuracy"] - results["compact"]["accuracy"])
    faster = spent["dense"] / spent["compact"]
    print(
        f"compact is {'within' if lost <= 1 else 'NOT within'} 1 point of dense, and takes 1 / "
        f"{faster:.2f} of its time with {plan.macs[1] / plan.macs[0]:.2f} of its multiply-adds"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    masks = flatten_dict(jaxprune.get_masks(opt_state), sep="/")
    kernels = {path: mask for path, mask in masks.items() if path.endswith("kernel")}
    plots.layers(kernels, path=args.out / "layers.png")


if __name__ == "__main__":
    main()
