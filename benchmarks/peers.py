"""The same masks by other libraries, where they can be imported."""

import numpy as np

from benchmarks.environment import peer_version

NAMES = {"torch": "PyTorch", "numpy": "NumPy", "jaxpruner": "JaxPruner"}  # module -> heading


def functions(kind, kernels, sparsity):
    """Heading -> a function that makes masks of `kernels`, of the peers that know this kind.

    Kinds are "local", "global", "random", "lamp" and "channel".
    """
    makers = {"torch": _torch, "numpy": _numpy, "jaxpruner": _jaxpruner}
    found = {
        NAMES[name]: make(kind, kernels, sparsity)
        for name, make in makers.items()
        if peer_version(name)
    }
    return {name: function for name, function in found.items() if function}


def columns(times, base):
    """Heading -> ratio to the times of `base`, None for a peer without figures."""
    from benchmarks.timing import ratio

    return {
        name: ratio(times[name], times[base]) if name in times else None for name in NAMES.values()
    }


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

    def together(scores):
        limit = threshold(np.concatenate([s.ravel() for s in scores]))
        _ = [s >= limit for s in scores]

    def lamp(w):
        squares = np.square(w).ravel()
        order = np.argsort(squares)
        rest = np.cumsum(squares[order][::-1])[::-1]
        scores = np.empty_like(squares)
        scores[order] = squares[order] / rest
        return scores.reshape(w.shape)

    def channel():
        for w in arrays:
            norms = np.sqrt(np.square(w).sum(tuple(range(w.ndim - 1))))
            _ = np.broadcast_to(norms >= threshold(norms), w.shape)

    return {
        "local": local,
        "global": lambda: together([np.abs(w) for w in arrays]),
        "lamp": lambda: together([lamp(w) for w in arrays]),
        "channel": channel,
    }.get(kind)


def _torch(kind, kernels, sparsity):
    """By torch.nn.utils.prune; outputs stand first there, and are the channels."""
    import torch
    from torch.nn.utils import prune

    weights = [torch.from_numpy(np.moveaxis(np.array(w), -1, 0).copy()) for w in kernels]
    method = prune.L1Unstructured(sparsity)

    def each(method, score):
        def run():
            for w in weights:
                method.compute_mask(score(w), torch.ones_like(w))

        return run

    def together():
        flat = torch.cat([w.abs().ravel() for w in weights])
        mask = method.compute_mask(flat, torch.ones_like(flat))
        start = 0
        for w in weights:
            _ = mask[start : start + w.numel()].view_as(w)
            start += w.numel()

    return {
        "local": each(method, torch.abs),
        "global": together,
        "random": each(prune.RandomUnstructured(sparsity), lambda w: w),
        "channel": each(prune.LnStructured(sparsity, n=2, dim=0), lambda w: w),
    }.get(kind)


def _jaxpruner(kind, kernels, sparsity):
    import jax
    import jaxpruner

    makers = {"local": jaxpruner.MagnitudePruning, "random": jaxpruner.RandomPruning}
    if kind not in makers:
        return None
    pruner = makers[kind](
        sparsity_distribution_fn=lambda tree: jax.tree.map(lambda _: sparsity, tree)
    )
    tree = dict(enumerate(kernels))
    make = jax.jit(lambda t: pruner.instant_sparsify(t)[1])
    return lambda: make(tree)
