"""A traced call as operations on numbered values, with the bodies of its loops inside."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxprune._program import CALLS, CUSTOM, REMAT, opened


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """A program: numbers of its arguments and results, and its operations in order."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple["Node", ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
      eqn: the equation of the jaxpr.
      inputs, outputs: numbers of values.
      bodies: of a loop, a branch, or a call that is kept as one.
    """

    eqn: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bodies: tuple[Body, ...] = ()

    @property
    def name(self) -> str:
        """Of the primitive."""
        return self.eqn.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """Of the primitive."""
        return self.eqn.params


@dataclasses.dataclass(eq=False)
class Graph:
    """A whole program.

    Attributes:
      shapes: number of a value -> its shape.
      constants: number of a value -> the value.
      body: the program.
    """

    shapes: dict[int, tuple]
    constants: dict[int, Any]
    body: Body

    def scalar(self, number: int):
        """The value of a scalar that the program knows, or None."""
        value = self.constants.get(number)
        return None if value is None or np.ndim(value) else value


def graph(jaxpr) -> Graph:
    """The operations of a closed jaxpr."""
    made = Graph({}, {}, Body((), (), ()))
    made.body = _Builder(made).body(jaxpr)
    return made


class _Builder:
    def __init__(self, made: Graph):
        self.made = made
        self.numbers = itertools.count()

    def value(self, aval) -> int:
        number = next(self.numbers)
        self.made.shapes[number] = tuple(getattr(aval, "shape", ()))
        return number

    def constant(self, value, aval) -> int:
        number = self.value(aval)
        self.made.constants[number] = value
        return number

    def body(self, jaxpr) -> Body:
        inputs = [self.value(var.aval) for var in opened(jaxpr)[0].invars]
        nodes: list[Node] = []
        outputs = self.add(jaxpr, inputs, nodes)
        return Body(tuple(inputs), tuple(outputs), tuple(_needed(nodes, outputs)))

    def add(self, jaxpr, inputs: Sequence[int], nodes: list[Node]) -> list[int]:
        """Appends the operations of a jaxpr; returns the numbers of its results."""
        jaxpr, constants = opened(jaxpr)
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, value in zip(jaxpr.constvars, constants, strict=True):
            known[var] = self.constant(value, var.aval)

        def read(atom):
            return self.constant(atom.val, atom.aval) if hasattr(atom, "val") else known[atom]

        for eqn in jaxpr.eqns:
            arguments = [read(atom) for atom in eqn.invars]
            inner = [x for x in programs(eqn) if len(opened(x)[0].invars) == len(arguments)]
            if eqn.primitive.name in CALLS and inner:
                outputs = self.add(inner[0], arguments, nodes)
            else:
                outputs = [self.value(var.aval) for var in eqn.outvars]
                bodies = tuple(map(self.body, self.kept(eqn, inner)))
                nodes.append(Node(eqn, tuple(arguments), tuple(outputs), bodies))
            known |= dict(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def kept(self, eqn, inner):
        """The programs of an operation that are looked into and stay where they are."""
        name, params = eqn.primitive.name, eqn.params
        if name in CUSTOM or name in REMAT:
            return inner[:1]
        if name == "scan":
            return [params["jaxpr"]]
        if name == "while":
            return [params["cond_jaxpr"], params["body_jaxpr"]]
        return params["branches"] if name == "cond" else []


def _needed(nodes: Sequence[Node], outputs: Sequence[int]) -> list[Node]:
    """The operations that results are made of; others would tie axes for nothing."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if node.eqn.effects or not wanted.isdisjoint(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def programs(eqn):
    """Programs among the parameters of an equation."""
    for value in eqn.params.values():
        if hasattr(opened(value)[0], "eqns"):
            yield value
