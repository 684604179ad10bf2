"""Cuts trees: params, state, and whatever has their paths in it, such as an optimizer's moments."""

from collections.abc import Mapping

import numpy as np

from jaxprune._program import is_array
from jaxprune._tree import flatten, replaced
from jaxprune.compact._keep import Kept, take


def cut(tree, kept: Mapping[str, Kept]):
    """The tree with the leaves cut that are known by their paths.

    Args:
      tree: params, a part of them, or a tree in which such lie. A leaf is known by the end of its
        path; of several that fit the longest counts.
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
            new[path] = take(leaf, vectors)
    if not found:
        raise ValueError(
            f"nothing in the tree is known by its path; it has {', '.join(paths[:4])}, and what "
            f"was traced {', '.join(list(kept)[:4])}."
        )
    return replaced(structure, paths, leaves, new)


def _match(keys: tuple[str, ...], known: Mapping[tuple[str, ...], str]) -> str | None:
    """The leaf that a path ends in."""
    for i in range(len(keys)):
        if keys[i:] in known:
            return known[keys[i:]]
    return None
