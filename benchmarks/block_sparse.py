"""What block-sparse execution gains: times of dense params with zeros over times of their blocks.

python -m benchmarks.block_sparse [--rounds N] [--only matrix|mlp|decoder|training] [--quick]
"""

import argparse
import functools

import jax
import jax.numpy as jnp
from rich.console import Console

import jaxprune
from benchmarks import timing
from benchmarks.environment import environment, sentence
from benchmarks.tables import table
from jaxprune import sparse

SPARSITIES = (0.5, 0.75, 0.9, 0.95)


def mlp(key, width=2048, layers=4):
    """(apply, params) of square layers with relu between them."""
    keys = jax.random.split(key, layers)
    params = [{"kernel": jax.random.normal(k, (width, width)) / width**0.5} for k in keys]

    def apply(params, x):
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["kernel"])
        return x @ params[-1]["kernel"]

    return apply, params, lambda n: jax.random.normal(key, (n, width))


def decoder(key, width=1024, ff=4096, layers=2, vocab=256, heads=16):
    """(apply, params) of a decoder on bytes, with gated layers; batch counts tokens."""
    shapes = {"query": (width, width), "key": (width, width), "value": (width, width)}
    shapes |= {"out": (width, width), "gate": (width, ff), "up": (width, ff), "down": (ff, width)}

    def init(key, shape):
        return {"kernel": jax.random.normal(key, shape) / shape[0] ** 0.5}

    stack = []
    for k in jax.random.split(key, layers):
        keys = jax.random.split(k, len(shapes))
        stack.append({n: init(k, s) for (n, s), k in zip(shapes.items(), keys, strict=True)})
    params = {
        "embedding": jax.random.normal(key, (vocab, width)),
        "layers": stack,
        "head": init(key, (width, vocab)),
    }

    def norm(x):
        return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)

    def apply(params, tokens):
        x = params["embedding"][tokens]
        for p in params["layers"]:
            y = norm(x)
            q, k, v = (
                (y @ p[name]["kernel"]).reshape(len(y), heads, -1)
                for name in ("query", "key", "value")
            )
            y = jax.nn.dot_product_attention(q[None], k[None], v[None], is_causal=True)
            x = x + y.reshape(x.shape) @ p["out"]["kernel"]
            y = norm(x)
            gated = jax.nn.silu(y @ p["gate"]["kernel"]) * (y @ p["up"]["kernel"])
            x = x + gated @ p["down"]["kernel"]
        return norm(x) @ params["head"]["kernel"]

    return apply, params, lambda n: jax.random.randint(key, (n,), 0, vocab)


MODELS = {
    "matrix": functools.partial(mlp, layers=1),
    "mlp": mlp,
    "decoder": decoder,
    "training": mlp,
}


def rows(name, rounds, quick):
    """Rows for the table of one model."""
    small = {"width": 256} | ({"ff": 512} if name == "decoder" else {})
    apply, params, data = MODELS[name](jax.random.key(0), **(small if quick else {}))
    if name == "training":
        model = apply

        def apply(params, x):
            return jax.value_and_grad(lambda p: jnp.mean(sparse.sparse_apply(model)(p, x) ** 2))(
                params
            )

    run = jax.jit(apply if name == "training" else sparse.sparse_apply(apply))
    for size in (64,) if quick else (32, 64, 128):
        for sparsity in SPARSITIES:
            masks = jaxprune.masks.make(params, sparsity, pattern=jaxprune.Block((size, size)))
            pruned = jaxprune.finalize(params, masks)
            blocks = sparse.to_blocks(pruned, block=size, min_sparsity=0.0)
            row = {"block": size, "sparsity": f"{100 * sparsity:g} %"}
            row["smaller, x"] = _bytes(params) / _bytes(blocks)
            for batch in (1, 64):
                x = data(batch)
                calls = {
                    "dense": functools.partial(run, pruned, x),
                    "blocks": functools.partial(run, blocks, x),
                }
                times = timing.interleaved(calls, rounds=rounds)
                row[f"dense, batch {batch}, ms"] = timing.milliseconds(times["dense"])
                row[f"faster, batch {batch}, x"] = timing.ratio(times["dense"], times["blocks"])
            yield row


def _bytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    console = Console(width=120)
    console.print(sentence(environment()))
    for name in [args.only] if args.only else MODELS:
        console.print(table(name, list(rows(name, args.rounds, args.quick))))


if __name__ == "__main__":
    main()
