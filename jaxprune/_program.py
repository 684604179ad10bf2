"""A call as a program: its jaxpr, and which arguments of it are leaves of the params."""

import dataclasses
from typing import Any

import jax

from jaxprune._tree import flatten


@dataclasses.dataclass(frozen=True)
class Traced:
    """What `trace` makes.

    Attributes:
      paths, leaves: of the params.
      places: for each argument of the jaxpr its index among the leaves of (params, *args); those of
        the params come first. Leaves that are no arrays have none.
      jaxpr: the program, closed; it gives the leaves of the result.
    """

    paths: list[str]
    leaves: list[Any]
    places: list[int]
    jaxpr: Any


def is_array(value) -> bool:
    """Whether a leaf is an array, or stands for one."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def trace(function, params, args) -> Traced:
    """The program of `function(params, *args)`.

    Args:
      function: what is called.
      params: a pytree. Leaves that are no arrays, such as functions, are handed over as they are.
      args: a tuple of pytrees, likewise.

    Raises:
      TypeError: function is not callable.
    """
    if not callable(function):
        raise TypeError(
            f"function={function!r} is not callable; the order is (function, params, *args)."
        )
    paths, leaves, structure = flatten(params)
    others, rest = jax.tree.flatten(args)
    values = [*leaves, *others]
    places = [i for i, value in enumerate(values) if is_array(value)]

    def call(*arrays):
        whole = list(values)
        for i, array in zip(places, arrays, strict=True):
            whole[i] = array
        tree = jax.tree.unflatten(structure, whole[: len(leaves)])
        made = function(tree, *jax.tree.unflatten(rest, whole[len(leaves) :]))
        return [x for x in jax.tree.leaves(made) if is_array(x)]

    return Traced(paths, leaves, places, jax.make_jaxpr(call)(*(values[i] for i in places)))
