"""The axes of all values of a program."""

import dataclasses

import numpy as np

from jaxprune.compact._axes import Axis, freeze, new
from jaxprune.compact._graph import Graph, Node


@dataclasses.dataclass(eq=False)
class Ties:
    """The axes of all values.

    Attributes:
      graph: the program.
      axes: number of a value -> its axes.
      groups: a convolution with groups -> the axis of its groups.
      used: axes that something is computed from.
      made: axes of what the program makes of nothing, and why their order counts.
    """

    graph: Graph
    axes: dict[int, list[Axis]]
    groups: dict[Node, Axis] = dataclasses.field(default_factory=dict)
    used: list[Axis] = dataclasses.field(default_factory=list)
    made: list[Axis] = dataclasses.field(default_factory=list)

    def fresh(self, number: int, frozen: str | None = None) -> list[Axis]:
        """Axes of which nothing is known."""
        return [new(whole_number(n), frozen) for n in self.graph.shapes[number]]

    def of(self, number: int) -> list[Axis]:
        """The axes of a value; those of a constant are made when it is first read."""
        if number not in self.axes:
            self.axes[number] = self.fresh(number)
            self.made += self.axes[number]
        return self.axes[number]


def whole_number(n):
    """Sizes of jaxprs may be NumPy's."""
    return int(n) if isinstance(n, np.integer) else n


def unknown(ties: Ties, node: Node):
    for number in node.inputs:
        for axis in ties.of(number):
            freeze(axis, f"{node.name} reads it")
    return [ties.fresh(number, f"{node.name} makes it") for number in node.outputs]
