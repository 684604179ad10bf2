"""A program as equations that can be run piece by piece; the products in it that are watched."""

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxprune.oneshot._products import Order, Rows
from jaxprune.oneshot._views import Matrix, View

FIXED = -1
"""The depth of a value in which no data is; others count the watched products before them."""


class Equation(NamedTuple):
    """One operation.

    Attributes:
      run: arrays -> list of arrays.
      key: equal keys, equal operations.
      inputs, outputs: numbers of values.
      depth: of what it makes.
    """

    run: Callable[..., Sequence[Any]]
    key: Hashable
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    depth: int


class Site(NamedTuple):
    """A product in which data meets weights of a leaf.

    Attributes:
      leaf: its number.
      matrix: the weights.
      value: number of the value that is the data.
      rows: how it is read as X.
      depth: of that value; the product itself is one deeper.
    """

    leaf: int
    matrix: Matrix
    value: int
    rows: Rows
    depth: int


@dataclasses.dataclass
class Program:
    """Equations in an order in which they can be run, filled by `flatten`.

    Attributes:
      orders: number of a leaf that is watched -> the order of factors in its matrices.
      arguments: numbers of the values that are given.
      equations: all of them.
      sites: products of leaves that are watched.
      constants: number of a value -> the value.
      depth: number of a value -> its depth.
      views: number of a value -> the weights it is.
      joined: number of a value -> the axis along which it holds views side by side, and these.
      made_of: number of a fixed value that is no view -> the leaves it is made of, and by what.
      uses: number of a leaf -> what else is done with it, in words.
    """

    orders: Mapping[int, Order]
    numbers: Any = dataclasses.field(default_factory=itertools.count)
    arguments: list[int] = dataclasses.field(default_factory=list)
    equations: list[Equation] = dataclasses.field(default_factory=list)
    sites: list[Site] = dataclasses.field(default_factory=list)
    constants: dict[int, Any] = dataclasses.field(default_factory=dict)
    depth: dict[int, int] = dataclasses.field(default_factory=dict)
    views: dict[int, View] = dataclasses.field(default_factory=dict)
    joined: dict[int, tuple[int, tuple[View, ...]]] = dataclasses.field(default_factory=dict)
    made_of: dict[int, dict[int, str]] = dataclasses.field(default_factory=dict)
    uses: dict[int, list[str]] = dataclasses.field(default_factory=dict)

    def argument(self, depth: int) -> int:
        """A value that is given."""
        number = self.value(depth)
        self.arguments.append(number)
        return number

    def value(self, depth: int) -> int:
        """A new value."""
        number = next(self.numbers)
        self.depth[number] = depth
        return number

    def constant(self, array) -> int:
        """A value that is known."""
        number = self.value(FIXED)
        self.constants[number] = array
        return number

    def add(self, run, key, inputs: Sequence[int], outputs: int, deeper: int = 0) -> list[int]:
        """An equation with so many outputs; returns their numbers."""
        depth = max((self.depth[i] for i in inputs), default=FIXED)
        depth = depth if not deeper else max(depth, 0) + deeper
        made = [self.value(depth) for _ in range(outputs)]
        self.equations.append(Equation(run, key, tuple(inputs), tuple(made), depth))
        return made

    def note(self, leaf: int, what: str):
        """Something that was done with a leaf and is no product."""
        self.uses.setdefault(leaf, [])
        if what not in self.uses[leaf]:
            self.uses[leaf].append(what)


def run_all(program: Program, known: dict[int, Any]) -> dict[int, Any]:
    """All values of a program, given those of its arguments."""
    known = program.constants | known
    for equation in program.equations:
        made = equation.run(*(known[i] for i in equation.inputs))
        known |= dict(zip(equation.outputs, made, strict=True))
    return known
