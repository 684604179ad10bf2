"""One-shot pruning as the papers write it, in float64 NumPy."""

import numpy as np

RNG = np.random.default_rng(0)


def layer(inputs, outputs, tokens=None, seed=0):
    """W [inputs, outputs], X [tokens, inputs]: inputs depend on each other, and a few stand out."""
    rng = np.random.default_rng(seed)
    mix = np.arange(1, inputs + 1)[:, None] ** -0.5 * rng.normal(size=(inputs, inputs))
    X = rng.normal(size=(tokens or 4 * inputs, inputs)) @ mix
    X[:, rng.choice(inputs, max(1, inputs // 64), replace=False)] *= 10
    return rng.normal(size=(inputs, outputs)), X


def damped(H, damp=0.01):
    return H + damp * np.trace(H) / len(H) * np.eye(len(H))


def loss(pruned, W, X):
    """||X W - X pruned||^2, from the inputs themselves."""
    return float(np.sum((X @ (np.asarray(pruned, np.float64) - W)) ** 2))


def highest(scores, k):
    """Bool, the k highest; of equal ones the lower flat index."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.ravel(), kind="stable")[:k]] = True
    return mask.reshape(scores.shape)


def highest_units(scores, k, rows, columns):
    """The same with blocks of [inputs, outputs], by their sums."""
    inputs, outputs = scores.shape
    sums = np.array(
        [
            [scores[i : i + rows, j : j + columns].sum() for j in range(0, outputs, columns)]
            for i in range(0, inputs, rows)
        ]
    )
    return np.kron(highest(sums, k), np.ones((rows, columns), bool)).astype(bool)


def shares(k, units, blocks):
    """How many of k each block keeps: cumulative, rounded down."""
    ends = np.cumsum([0, *blocks])
    return np.diff([k * int(e) // units for e in ends])


def sparsegpt(W, H, k=0, *, rows=1, columns=1, nm=None, block=128, dead=None):
    """Algorithm 1 of arXiv 2301.00774; (pruned, mask), [inputs, outputs]."""
    W = np.array(W, np.float64).T
    outputs, inputs = W.shape
    U = np.linalg.cholesky(np.linalg.inv(np.asarray(H, np.float64))).T
    dead = np.zeros(inputs, bool) if dead is None else dead
    mask = np.zeros(W.shape, bool)
    sizes = [min(block, inputs - a) for a in range(0, inputs, block)]
    per_row = outputs // columns
    each = shares(k, inputs // rows * per_row, [n // rows * per_row for n in sizes])
    for a, size, keep in zip(range(0, inputs, block), sizes, each, strict=True):
        b = a + size
        errors = np.zeros((outputs, size))
        diagonal = np.where(dead[a:b], np.inf, np.diag(U)[a:b])
        if nm is None:
            scores = W[:, a:b] ** 2 / diagonal**2
            mask[:, a:b] = highest_units(scores.T, keep, rows, columns).T
        for j in range(a, b):
            if nm is not None and j % nm[1] == 0:
                group = slice(j, j + nm[1])
                scores = W[:, group] ** 2 / diagonal[j - a : j - a + nm[1]] ** 2
                mask[:, group] = [highest(row, nm[0]) for row in scores]
            error = np.where(mask[:, j], 0, W[:, j]) / U[j, j]
            W[:, j + 1 : b] -= np.outer(error, U[j, j + 1 : b])
            W[:, j] = np.where(mask[:, j], W[:, j], 0)
            errors[:, j - a] = error
        W[:, b:] -= errors @ U[a:b, b:]
    return W.T, mask.T


def least_squares(W, H, mask):
    """The best kept weights: lstsq of each output on a square root of H."""
    root = np.linalg.cholesky(np.asarray(H, np.float64)).T
    pruned = np.zeros(W.shape)
    for o in range(W.shape[1]):
        kept = np.flatnonzero(mask[:, o])
        pruned[kept, o] = np.linalg.lstsq(root[:, kept], root @ W[:, o], rcond=None)[0]
    return pruned


def quadratic(pruned, W, H):
    """tr((pruned - W)^T H (pruned - W)), of each output."""
    D = np.asarray(pruned, np.float64) - W
    return np.sum(D * (H @ D), axis=0)


def greedy(W, H, m=None, n=0):
    """Brute-force OBS: each time, what has the least loss without it by least squares.

    Returns:
      (turn [inputs, outputs] at which each goes, growth [turns, outputs] of the loss).
    """
    inputs, outputs = W.shape
    m = m or inputs
    turns = inputs // m * (m - n)
    turn = np.full(W.shape, turns)
    growth = np.zeros((turns, outputs))
    for o in range(outputs):
        left, before = np.ones(inputs, bool), 0.0
        for t in range(turns):
            costs = np.full(inputs, np.inf)
            for p in np.flatnonzero(left):
                group = slice(p // m * m, p // m * m + m)
                if left[group].sum() > n:
                    without = (left & (np.arange(inputs) != p))[:, None]
                    w = W[:, o : o + 1]
                    costs[p] = quadratic(least_squares(w, H, without), w, H)[0]
            p = int(np.argmin(costs))
            turn[p, o], growth[t, o], before = t, costs[p] - before, costs[p]
            left[p] = False
    return turn, growth
