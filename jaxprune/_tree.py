"""Leaves of any pytree with their paths, written a/b/kernel."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey


def key_name(key):
    """What a key of a path is called: a string, an index, or what a dict is looked up by."""
    match key:
        case DictKey(key=name) | FlattenedIndexKey(key=name):
            return name
        case SequenceKey(idx=index):
            return index
        case GetAttrKey(name=name):
            return name
        case _:
            return str(key)


def path_string(path) -> str:
    """A key path as `a/b/kernel`."""
    return "/".join(str(key_name(key)) for key in path)


def _wrappers() -> tuple[type, ...]:
    """Types of Flax that wrap one array; none can be in a tree before their module is imported."""
    modules = ("flax.nnx", "Variable"), ("flax.core.meta", "AxisMetadata")
    return tuple(getattr(sys.modules[m], name) for m, name in modules if m in sys.modules)


def floating(paths, leaves) -> dict[str, jax.Array]:
    """Path -> array, of the leaves that a loss can be differentiated by."""
    return {
        path: jnp.asarray(x)
        for path, x in zip(paths, leaves, strict=True)
        if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
    }


def replaced(structure, paths, leaves, new: dict[str, Any]):
    """The tree, with the leaves at some paths replaced."""
    return structure.unflatten([new.get(p, x) for p, x in zip(paths, leaves, strict=True)])


def flatten(tree, is_leaf=None) -> tuple[list[str], list[Any], Any]:
    """(paths, leaves, structure) of a pytree; None is no leaf.

    An nnx.Variable, or a box of metadata such as nn.Partitioned, wraps its array in an attribute,
    which is left out of the path.
    """
    keys, leaves, structure = flatten_with_keys(tree, is_leaf)
    return [path_string(path) for path in keys], leaves, structure


def flatten_with_keys(tree, is_leaf=None) -> tuple[list[tuple], list[Any], Any]:
    """As `flatten`, with the keys of each path."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    keys = [path for path, _ in pairs]
    wrappers = _wrappers()
    if wrappers:

        def stops(node):
            return isinstance(node, wrappers) or (is_leaf is not None and is_leaf(node))

        nodes = jax.tree_util.tree_flatten_with_path(tree, is_leaf=stops)[0]
        wrapped = {path for path, node in nodes if isinstance(node, wrappers)}
        keys = [path[:-1] if path[:-1] in wrapped else path for path in keys]
    return keys, [leaf for _, leaf in pairs], structure
