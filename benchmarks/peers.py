"""The same masks by other libraries, where they can be imported."""

import functools

import jax
import numpy as np

from benchmarks.environment import peer_version
from benchmarks.timing import ratio

NAMES = {"torch": "PyTorch", "numpy": "NumPy", "jaxpruner": "JaxPruner"}  # module -> heading


def functions(kind, kernels, sparsity, pattern=None):
    """(heading -> a function that makes masks, of the peers that can; why others cannot).

    Args:
      kind: "local", "global", "random", "lamp", "saliency", "nm", "block" or "channel"; a peer
        that does not know it is left out. Gradients of saliency are the kernels themselves.
      kernels: arrays.
      sparsity: the share of weights, blocks or channels that go.
      pattern: of the kinds "nm" and "block", as `jaxprune` writes it.
    """
    makers = {"torch": _torch, "numpy": _numpy, "jaxpruner": _jaxpruner}
    return tried(
        {
            NAMES[name]: functools.partial(make, kind, kernels, sparsity, pattern)
            for name, make in makers.items()
            if peer_version(name)
        }
    )


def tried(makers):
    """What works of peers, called once: one that can be imported may still be of another time.

    Args:
      makers: heading -> a function that gives a function without arguments, a dict of them, or
        None for a peer that does not know what is asked for.

    Returns:
      (heading -> what its maker gave, of those whose functions could all be called; a line for
      each that failed).
    """
    found, failed = {}, []
    for name, make in makers.items():
        try:
            made = make()
            jax.block_until_ready([function() for function in jax.tree.leaves(made)])
        except Exception as error:  # whatever it is, the others' figures are worth having
            what = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
            failed.append(f"{name} can be imported, but fails where its cell is empty: {what}.")
            continue
        if made is not None:
            found[name] = made
    return found, failed


def columns(times, base):
    """Heading -> ratio to the times of `base`, None for a peer without figures."""
    return {
        name: ratio(times[name], times[base]) if name in times else None for name in NAMES.values()
    }


def _numpy(kind, kernels, sparsity, pattern):
    """The threshold by numpy.partition; ties are not cut, so the count is not exact."""
    del pattern
    arrays = [np.asarray(w) for w in kernels]

    def threshold(flat):
        kept = round(flat.size * (1 - sparsity))
        return np.partition(flat, flat.size - kept)[flat.size - kept]

    def each(score):
        def run():
            for w in arrays:
                scores = score(w)
                _ = scores >= threshold(scores.ravel())

        return run

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
        "local": each(np.abs),
        "saliency": each(lambda w: np.abs(w * w)),
        "global": lambda: together([np.abs(w) for w in arrays]),
        "lamp": lambda: together([lamp(w) for w in arrays]),
        "channel": channel,
    }.get(kind)


def _torch(kind, kernels, sparsity, pattern):
    """By torch.nn.utils.prune; outputs stand first there, and are the channels."""
    import torch
    from torch.nn.utils import prune

    del pattern
    weights = [torch.from_numpy(np.moveaxis(np.array(w), -1, 0).copy()) for w in kernels]
    method = prune.L1Unstructured(sparsity)  # it takes absolute values itself

    def each(method, score=lambda w: w):
        def run():
            for w in weights:
                method.compute_mask(score(w), torch.ones_like(w))

        return run

    def together():
        flat = torch.cat([w.ravel() for w in weights])
        mask = method.compute_mask(flat, torch.ones_like(flat))
        start = 0
        for w in weights:
            _ = mask[start : start + w.numel()].view_as(w)
            start += w.numel()

    return {
        "local": each(method),
        "global": together,
        "random": each(prune.RandomUnstructured(sparsity)),
        "saliency": each(method, torch.square),
        "channel": each(prune.LnStructured(sparsity, n=2, dim=0)),
    }.get(kind)


def _jaxpruner(kind, kernels, sparsity, pattern):
    """By instant_sparsify; blocks are ranked by their mean, and channels by L1 norms."""
    import jaxpruner
    from jaxpruner import sparsity_types as types

    share = {"sparsity_distribution_fn": lambda tree: jax.tree.map(lambda _: sparsity, tree)}
    magnitude = functools.partial(jaxpruner.MagnitudePruning, **share)
    makers = {
        "local": magnitude,
        "global": functools.partial(jaxpruner.GlobalMagnitudePruning, sparsity=sparsity),
        "random": functools.partial(jaxpruner.RandomPruning, **share),
        "saliency": functools.partial(jaxpruner.SaliencyPruning, **share),
        "nm": lambda: magnitude(sparsity_type=types.NByM(pattern.n, pattern.m, axis=-2)),
        "block": lambda: magnitude(sparsity_type=types.Block(pattern.shape)),
        "channel": lambda: magnitude(sparsity_type=types.Channel()),
    }
    if kind not in makers:
        return None
    pruner, tree = makers[kind](), dict(enumerate(kernels))
    make = jax.jit(lambda t: pruner.instant_sparsify(t, grads=t)[1])
    return lambda: make(tree)
