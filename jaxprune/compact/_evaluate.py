"""Runs a program on arrays that were cut: sizes that it was traced with become those kept."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._program import CUSTOM, REMAT, bind, scan_arity
from jaxprune.compact._graph import Body, Node, graph
from jaxprune.compact._keep import Keep, Kept, seeded, take
from jaxprune.compact._sizes import PARAMS
from jaxprune.compact._tie import MADE, tie
from jaxprune.compact._ties import Ties


def evaluate(jaxpr, kept: Sequence[Kept], names: Sequence[str], values) -> list:
    """What a program makes of arrays that were cut.

    Args:
      jaxpr: closed, traced at the shapes before the cut.
      kept: for each argument what is kept along its axes.
      names: of the arguments, for messages.
      values: the arguments, cut.

    Raises:
      ValueError: the program ties what was cut to what was not.
    """
    ties = tie(graph(jaxpr))
    return Evaluation(ties, seeded(ties, kept, names)).run(ties.graph.body, values)


class Evaluation:
    """A program and what is kept in it."""

    def __init__(self, ties: Ties, keep: Keep):
        self.ties, self.keep = ties, keep

    def run(self, body: Body, values) -> list:
        """The results of a program or a body, given its arguments."""
        known = dict(zip(body.inputs, values, strict=True))

        def read(number):
            if number not in known:
                constant = self.ties.graph.constants[number]
                known[number] = self.keep.cut(constant, self.ties.of(number))
            return known[number]

        for node in body.nodes:
            made = self._node(node, [read(number) for number in node.inputs])
            known |= dict(zip(node.outputs, made, strict=True))
        return [read(number) for number in body.outputs]

    def kept(self, number: int) -> list[np.ndarray | None]:
        """What is kept along the axes of a value."""
        return [self.keep.vector(axis) for axis in self.ties.of(number)]

    def sizes(self, number: int) -> tuple:
        """The shape of a value that was cut."""
        return tuple(self.keep.size(axis) for axis in self.ties.of(number))

    def is_cut(self, node: Node) -> bool:
        """Whether an operation meets anything that was cut."""
        numbers = (*node.inputs, *node.outputs)
        axes = (axis for number in numbers for axis in self.ties.of(number))
        return any(map(self.keep.is_cut, axes)) or any(
            self.is_cut(inner) for body in node.bodies for inner in body.nodes
        )

    def _node(self, node: Node, values) -> list:
        if not self.is_cut(node):
            return bind(node.eqn, values)
        name = node.name
        if name in MADE:
            made = bind(node.eqn, values)
            return [take(x, self.kept(n)) for x, n in zip(made, node.outputs, strict=True)]
        if name in CUSTOM:
            return self._custom(node, values)
        if name in REMAT:
            params = {name: node.params[name] for name in ("prevent_cse", "policy")}
            call = functools.partial(self._flat, node.bodies[0])
            return list(jax.checkpoint(call, **params)(*values))
        if name == "sharding_constraint":
            return [_constrained(values[0], node)]
        if name in _LOOPS:
            return _LOOPS[name](self, node, values)
        if name in PARAMS:
            return bind(node.eqn, values, node.params | PARAMS[name](self, node))
        return bind(node.eqn, values)

    def _flat(self, body: Body, *values) -> list:
        return self.run(body, values)

    def _custom(self, node: Node, values) -> list:
        """A call with its own derivative: that is traced before the cut, and cut as well."""
        call = functools.partial(self._flat, node.bodies[0])
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in node.eqn.invars]
        smooth = [i for i, x in enumerate(shapes) if jnp.issubdtype(x.dtype, jnp.inexact)]
        kept = [self.kept(n) for n in node.inputs]
        results = [self.kept(n) for n in node.outputs]

        def whole(rest, *moving):
            operands = list(rest)
            for i, x in zip(smooth, moving, strict=True):
                operands[i] = x
            return bind(node.eqn, operands)

        def cut(function, others, kept_others, values):
            """`function` of all operands and others, before and after the cut."""
            count = len(shapes)
            jaxpr = jax.make_jaxpr(lambda *x: function(x[:count], x[count:]))(*shapes, *others)
            names = [f"an operand of {node.name}"] * len(values)
            return evaluate(jaxpr, [*kept, *kept_others], names, values)

        if node.name == "custom_jvp_call":

            def push(operands, tangents):
                moving = [operands[i] for i in smooth]
                made = jax.jvp(functools.partial(whole, operands), moving, list(tangents))
                return [*made[0], *made[1]]

            def rule(operands, tangents):
                moving = [shapes[i] for i in smooth]
                kept_moving = [kept[i] for i in smooth]
                values = [*operands, *(tangents[i] for i in smooth)]
                made = cut(push, moving, kept_moving, values)
                return made[: len(results)], made[len(results) :]

            smooth_call = jax.custom_jvp(call)
            smooth_call.defjvp(rule)
            return list(smooth_call(*values))

        def pull(operands, cotangents):
            moving = [operands[i] for i in smooth]
            return jax.vjp(functools.partial(whole, operands), *moving)[1](list(cotangents))

        def backward(operands, cotangents):
            made = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in node.eqn.outvars]
            found = dict(
                zip(smooth, cut(pull, made, results, [*operands, *cotangents]), strict=True)
            )
            return tuple(found.get(i) for i in range(len(shapes)))

        with_rule = jax.custom_vjp(call)
        with_rule.defvjp(lambda *operands: (call(*operands), operands), backward)
        return list(with_rule(*values))


def _constrained(x, node: Node):
    """A value placed as is asked, where what is kept can be."""
    try:
        node.params["sharding"].shard_shape(x.shape)
    except ValueError:
        return x
    return bind(node.eqn, [x])[0]


def _scan(run: Evaluation, node: Node, values) -> list:
    params, (body,) = node.params, node.bodies
    first, carried = scan_arity(node.eqn)
    constants = values[:first]

    def step(carry, rows):
        made = run.run(body, [*constants, *carry, *rows])
        return made[:carried], made[carried:]

    carry, stacked = lax.scan(
        step,
        values[first : first + carried],
        values[first + carried :],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *stacked]


def _while(run: Evaluation, node: Node, values) -> list:
    test, body = node.bodies
    n, m = node.params["cond_nconsts"], node.params["body_nconsts"]
    first, second, start = values[:n], values[n : n + m], values[n + m :]
    return lax.while_loop(
        lambda carry: run.run(test, [*first, *carry])[0],
        lambda carry: run.run(body, [*second, *carry]),
        start,
    )


def _cond(run: Evaluation, node: Node, values) -> list:
    branches = [functools.partial(run._flat, body) for body in node.bodies]
    return lax.switch(values[0], branches, *values[1:])


_LOOPS = {"cond": _cond, "scan": _scan, "while": _while}
