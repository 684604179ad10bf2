"""How long an event takes on pods, on paper: bytes over bandwidth, and messages times latency.

python -m benchmarks.paper [--sparsity 0.8]

The turns of a search are not guessed: the search itself runs, on the counts that as many normally
distributed weights would have, by arithmetic. Hardware figures are the makers'; latencies of small
all-reduces are assumptions, and say so.
"""

import argparse
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc, erfinv
from rich.console import Console

from benchmarks.scale import MODELS, num_weights
from benchmarks.tables import table
from jaxprune.select import _keys, _wide
from jaxprune.select._search import PROBES, Bracket, search
from jaxprune.select._thresholds import _SAMPLE_SENT

PODS = {  # GB/s of memory per chip, assumed microseconds for an all-reduce of less than 1 KiB
    "v5p": (2765, {8: 10, 64: 20, 512: 40}),
    "H200": (4800, {8: 20, 64: 60, 512: 120}),
}
PEAK = {"v5p": 459e12, "H200": 989e12}  # bfloat16 FLOP/s
TOKENS = 4_000_000  # of a batch


def turns_of_search(size, sparsity):
    """How many times the weights are read until a threshold is exact."""
    rows = -(-size // 2**30)
    each = size // rows
    kept = round(rows * each * (1 - sparsity))

    def reach(keys):
        values = jax.lax.bitcast_convert_type(keys.astype(jnp.int32), jnp.float32)
        share = erfc(jnp.maximum(values, 0).astype(jnp.float64) / math.sqrt(2))
        return jnp.floor(each * share).astype(jnp.int32)

    def balance(counts):
        totals = _wide.total(_wide.from_int32(counts))
        excess = _wide.subtract(totals, jnp.asarray(_wide.constant([kept])))
        return jnp.broadcast_to(excess, (*counts.shape, 2))

    # Quantiles of a sample err by its standard deviation, here always to one side.
    error = math.sqrt((1 - sparsity) * sparsity / _SAMPLE_SENT)
    shares = (1 - sparsity) + error * (1 - np.array([-2.5, -0.7, 0.0, 0.7, 2.5]))
    guesses = math.sqrt(2) * erfinv(1 - jnp.clip(jnp.asarray(shares), 1e-9, 1 - 1e-9))
    probes = _keys.to_keys(guesses.astype(jnp.float32))
    low, high = _keys.key_range("float32")
    keys = jnp.broadcast_to(jnp.array([low, high], jnp.int32), (rows, 2))
    counts = jnp.broadcast_to(jnp.array([each, 0], jnp.int32), (rows, 2))
    start = Bracket.of(keys, counts, balance(counts))
    probes = jnp.broadcast_to(jnp.sort(probes), (rows, PROBES))
    sizes = np.full(rows, each, np.int32)
    return int(search(lambda p, tie, equal: reach(p), balance, start, probes, sizes, None).turns)


def event(size, bandwidth, latency, devices, turns):
    """Milliseconds: each turn reads the shard, and so does making the mask, which writes bits."""
    shard = 4 * size / devices
    read = ((turns + 1) * shard + shard / 32) / (bandwidth * 1e9)
    return 1e3 * read, 1e-3 * latency * (turns + 1)


def rows(rounds, quick=False, sparsity=0.8):
    """Rows of the table; nothing is timed."""
    del rounds, quick
    for name in MODELS:
        size = num_weights(name)
        with jax.enable_x64(True):
            turns = turns_of_search(size, sparsity)
        for pod, (bandwidth, latencies) in PODS.items():
            for devices, latency in latencies.items():
                read, wait = event(size, bandwidth, latency, devices, turns)
                step = 1e3 * 6 * size * TOKENS / (0.4 * PEAK[pod] * devices)
                yield {
                    "model": name,
                    "pod": f"{devices} {pod}",
                    "turns": turns,
                    "reading, ms": read,
                    "latency, ms": wait,
                    "event, ms": read + wait,
                    "a step, ms": step,
                    "event / step": (read + wait) / step,
                }


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sparsity", type=float, default=0.8)
    args = parser.parse_args()
    made = list(rows(1, sparsity=args.sparsity))
    Console(width=120).print(table("One event with a global ranking, on paper", made))


if __name__ == "__main__":
    main()
