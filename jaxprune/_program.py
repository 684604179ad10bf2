"""A call as a program: its jaxpr, and which arguments of it are leaves of the params."""

import dataclasses
from typing import Any

import jax

from jaxprune._tree import flatten

CALLS = frozenset({"closed_call", "core_call", "jit", "pjit"})
"""Operations that are what they call."""

CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})
"""Calls with derivatives of their own."""

REMAT = frozenset({"checkpoint", "remat", "remat2"})
"""Calls that are computed again for derivatives."""


@dataclasses.dataclass(frozen=True)
class Traced:
    """What `trace` makes.

    Attributes:
      paths, leaves: of the params.
      places: for each argument of the jaxpr its index among the leaves of (params, *args); those of
        the params come first. Leaves that are no arrays have none.
      jaxpr: the program, closed; it gives the leaves of the result that are arrays.
      result: the structure of what the call gave, its leaves with None for arrays, and where
        these are.
    """

    paths: list[str]
    leaves: list[Any]
    places: list[int]
    jaxpr: Any
    result: tuple[Any, list[Any], list[int]]

    def rebuilt(self, arrays):
        """The result of a call that gave these arrays."""
        structure, leaves, places = self.result
        whole = list(leaves)
        for i, array in zip(places, arrays, strict=True):
            whole[i] = array
        return structure.unflatten(whole)


def is_array(value) -> bool:
    """Whether a leaf is an array, or stands for one."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def opened(jaxpr):
    """A program without its constants, and their values; versions of jax differ in the type."""
    if hasattr(jaxpr, "jaxpr") and jaxpr.jaxpr is not jaxpr:
        return jaxpr.jaxpr, jaxpr.consts
    return jaxpr, getattr(jaxpr, "consts", ())


def scan_arity(eqn) -> tuple[int, int]:
    """How many constants a scan has and how much it carries; what it scans over comes last.

    Read off ranks: versions of jax differ in where they say so.
    """
    inner = opened(eqn.params["jaxpr"])[0]

    def whole(outside, inside):
        pairs = zip(outside, inside, strict=True)
        return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in pairs)

    carried = whole(eqn.outvars, inner.outvars)
    return whole(eqn.invars, inner.invars) - carried, carried


def bind(eqn, operands, params=None) -> list:
    """What an equation makes of operands.

    Args:
      eqn: of a jaxpr.
      operands: arrays, as many as it has.
      params: in place of its own.
    """
    params = eqn.primitive.get_bind_params(eqn.params if params is None else params)
    functions, params = params if isinstance(params, tuple) else ((), params)
    with eqn.ctx.manager:
        made = eqn.primitive.bind(*functions, *operands, **params)
    return list(made) if eqn.primitive.multiple_results else [made]


def with_keywords(function):
    """The same function, of params, a tuple of arguments and a dict of keywords, to be traced."""
    return lambda params, args, kwargs: function(params, *args, **kwargs)


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

    result: list[Any] = []

    def call(*arrays):
        whole = list(values)
        for i, array in zip(places, arrays, strict=True):
            whole[i] = array
        tree = jax.tree.unflatten(structure, whole[: len(leaves)])
        made = function(tree, *jax.tree.unflatten(rest, whole[len(leaves) :]))
        results, form = jax.tree.flatten(made)
        found = [i for i, x in enumerate(results) if is_array(x)]
        blank = [None if is_array(x) else x for x in results]
        result[:] = form, blank, found
        return [results[i] for i in found]

    jaxpr = jax.make_jaxpr(call)(*(values[i] for i in places))
    return Traced(paths, leaves, places, jaxpr, tuple(result))
