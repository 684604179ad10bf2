"""Leaves of any pytree with their paths, written a/b/kernel."""

import sys
from typing import Any

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey


def path_string(path) -> str:
    """A key path as `a/b/kernel`."""
    parts = []
    for key in path:
        match key:
            case DictKey(key=name) | FlattenedIndexKey(key=name):
                parts.append(str(name))
            case SequenceKey(idx=index):
                parts.append(str(index))
            case GetAttrKey(name=name):
                parts.append(name)
            case _:
                parts.append(str(key))
    return "/".join(parts)


def flatten(tree, is_leaf=None) -> tuple[list[str], list[Any], Any]:
    """(paths, leaves, structure) of a pytree; None is no leaf.

    An nnx.Variable wraps its array in an attribute, which is left out of the path.
    """
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    keys = [path for path, _ in pairs]
    nnx = sys.modules.get("flax.nnx")  # no Variable can be in the tree before it is imported
    if nnx is not None:

        def stops(node):
            return isinstance(node, nnx.Variable) or (is_leaf is not None and is_leaf(node))

        nodes = jax.tree_util.tree_flatten_with_path(tree, is_leaf=stops)[0]
        wrapped = {path for path, node in nodes if isinstance(node, nnx.Variable)}
        keys = [path[:-1] if path[:-1] in wrapped else path for path in keys]
    return [path_string(path) for path in keys], [leaf for _, leaf in pairs], structure
