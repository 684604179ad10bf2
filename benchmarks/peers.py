"""The same masks by other libraries, where they are installed."""

import importlib.util

import numpy as np

NAMES = ("torch", "numpy", "jaxpruner")


def functions(kind, kernels, sparsity):
    """Name -> a function that makes masks of `kernels`, for the kinds that each library has."""
    found = {}
    if kind in ("local", "global"):
        found["numpy"] = _numpy(kind, kernels, sparsity)
        if importlib.util.find_spec("torch"):
            found["torch"] = _torch(kind, kernels, sparsity)
    if kind == "local" and importlib.util.find_spec("jaxpruner"):
        found["jaxpruner"] = _jaxpruner(kernels, sparsity)
    return found


def _numpy(kind, kernels, sparsity):
    """The threshold by numpy.partition; ties are not cut, so the count is not exact."""
    arrays = [np.asarray(w) for w in kernels]

    def threshold(flat):
        kept = round(flat.size * (1 - sparsity))
        return np.partition(flat, flat.size - kept)[flat.size - kept]

    def local():
        for w in arrays:
            scores = np.abs(w)
            _ = scores >= threshold(scores.ravel())

    def together():
        scores = [np.abs(w) for w in arrays]
        limit = threshold(np.concatenate([s.ravel() for s in scores]))
        _ = [s >= limit for s in scores]

    return local if kind == "local" else together


def _torch(kind, kernels, sparsity):
    import torch
    from torch.nn.utils import prune

    weights = [torch.from_numpy(np.array(w)) for w in kernels]
    method = prune.L1Unstructured(sparsity)

    def local():
        for w in weights:
            method.compute_mask(w.abs(), torch.ones_like(w))

    def together():
        flat = torch.cat([w.abs().ravel() for w in weights])
        mask = method.compute_mask(flat, torch.ones_like(flat))
        start = 0
        for w in weights:
            _ = mask[start : start + w.numel()].view_as(w)
            start += w.numel()

    return local if kind == "local" else together


def _jaxpruner(kernels, sparsity):
    import jax
    import jaxpruner

    pruner = jaxpruner.MagnitudePruning(
        sparsity_distribution_fn=lambda tree: jax.tree.map(lambda _: sparsity, tree)
    )
    tree = dict(enumerate(kernels))
    make = jax.jit(lambda t: pruner.instant_sparsify(t)[1])
    return lambda: make(tree)
