"""Where a masked program computes what a cut one does: removed parts are 0 wherever they are added.

A masked weight is 0 at what is removed. That goes through most operations; where it is lost, as in
exp, and the values are then added up or compared along the removed axis, the cut program gives
something else than the masked one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._program import scan_arity
from jaxprune.compact import _axes
from jaxprune.compact._axes import Atom
from jaxprune.compact._graph import Body, Node
from jaxprune.compact._ties import Ties

Zero = frozenset[Atom] | None
"""Roots at whose removed indices a value is 0; None: it is 0 everywhere."""

_NOTHING: frozenset[Atom] = frozenset()


def unequal(ties: Ties, weights: Iterable[int]) -> dict[Atom, list[str]]:
    """Root -> what would make a cut program differ from the masked one.

    Args:
      ties: of the program.
      weights: numbers of the values that are masked.
    """
    walk = _Walk(ties)
    weights = set(weights)
    inputs = [walk.roots(n) if n in weights else _NOTHING for n in ties.graph.body.inputs]
    walk.body(ties.graph.body, inputs)
    return walk.found


class _Walk:
    def __init__(self, ties: Ties):
        self.ties = ties
        self.found: dict[Atom, list[str]] = {}
        self.cache: dict[int, frozenset[Atom]] = {}

    def roots(self, number: int) -> frozenset[Atom]:
        """Those in the axes of a value."""
        if number not in self.cache:
            axes = self.ties.of(number)
            self.cache[number] = frozenset(root for axis in axes for root in _axes.roots(axis))
        return self.cache[number]

    def over(self, number: int, axes: Iterable[int]) -> frozenset[Atom]:
        """The roots in some axes of a value."""
        own = self.ties.of(number)
        return frozenset(root for i in axes for root in _axes.roots(own[i]))

    def flag(self, roots: Iterable[Atom], why: str):
        for root in roots:
            reasons = self.found.setdefault(root, [])
            if why not in reasons and not root.frozen:
                reasons.append(why)

    def body(self, body: Body, inputs: Iterable[Zero]) -> list[Zero]:
        known: dict[int, Zero] = dict(zip(body.inputs, inputs, strict=True))

        def read(number) -> Zero:
            if number not in known:
                value = self.ties.graph.constants[number]
                known[number] = None if _is_zero(value) else _NOTHING
            return known[number]

        for node in body.nodes:
            made = self.node(node, [read(n) for n in node.inputs])
            for number, zero in zip(node.outputs, made, strict=True):
                known[number] = None if zero is None else zero & self.roots(number)
        return [read(number) for number in body.outputs]

    def node(self, node: Node, zeros: list[Zero]) -> list[Zero]:
        name = node.name
        if node.bodies:
            return self.nested(node, zeros)
        if name in ("dot_general", "conv_general_dilated"):
            return [self.product(node, zeros)]
        if name.startswith(("reduce_", "arg")) and "axes" in node.params:
            return self.reduction(node, zeros)
        if name in _INFINITE_AT_0:
            zero = zeros[_INFINITE_AT_0[name]]
            self.flag(_NOTHING if zero is None else zero, f"{name} is not finite where it is 0")
        if name in ("mul", "and"):
            made = _union(zeros)
        elif name in _ALL_OF:
            made = _meet(zeros)
        elif name in _FIRST or (name == "integer_pow" and node.params["y"] > 0):
            made = zeros[0]
        elif name == "div":
            made = zeros[0] if zeros[0] is None or zeros[1] is None else zeros[0] - zeros[1]
        elif name in _WITH_SCALARS:
            made = self.with_scalars(node, zeros)
        elif name == "concatenate":
            made = self.joined(node, zeros)
        elif name == "select_n":
            made = _meet(zeros[1:])
        elif name in _SAME:
            return zeros
        else:
            made = _NOTHING
        return [made] * len(node.outputs)

    def nested(self, node: Node, zeros: list[Zero]) -> list[Zero]:
        if node.name == "cond":
            made = [self.body(body, zeros[1:]) for body in node.bodies]
            return [_meet(each) for each in zip(*made, strict=True)]
        if node.name == "scan":
            first, carried = scan_arity(node.eqn)
            whole = first + carried
            return self.settled(node.bodies[0], zeros[:first], zeros[first:whole], zeros[whole:])
        if node.name == "while":
            n, m = node.params["cond_nconsts"], node.params["body_nconsts"]
            carry = self.settled(node.bodies[1], zeros[n : n + m], zeros[n + m :], [])
            self.body(node.bodies[0], [*zeros[:n], *carry])
            return carry
        return self.body(node.bodies[0], zeros)

    def settled(self, body, constants, carry, rows) -> list[Zero]:
        """What a loop makes: what is carried is 0 where it is before and after each pass."""
        while True:
            made = self.body(body, [*constants, *carry, *rows])
            after = [_meet(pair) for pair in zip(carry, made[: len(carry)], strict=True)]
            if after == carry:
                return [*after, *made[len(carry) :]]
            carry = after

    def product(self, node: Node, zeros: list[Zero]) -> Zero:
        made = _union(zeros)
        if node.name == "dot_general":
            summed = self.over(node.inputs[0], node.params["dimension_numbers"][0][0])
        else:
            summed = self.over(node.inputs[1], [node.params["dimension_numbers"].rhs_spec[1]])
        if made is not None:
            self.flag(summed - made, f"{node.name} adds it up where it is not 0")
        return made

    def reduction(self, node: Node, zeros: list[Zero]) -> list[Zero]:
        reduced = self.over(node.inputs[0], node.params["axes"])
        if node.name != "reduce_sum":
            self.flag(reduced, f"{node.name} runs over it")
        elif zeros[0] is not None:
            self.flag(reduced - zeros[0], "reduce_sum adds it up where it is not 0")
        return [zeros[0]] * len(node.outputs)

    def joined(self, node: Node, zeros: list[Zero]) -> Zero:
        """0 at a root where all parts that have the root are."""
        everything = frozenset[Atom]().union(*map(self.roots, node.inputs))
        lost = [
            self.roots(n) - zero
            for n, zero in zip(node.inputs, zeros, strict=True)
            if zero is not None
        ]
        return everything.difference(*lost) if lost else None

    def with_scalars(self, node: Node, zeros: list[Zero]) -> Zero:
        """0 stays 0 beside some scalars: in max(x, 0), min(x, 6), clamp(-1, x, 1), x ** 2."""
        scalars = [self.ties.graph.scalar(number) for number in node.inputs]
        fits = _WITH_SCALARS[node.name]
        if node.name == "clamp":
            low, _, high = scalars
            return zeros[1] if _fits(low, fits[0]) and _fits(high, fits[2]) else _meet(zeros)
        if node.name == "pow":
            return zeros[0] if _fits(scalars[1], fits[1]) else _NOTHING
        return _meet([z for z, s, f in zip(zeros, scalars, fits, strict=True) if not _fits(s, f)])


def _fits(scalar, fits) -> bool:
    return scalar is not None and bool(fits(scalar))


def _is_zero(value: Any) -> bool:
    dtype = jnp.result_type(value) if np.isscalar(value) else value.dtype
    return not jnp.issubdtype(dtype, jax.dtypes.prng_key) and not np.asarray(value).any()


def _meet(zeros: Iterable[Zero]) -> Zero:
    """Where all are 0."""
    known = [zero for zero in zeros if zero is not None]
    return frozenset.intersection(*known) if known else None


def _union(zeros: Iterable[Zero]) -> Zero:
    """Where one is 0."""
    known = list(zeros)
    return None if None in known else frozenset[Atom]().union(*(z for z in known if z is not None))


_ALL_OF = frozenset(
    {"add", "add_any", "or", "pad", "sort", "sub", "xor", "complex", "cumsum", "stack"}
)
"""0 where all operands are."""

_SAME = frozenset({"device_put", "optimization_barrier", "sharding_constraint"})
"""Each result is an operand."""

_FIRST = frozenset(
    {"abs", "asin", "asinh", "atan", "atanh", "bitcast_convert_type", "broadcast_in_dim", "cbrt"}
    | {"ceil", "conj", "convert_element_type", "copy", "copy_p", "cummax", "cummin", "cumprod"}
    | {"dynamic_slice", "erf", "erf_inv", "expm1", "floor", "gather", "imag", "log1p"}
    | {"name", "neg", "real", "reduce_precision", "reduce_window_max", "reduce_window_min"}
    | {"reduce_window_sum", "rem", "reshape", "rev", "round", "sign", "sin", "sinh", "slice"}
    | {"split", "sqrt", "square", "squeeze", "stop_gradient", "tan", "tanh", "tile"}
    | {"transpose", "unstack"}
)
"""0 where the first operand is."""


def _not_above(x):
    return x <= 0


def _not_below(x):
    return x >= 0


_INFINITE_AT_0 = {"div": 1, "log": 0, "log2": 0, "rsqrt": 0}
"""Which operand makes something that is not finite of 0."""

_WITH_SCALARS: Mapping[str, tuple] = {
    "clamp": (_not_above, None, _not_below),
    "max": (_not_above, _not_above),
    "min": (_not_below, _not_below),
    "pow": (None, lambda x: x > 0),
}
"""Which scalars leave 0 what it is."""
