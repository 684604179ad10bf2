"""What removing units gains: times of dense networks over times of what is left of them.

python -m benchmarks.compaction [--rounds N] [--only TABLE] [--quick]

Tables: networks, of which half of the units of every group go, in the widths that `compact.plan`
chooses; widths of single layers; multiples that widths are rounded to; masks left in a product;
trace, the time to find groups. Weights are drawn: their values change no times. Times are of
functions under jit, in turn within one run.
"""

import argparse
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import jaxprune
from benchmarks import networks, timing, transformers
from benchmarks.environment import environment, sentence
from benchmarks.tables import table
from jaxprune import compact

BATCH = 32
BAR = 0.7  # of the ratio of multiply-adds


class SmallResNet(nn.Module):
    """Three residual stages of 32, 64 and 128 channels, for small images."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(32, (3, 3))(x)
        for width, stride in ((32, 1), (64, 2), (128, 2)):
            x = networks.Residual(width, stride, bottleneck=False)(x, train=False)
        return nn.Dense(10)(x.mean((1, 2)))


def image(side):
    return jax.ShapeDtypeStruct((BATCH, side, side, 3), jnp.float32)


def tokens(length):
    return jax.ShapeDtypeStruct((BATCH, length), jnp.int32)


def cases():
    """Name -> (module, inputs).

    Images are not so small that a last stage is below 3 x 3: XLA on CPU exchanges the operands of a
    convolution whose window is larger than its image, and then takes 50 times as long as else.
    """
    words = {"vocabulary": 1024, "width": 512, "heads": 8, "depth": 4}
    gpt2 = transformers.GPT2(context=128, **words)
    llama = transformers.Llama(kv_heads=2, hidden=1408, **words)
    vit = transformers.VisionTransformer(classes=100, width=384, heads=6, depth=6)
    return {
        "ResNet-18, 96 x 96": (networks.resnet18(), image(96)),
        "small residual, 32 x 32": (SmallResNet(), image(32)),
        "MobileNetV2, 96 x 96": (networks.mobilenet_v2(), image(96)),
        "GPT-2, 4 x 512, 128 tokens": (gpt2, tokens(128)),
        "Llama, 4 x 512, 128 tokens": (llama, tokens(128)),
        "ViT, 6 x 384, 96 x 96": (vit, image(96)),
    }


def drawn(module, inputs):
    """Variables of a module, without a compilation."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs)

    def draw(path, leaf):
        if "batch_stats" in jax.tree_util.keystr(path):
            return jnp.ones(leaf.shape, leaf.dtype)
        return jnp.asarray(0.05 * rng.standard_normal(leaf.shape, np.float32))

    return jax.tree_util.tree_map_with_path(draw, shapes)


def gained(plan, variables, inputs, rounds):
    """A row: what a plan takes away of the multiply-adds, and of the time."""
    inputs = jnp.ones(inputs.shape, inputs.dtype)
    calls = {
        "dense": functools.partial(jax.jit(plan.groups.apply), variables, inputs),
        "compact": functools.partial(jax.jit(plan.apply), plan.cut(variables), inputs),
    }
    times = timing.interleaved(calls, rounds=rounds)
    less = plan.macs[0] / plan.macs[1]
    faster = timing.ratio(times["dense"], times["compact"])
    return {
        "MACs, dense / compact": less,
        "time, dense / compact": faster,
        "time / MACs": faster / less,
        "dense, ms": timing.milliseconds(times["dense"]),
        "compact, ms": timing.milliseconds(times["compact"]),
    }


def network_rows(rounds, quick=False):
    """Rows: networks with half of the units of every group."""
    for name, (module, inputs) in cases().items():
        if quick and "small" not in name:
            continue
        variables = drawn(module, inputs)
        groups = compact.trace_groups(module.apply, variables, inputs)
        plan = compact.plan(groups, variables, sparsity=0.5)
        row = gained(plan, variables, inputs, rounds)
        yield (
            {"network": name, "groups": len(groups)}
            | row
            | {f"{BAR} reached": "yes" if row["time / MACs"] >= BAR else "no"}
        )


