"""Leaves of any pytree with their paths, written a/b/kernel."""

from typing import Any

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

_NNX_VALUE = {"value", "raw_value"}  # an nnx.Variable wraps its array in one of these


def path_string(path) -> str:
    """A key path as `a/b/kernel`, without the attribute that an nnx.Variable adds."""
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
    if len(parts) > 1 and isinstance(path[-1], GetAttrKey) and parts[-1] in _NNX_VALUE:
        parts.pop()
    return "/".join(parts)


def flatten(tree) -> tuple[list[str], list[Any], Any]:
    """(paths, leaves, structure) of a pytree; None is no leaf."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [path_string(path) for path, _ in pairs], [leaf for _, leaf in pairs], structure
