"""Masks and the params they belong to: matched, applied, read off zeros."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune._tree import flatten
from jaxprune.masks._make import place
from jaxprune.masks._targets import check_distinct, options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude


def stands_for_leaf(node) -> bool:
    """Whether a node of a tree of masks stands for a leaf that is dense, or that optax hides."""
    return node is None or isinstance(node, optax.MaskedNode)


def flatten_masks(masks) -> dict[str, Any]:
    """Path -> mask, and None where a leaf is dense."""
    paths, leaves, _ = flatten(masks, is_leaf=stands_for_leaf)
    return {p: None if stands_for_leaf(m) else m for p, m in zip(paths, leaves, strict=True)}


def _covers(flat, path):
    """Whether masks say something about a path: a mask, or a stand-in for it or what it lies in."""
    if path in flat:
        return True
    while path:
        path = path.rpartition("/")[0]
        if path in flat:
            return flat[path] is None
    return False


def match(params, masks) -> list[tuple[str, Any, Any]]:
    """(path, leaf, mask or None) for each leaf of `params`.

    Trees are compared by their paths, so that masks from an optimizer state fit, in which Flax
    wraps leaves of other types.

    Raises:
      TypeError: a mask is not bool.
      ValueError: the trees or the shapes differ.
    """
    paths, leaves, _ = flatten(params)
    check_distinct(paths)
    flat = flatten_masks(masks)
    known = set(paths)  # a None in the params is no leaf, and has none in the masks
    strange = [path for path, mask in flat.items() if mask is not None and path not in known]
    missing = [path for path in paths if not _covers(flat, path)]
    if strange or missing:
        what = f"has {strange[0]!r}, which params lack" if strange else f"lacks {missing[0]!r}"
        raise ValueError(
            f"masks is a tree of another structure: it {what}. Masks have the tree of their "
            "params, with None for dense leaves."
        )
    for path, leaf in zip(paths, leaves, strict=True):
        mask = flat.get(path)
        if mask is None:
            continue
        if getattr(mask, "dtype", None) != jnp.bool_:
            kind = getattr(mask, "dtype", repr(mask))
            raise TypeError(f"the mask of {path} is {kind}; masks are bool arrays, True = keep.")
        if mask.shape != jnp.shape(leaf):
            raise ValueError(
                f"the mask of {path} has shape {mask.shape}, the leaf {jnp.shape(leaf)}; a mask "
                "has the shape of its leaf."
            )
    return [(path, leaf, flat.get(path)) for path, leaf in zip(paths, leaves, strict=True)]


def apply(params, masks):
    """Params with exact zeros where the mask is False.

        where(mask, w, 0): also for infinite and NaN weights

    Use it on any copy of the params, such as a moving average.

    Args:
      params: any pytree.
      masks: bool arrays in the tree of `params`; None leaves a leaf as it is.

    Returns:
      A pytree as `params`, of the same dtypes.

    Raises:
      TypeError: a mask is not bool.
      ValueError: the trees or the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.apply_masks({"w": jnp.array([jnp.inf, 2.0])}, {"w": jnp.array([False, True])})
      {'w': Array([0., 2.], dtype=float32)}
    """
    return jax.tree.unflatten(
        jax.tree.structure(params),
        [
            w if mask is None else jnp.where(mask, w, jnp.zeros((), jnp.asarray(w).dtype))
            for _, w, mask in match(params, masks)
        ],
    )


def from_zeros(params, *, rules=()):
    """Masks of the zeros that params have: False where a prunable weight is exactly 0.

    What is prunable is decided as in `make`. To train on from a pruned checkpoint, pass the masks
    to `keep`.

    Args:
      params: any pytree of arrays.
      rules: `Rule`s by path, of which only `dense` matters here.

    Returns:
      A pytree as `params`: bool arrays, and None where a leaf is dense.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.masks.from_zeros({"kernel": jnp.array([[0.0, 2.0], [-0.0, 1.0]])})
      {'kernel': Array([[False,  True],
             [False,  True]], dtype=bool)}
    """
    chosen = options(magnitude, Unstructured(), "leaf", None, rules, None, None)
    setup, _ = resolve(params, chosen)
    _, leaves, structure = flatten(params)
    return place(setup, [jnp.asarray(leaves[t.index]) != 0 for t in setup.targets], structure)
