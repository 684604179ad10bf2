"""What is pruned and how, leaf by leaf, as plain hashable facts."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxprune import rules as _rules
from jaxprune._checks import check_sparsity
from jaxprune._tree import flatten
from jaxprune.masks._costs import check_cost, with_costs
from jaxprune.patterns import Pattern, Unstructured
from jaxprune.scores import Criterion, as_criterion, magnitude


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

    `alone` says of each group whether it is a leaf that is ranked by itself.
    """

    targets: tuple[Target, ...]
    labels: tuple[str, ...]
    alone: tuple[bool, ...]

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
        return dataclasses.replace(self, targets=tuple(targets))


def _programmed(target: Target, fused: bool) -> Target:
    return dataclasses.replace(
        target,
        criterion=target.criterion if fused else _STORED,
        rule="",
        sparsity=None,
        min_sparsity=None,
        max_sparsity=None,
    )


_STORED = Criterion(lambda scores: scores, elementwise=True)


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


def options(
    score, pattern, scope, allocate, rules, min_sparsity, max_sparsity, cost=None
) -> Options:
    """Checks the arguments that every entry shares."""
    if isinstance(rules, _rules.Rule):
        raise TypeError(f"rules={rules} must be a sequence: write rules=[{rules}].")
    rules = tuple(rules)
    for rule in rules:
        if not isinstance(rule, _rules.Rule):
            raise TypeError(f"rules holds {rule!r}; give jaxprune.Rule(path, ...).")
    for where, one in [("pattern", pattern), *((str(r), r.pattern) for r in rules if r.pattern)]:
        if not isinstance(one, Pattern) or isinstance(one, type):
            raise TypeError(
                f"{where}: {one!r} is no pattern; give one such as jaxprune.Unstructured() or "
                "jaxprune.NM(2, 4)."
            )
    if not (callable(scope) or scope in ("leaf", "global")):
        raise ValueError(
            f'scope={scope!r} must be "leaf", "global", or a function from a path to a label.'
        )
    if allocate is not None and scope != "leaf":
        raise ValueError(
            "allocate divides a total among leaves, which a ranking over several leaves does "
            f'itself; leave it out, or use scope="leaf" instead of {scope!r}.'
        )
    if allocate is not None and not (callable(allocate) or isinstance(allocate, Mapping)):
        raise TypeError(
            f"allocate={allocate!r} must be a function such as jaxprune.allocate.erdos_renyi, or "
            "a mapping from paths (regular expressions) to sparsities."
        )
    bounds = {"min_sparsity": min_sparsity, "max_sparsity": max_sparsity}
    for name, value in bounds.items():
        if value is not None:
            bounds[name] = check_sparsity(value, name)
    mapped = 0
    if isinstance(allocate, Mapping):
        # Behind the rules, of which the first match decides.
        rules += tuple(_rules.Rule(path, sparsity=s) for path, s in allocate.items())
        mapped, allocate = len(allocate), None
    for where, rule in [("", None), *((f"{r}: ", r) for r in rules)]:
        low = (
            bounds["min_sparsity"]
            if rule is None or rule.min_sparsity is None
            else rule.min_sparsity
        )
        high = (
            bounds["max_sparsity"]
            if rule is None or rule.max_sparsity is None
            else rule.max_sparsity
        )
        if low is not None and high is not None and low > high:
            raise ValueError(f"{where}min_sparsity={low} exceeds max_sparsity={high}.")
    score = as_criterion(score)
    cost = check_cost(cost, scope)
    return Options(score, pattern, scope, allocate, rules, cost=cost, mapped=mapped, **bounds)


def resolve(params, options: Options) -> tuple[Setup, list[_rules.Decision]]:
    """Which leaves of `params` are pruned and how; and what was decided about every leaf.

    Raises:
      TypeError, ValueError: a rule matches nothing or a leaf that cannot be pruned, a pattern does
        not fit a leaf, leaves ranked together have different patterns or costs that cannot be
        counted, or nothing is prunable.
    """
    paths, leaves, _ = flatten(params)
    if not paths:
        raise ValueError("params is an empty tree: there is nothing to prune.")
    check_distinct(paths)
    decisions = _rules.decide(paths, leaves, options.rules)
    _check_mapping(paths, decisions, options)
    targets, labels = [], []
    for index, (path, leaf, decision) in enumerate(zip(paths, leaves, decisions, strict=True)):
        if decision.dense is not None:
            continue
        rule = decision.rule or _rules.Rule(".*")
        pattern = rule.pattern or options.pattern
        shape = tuple(leaf.shape)
        pattern.check(shape, path)
        alone = options.scope == "leaf" or rule.sparsity is not None
        label = ("leaf", path) if alone else ("scope", _label(options.scope, path))
        if label not in labels:
            labels.append(label)
        low, high = rule.min_sparsity, rule.max_sparsity
        targets.append(
            Target(
                index=index,
                path=path,
                shape=shape,
                dtype=str(leaf.dtype),
                pattern=pattern,
                criterion=options.score if rule.score is None else as_criterion(rule.score),
                group=labels.index(label),
                rule=str(rule) if decision.rule else "default",
                sparsity=rule.sparsity,
                min_sparsity=options.min_sparsity if low is None else low,
                max_sparsity=options.max_sparsity if high is None else high,
            )
        )
    if not targets:
        raise ValueError(
            "nothing is prunable: every leaf is dense by a rule or by default (floating leaves "
            "with two axes or more that are no biases, norms or embeddings). Add a Rule for what "
            f"should be pruned; the paths are {', '.join(paths[:8])}."
        )
    _check_together(targets)
    kinds, names = zip(*labels, strict=True)
    by_itself = tuple(kind == "leaf" for kind in kinds)
    targets = with_costs(targets, names, by_itself, options.cost)
    return Setup(tuple(targets), names, by_itself), decisions


def check_distinct(paths):
    """Raises where two leaves have one path: a key that holds a slash can do that."""
    if len(set(paths)) < len(paths):
        twice = next(path for i, path in enumerate(paths) if path in paths[:i])
        raise ValueError(
            f"two leaves have the path {twice!r}, so masks could not be told apart; rename a key."
        )


def _check_mapping(paths, decisions, options):
    """A sparsity given by a mapping must not be hidden by a rule for the same leaf."""
    for rule in options.rules[len(options.rules) - options.mapped :]:
        for path, decision in zip(paths, decisions, strict=True):
            hidden = decision.rule not in options.rules[len(options.rules) - options.mapped :]
            if rule.matches(path) and hidden and decision.dense is None:
                raise ValueError(
                    f"allocate gives {path} the sparsity {rule.sparsity}, but {decision.rule} "
                    "matches it first; write the sparsity into that rule."
                )


def _label(scope, path):
    if scope == "global":
        return "global"
    label = scope(path)
    if not isinstance(label, str | int):
        raise TypeError(f"scope gave {label!r} for {path}; it must give a label, a string.")
    return str(label)


def _check_together(targets):
    first: dict[int, Target] = {}
    for target in targets:
        other = first.setdefault(target.group, target)
        if other.pattern != target.pattern:
            raise ValueError(
                f"{other.path} ({other.pattern}) and {target.path} ({target.pattern}) are ranked "
                "together but have different patterns, whose units do not compare. Give one a "
                "sparsity of its own, Rule(path, sparsity=...), or label them apart by scope."
            )