def conv(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def width_rows(rounds, quick=False):
    """Rows: square layers of odd widths beside round ones, time over time."""
    layers = {
        "3x3 convolution": (conv, lambda n: (BATCH, 16, 16, n), lambda n: (3, 3, n, n)),
        "1x1 convolution": (conv, lambda n: (BATCH, 16, 16, n), lambda n: (1, 1, n, n)),
        "dense, 1,024 rows": (jnp.dot, lambda n: (1024, n), lambda n: (n, n)),
    }
    pairs = [(57, 64), (48, 64), (33, 32), (33, 48), (250, 256)]
    for odd, even in pairs[:1] if quick else pairs:
        row = {"widths": f"{odd} / {even}", "MACs": (odd / even) ** 2}
        for name, (layer, inputs, kernel) in layers.items():
            program = jax.jit(layer)
            calls = {
                n: functools.partial(program, jnp.ones(inputs(n)), jnp.ones(kernel(n)))
                for n in (odd, even)
            }
            times = timing.interleaved(calls, rounds=10 * rounds)
            row[name] = timing.ratio(times[odd], times[even])
        yield row


def multiple_rows(rounds, quick=False):
    """Rows: what rounding of widths does, at a sparsity that makes none of them round."""
    for name in ["small residual, 32 x 32"] if quick else list(cases())[:2]:
        module, inputs = cases()[name]
        variables = drawn(module, inputs)
        groups = compact.trace_groups(module.apply, variables, inputs)
        for multiple in (1, 16) if quick else (1, 4, 8, 16, 32):
            plan = compact.plan(groups, variables, sparsity=0.45, multiple=multiple)
            row = gained(plan, variables, inputs, rounds)
            widths = " ".join(map(str, sorted(set(plan.widths.values()))))
            yield {"multiple": multiple, "network": name, "widths": widths} | row


def mask_rows(rounds, quick=False):
    """Rows: a product with a mask left in it, times over that of the dense one."""
    n = 256 if quick else 2048
    keys = jax.random.split(jax.random.key(0))
    params = {"kernel": jax.random.normal(keys[0], (n, n))}
    masks = jaxprune.masks.make(params, 0.5, pattern=jaxprune.Channel())
    baked = jaxprune.finalize(params, masks)["kernel"]
    kernel, mask = params["kernel"], masks["kernel"]
    kept = jnp.asarray(np.flatnonzero(np.asarray(mask).any(0)))
    programs = {
        "dense": (jnp.dot, (kernel,)),
        "`x @ (w * mask)`": (lambda x, w, m: x @ (w * m), (kernel, mask)),
        "`x @ where(mask, w, 0)`": (lambda x, w, m: x @ jnp.where(m, w, 0), (kernel, mask)),
        "mask baked in": (jnp.dot, (baked,)),
        "columns removed": (jnp.dot, (kernel[:, kept],)),
    }
    for rows in (1, 32, 1024):
        x = jax.random.normal(keys[1], (rows, n))
        calls = {
            name: functools.partial(jax.jit(f), x, *rest) for name, (f, rest) in programs.items()
        }
        times = timing.interleaved(calls, rounds=2 * rounds)
        ratios = {name: timing.ratio(times["dense"], spent) for name, spent in times.items()}
        yield {"rows": rows, "dense, ms": timing.milliseconds(times["dense"])} | ratios


def trace_rows(rounds, quick=False):
    """Rows: seconds to find the groups of published networks, from shapes."""
    one = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    text = jax.ShapeDtypeStruct((1, 128), jnp.int32)
    for name, count in (networks.PUBLISHED | transformers.PUBLISHED).items():
        if quick and name != "resnet18":
            continue
        source = networks if name in networks.PUBLISHED else transformers
        module, inputs = getattr(source, name)(), text if name in ("gpt2", "tiny_llama") else one
        shapes = jax.eval_shape(module.init, jax.random.key(0), inputs)

        def traced(module=module, shapes=shapes, inputs=inputs):
            compact.trace_groups(module.apply, shapes, inputs)

        def forward(module=module, shapes=shapes, inputs=inputs):
            jax.make_jaxpr(lambda *args: module.apply(*args))(shapes, inputs)

        calls = {"apply": forward, "groups": traced}
        times = timing.interleaved(calls, rounds=min(rounds, 3), warmup=1)
        groups = compact.trace_groups(module.apply, shapes, inputs)
        yield {
            "network": name,
            "parameters": f"{count:,}",
            "groups": len(groups),
            "trace of apply, s": timing.milliseconds(times["apply"]) / 1e3,
            "trace_groups, s": timing.milliseconds(times["groups"]) / 1e3,
        }


TABLES = {
    "networks": (network_rows, f"Half of every group, {BATCH} examples"),
    "widths": (width_rows, "Square layers: a width beside another"),
    "multiples": (multiple_rows, "Sparsity 0.45 of every group, widths rounded to a multiple"),
    "masks": (mask_rows, "A product with half of the columns masked: time of dense / time"),
    "trace": (trace_rows, "Finding the groups"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=TABLES)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    args = parser.parse_args()
    console = Console(width=150)
    console.print(sentence(environment()))
    for name in [args.only] if args.only else TABLES:
        rows, title = TABLES[name]
        console.print(table(title, list(rows(1 if args.quick else args.rounds, args.quick))))


if __name__ == "__main__":
    main()
