"""Allocations that know their leaves, as functions of any leaves: for the tables of contracts."""

import math

from jaxprune import allocate


def by_outliers(leaves, sparsity):
    """OWL, with shares of outliers that differ from leaf to leaf."""
    shares = {path: (i * 3 % 7) / 10 for i, path in enumerate(leaves)}
    return allocate.owl(shares, lam=0.2)(leaves, sparsity)


def by_scan(leaves, sparsity):
    """From a scan of every leaf, dense to empty, by curves that differ; some are not convex."""
    scanned = (0.0, 0.3, 0.6, math.nextafter(1.0, 0.0))
    losses = {
        path: {s: 1 + (1 + i * 3 % 7) * s ** (1 + i % 3) - (i % 2) * (s == 0.6) for s in scanned}
        for i, path in enumerate(leaves)
    }
    return allocate.from_sensitivity(losses)(leaves, sparsity)
