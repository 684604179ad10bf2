"""What a pattern answers: which weights live or die together, and how their units are ranked."""

from typing import Protocol, runtime_checkable

import jax

from jaxprune.select._source import Source


@runtime_checkable
class Pattern(Protocol):
    """Which weights of a leaf live or die together: its units.

    A pattern is a frozen dataclass. Selection ranks its units; the pattern turns the scores of a
    leaf into scores of units, and a mask of units into a mask of the leaf.

    Where units are alike weight by weight, as channels and heads are, a pattern may also have
    `view(shape)`: a shape to which leaves can be reshaped, and axes whose indices are the units.
    """

    def check(self, shape: tuple[int, ...], path: str) -> None:
        """Raises a ValueError that names `path` unless leaves of `shape` can have this pattern."""

    def num_units(self, shape: tuple[int, ...]) -> int:
        """How many units a leaf of `shape` has."""

    def units(self, source: Source) -> Source:
        """The scores of the units, from those of the leaf."""

    def sums(self, values: jax.Array) -> jax.Array:
        """For each unit the sum of the values of its weights, from one value for each weight."""

    def expand(self, values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """For each weight of the leaf the value of its unit: a mask, or any array of `units`."""

    def first_units(self, shape: tuple[int, ...]) -> int | None:
        """How many units rank before all others whatever their scores; None: there are none such.

        If there are, `units` marks them in the `member` of its source.
        """
