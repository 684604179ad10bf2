"""What is pruned and how, leaf by leaf, as plain hashable facts."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxprune import rules as _rules
from jaxprune.patterns import Pattern, Tied, Unstructured
from jaxprune.scores import Criterion, magnitude


@dataclasses.dataclass(frozen=True)
class Target:
    """One leaf that is pruned."""

    index: int  # among all leaves of the tree
    path: str
    shape: tuple[int, ...]
    dtype: str
    pattern: Pattern
    criterion: Criterion
    group: int  # leaves of one group are ranked against each other
    rule: str
    sparsity: Any = None  # its own: a number or a schedule
    min_sparsity: float | None = None
    max_sparsity: float | None = None
    cost: int = 1  # of a unit, beside those of the group

    @property
    def size(self) -> int:
        """How many weights."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def units(self) -> int:
        """How many things are ranked: weights, or blocks, or channels."""
        return self.pattern.num_units(self.shape)

    @property
    def bounded(self) -> bool:
        """Whether a ranking may not give it any sparsity."""
        return self.min_sparsity is not None or self.max_sparsity is not None


@dataclasses.dataclass(frozen=True)
class Setup:
    """All leaves that are pruned, in the order of the tree, and the names of their groups.

    `alone` says of each group whether it is a leaf that is ranked by itself. Where axes of several
    leaves are `tied`, the leaves are scored and have masks, and `by_group` is what is ranked.
    """

    targets: tuple[Target, ...]
    labels: tuple[str, ...]
    alone: tuple[bool, ...]
    tied: Tied | None = None
    by_group: "Setup | None" = None  # a target for each of its groups

    @property
    def ranking(self) -> "Setup":
        """What is counted and selected: the leaves, or the groups of tied axes."""
        return self if self.by_group is None else self.by_group

    @property
    def groups(self) -> tuple[int, ...]:
        """For each target the number of its group."""
        return tuple(t.group for t in self.targets)

    @property
    def costs(self) -> tuple[int, ...] | None:
        """What a unit of each target costs; None where all cost the same."""
        costs = tuple(t.cost for t in self.targets)
        return None if set(costs) == {1} else costs

    def ranked_by(self, criterion: Criterion) -> "Setup":
        """The same with another criterion for every leaf."""
        targets = (dataclasses.replace(t, criterion=criterion) for t in self.targets)
        return dataclasses.replace(self, targets=tuple(targets))

    def program(self, in_place) -> "Setup":
        """What a compiled selection depends on: equal programs are compiled once.

        Scores that are not made in the selection are its input, whatever made them.

        Args:
          in_place: for each target whether selection may make scores from the leaf.
        """
        targets = (
            _programmed(t, may and t.criterion.fused)
            for t, may in zip(self.targets, in_place, strict=True)
        )
        tied, by_group = self.tied, self.by_group
        if tied is not None and by_group is not None:
            tied = tied.planned(None)
            by_group = by_group.program([False] * len(by_group.targets))
        return dataclasses.replace(self, targets=tuple(targets), tied=tied, by_group=by_group)


def _programmed(target: Target, fused: bool) -> Target:
    return dataclasses.replace(
        target,
        criterion=target.criterion if fused else STORED,
        rule="",
        sparsity=None,
        min_sparsity=None,
        max_sparsity=None,
    )


STORED = Criterion(lambda scores: scores, elementwise=True)
"""Of what is scores already."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How to prune, before a tree is seen. The arguments that `make` and `prune` share."""

    score: Any = magnitude
    pattern: Any = Unstructured()  # noqa: RUF009
    scope: str | Callable[[str], str] = "leaf"
    allocate: Any = None
    rules: tuple[_rules.Rule, ...] = ()
    min_sparsity: float | None = None
    max_sparsity: float | None = None
    cost: Any = None  # pairs of a path and a fraction
    mapped: int = 0  # how many of the rules, the last ones, come from a mapping

    @property
    def mapping(self) -> tuple[_rules.Rule, ...]:
        """The rules that come from a mapping."""
        return self.rules[len(self.rules) - self.mapped :]

    def label(self, path: str, *, alone: bool) -> tuple[str, str]:
        """What is ranked with the leaf at a path, or the group of that name: a kind and a name."""
        if alone:
            return "leaf", path
        if self.scope == "global":
            return "scope", "global"
        label = self.scope(path)  # type: ignore[operator]
        if not isinstance(label, str | int):
            raise TypeError(f"scope gave {label!r} for {path}; it must give a label, a string.")
        return "scope", str(label)
