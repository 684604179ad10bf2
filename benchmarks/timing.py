"""Times as ratios within one run: the machine's speed drifts, ratios of neighbours do not."""

import statistics
import time

import jax


def once(function):
    """Seconds of one call, until its arrays are there."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def interleaved(functions, *, rounds=11, warmup=2):
    """Times several functions in turn, round after round.

    Returns:
      name -> list of seconds, one per round after the warm-up.
    """
    seconds = {name: [] for name in functions}
    for turn in range(rounds + warmup):
        for name, function in functions.items():
            spent = once(function)
            if turn >= warmup:
                seconds[name].append(spent)
    return seconds


def ratio(times, base):
    """Median of the round-by-round ratios."""
    return statistics.median(t / b for t, b in zip(times, base, strict=True))


def milliseconds(times):
    """Median in milliseconds."""
    return 1e3 * statistics.median(times)


class MemoryPass:
    """One pass over the arrays of a tree: each weight read and written once, in place."""

    def __init__(self, tree):
        self.tree = jax.tree.map(lambda x: x + 0, tree)
        self.negate = jax.jit(lambda t: jax.tree.map(lambda x: -x, t), donate_argnums=0)

    def __call__(self):
        self.tree = self.negate(self.tree)
        return self.tree


def copy_pass(tree):
    """One pass over the arrays of a tree: each weight read once, and written to a new array."""
    double = jax.jit(lambda t: jax.tree.map(lambda x: 2 * x, t))
    return lambda: double(tree)


def compiled(function, *args, **options):
    """(the compiled program, seconds to trace and compile, temporary bytes)."""
    start = time.perf_counter()
    program = jax.jit(function, **options).lower(*args).compile()
    spent = time.perf_counter() - start
    return program, spent, program.memory_analysis().temp_size_in_bytes
