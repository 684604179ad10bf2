"""Masks by sorting in NumPy: shares no code with what it checks."""

import jax
import numpy as np

SHAPES = {"a": (4, 6), "b": (3, 8), "c": (2, 2, 5)}
POOL = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -3.5, 1e-40, np.inf, -np.inf, np.nan], np.float32)


def draw(seed, *, ties, shapes=SHAPES, dtype=np.float32):
    """Kernels, of few distinct values (among them NaN and infinity) or of many."""
    rng = np.random.default_rng(seed)
    return {
        name: {
            "kernel": (rng.choice(POOL, shape) if ties else rng.normal(size=shape)).astype(dtype)
        }
        for name, shape in shapes.items()
    }


def kernels(tree):
    return [np.asarray(leaf["kernel"]) for leaf in tree.values()]


def counts(masks):
    return [int(np.asarray(mask).sum()) for mask in jax.tree.leaves(masks)]


def ranking(leaves):
    """(leaf, flat index) of all weights, best first: |w| descends, then leaf and index ascend."""
    scores = np.concatenate([np.abs(np.ravel(x).astype(np.float64)) for x in leaves])
    where = [(i, j) for i, x in enumerate(leaves) for j in range(np.size(x))]
    return [where[j] for j in np.argsort(-scores, kind="stable")]  # NaN comes last


def top_k(leaves, k, lower=None, upper=None):
    """Masks of the k best of all leaves, within bounds on what each leaf keeps, by greed.

    Each leaf takes its own best up to its lower bound; the rest goes to the best that are left,
    wherever the upper bound has room.
    """
    lower = [0] * len(leaves) if lower is None else lower
    upper = [np.size(x) for x in leaves] if upper is None else upper
    order, masks, kept = ranking(leaves), [np.zeros(np.size(x), bool) for x in leaves], 0
    taken = [0] * len(leaves)
    for bounds, total in [(lower, sum(lower)), (upper, k)]:
        for leaf, index in order:
            if kept < total and taken[leaf] < bounds[leaf] and not masks[leaf][index]:
                masks[leaf][index] = True
                taken[leaf] += 1
                kept += 1
    return [mask.reshape(np.shape(x)) for mask, x in zip(masks, leaves, strict=True)]


def assert_same(masks, expected):
    got = [np.asarray(mask) for mask in jax.tree.leaves(masks)]
    assert [mask.dtype for mask in got] == [np.dtype(bool)] * len(expected)
    for mask, want in zip(got, expected, strict=True):
        np.testing.assert_array_equal(mask, want)


def top_cost(leaves, costs, budget, lower=None, upper=None):
    """`top_k` where a weight of each leaf has a cost: it ends with the first that is not paid."""
    lower = [0] * len(leaves) if lower is None else lower
    upper = [np.size(x) for x in leaves] if upper is None else upper
    order, masks, left = ranking(leaves), [np.zeros(np.size(x), bool) for x in leaves], int(budget)
    taken = [0] * len(leaves)
    for leaf, index in order:
        if taken[leaf] < lower[leaf]:
            masks[leaf][index] = True
            taken[leaf] += 1
            left -= int(costs[leaf])
    for leaf, index in order:
        if taken[leaf] < upper[leaf] and not masks[leaf][index]:
            if costs[leaf] > left:
                break
            masks[leaf][index] = True
            taken[leaf] += 1
            left -= int(costs[leaf])
    return [mask.reshape(np.shape(x)) for mask, x in zip(masks, leaves, strict=True)]
