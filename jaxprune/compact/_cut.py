"""Cuts trees: params, state, and whatever has their paths in it, such as an optimizer's moments."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxprune._checks import is_traced
from jaxprune._program import is_array
from jaxprune._sharding import cut_if_divisible, with_auto_axes
from jaxprune._tree import flatten, replaced
from jaxprune.compact._keep import Kept, take


def cut(tree, kept: Mapping[str, Kept]):
    """The tree with the leaves cut that are known by their paths.

    Args:
      tree: params, a part of them, or a tree in which such lie. A leaf is known by the end of its
        path; of several that fit the longest counts. Of another model with the same ends of paths
        leaves of the same shapes are cut as well.
      kept: path of each leaf that was traced -> what is kept along its axes.

    Raises:
      ValueError: a leaf has another shape than the one traced, or none of the tree is known.
    """
    paths, leaves, structure = flatten(tree)
    known = {tuple(path.split("/")): path for path in kept}
    inside = {key[1:]: path for key, path in known.items() if key[0] == "params" and key[1:]}
    known = inside | known
    new, found = {}, False
    for path, leaf in zip(paths, leaves, strict=True):
        match = _match(tuple(path.split("/")), known)
        if match is None or not is_array(leaf) or not np.shape(leaf):
            continue
        vectors = kept[match]
        shape = tuple(n if v is None else v.size for n, v in zip(leaf.shape, vectors, strict=False))
        if len(vectors) != leaf.ndim or shape != tuple(leaf.shape):
            raise ValueError(
                f"{path} has the shape {tuple(leaf.shape)}, which is not that of {match} when it "
                "was traced: it is of another model, or was cut before. Factored moments cannot be "
                "cut, make them anew with the optimizer's init; nor packed masks, cut the "
                "inner_state of jaxprune.prune or keep."
            )
        found = True
        if any(v is not None for v in vectors):
            new[path] = _taken(leaf, vectors)
    if not found:
        raise ValueError(
            f"nothing in the tree is known by its path; it has {', '.join(paths[:4])}, and what "
            f"was traced {', '.join(list(kept)[:4]) or 'a leaf without a path: put it in a dict'}."
        )
    return replaced(structure, paths, leaves, new)


def _taken(leaf, vectors: Kept):
    """What is kept of a leaf, in its place on devices where they divide it."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        sizes = (n if v is None else int(v.sum()) for n, v in zip(leaf.shape, vectors, strict=True))
        return jax.ShapeDtypeStruct(tuple(sizes), leaf.dtype)
    if isinstance(leaf, np.ndarray):
        return take(leaf, vectors)

    def fit(sharding):
        for axis, vector in enumerate(vectors):
            if vector is not None:
                sharding = cut_if_divisible(sharding, axis, int(vector.sum()))
        return sharding

    (made,) = with_auto_axes(lambda x: [take(x, vectors)], leaf, like=[leaf], fit=fit)
    if is_traced(leaf) or not isinstance(leaf.sharding, NamedSharding):
        return made
    return jax.device_put(made, fit(leaf.sharding))


def _match(keys: tuple[str, ...], known: Mapping[tuple[str, ...], str]) -> str | None:
    """The leaf that a path ends in."""
    for i in range(len(keys)):
        if keys[i:] in known:
            return known[keys[i:]]
    return None
