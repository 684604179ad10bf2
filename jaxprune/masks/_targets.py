"""From the arguments of a call and a tree to what is pruned."""

from collections.abc import Mapping

from jaxprune import rules as _rules
from jaxprune._checks import check_sparsity
from jaxprune._tree import flatten
from jaxprune.masks._costs import check_cost, with_costs
from jaxprune.masks._setup import Options, Setup, Target
from jaxprune.masks._tied import resolve_tied
from jaxprune.patterns import Pattern, Tied
from jaxprune.scores import as_criterion


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
        if isinstance(one, Tied) and where != "pattern":
            raise TypeError(f"{where}: tied groups are of several leaves; give them as pattern=.")
        if not isinstance(one, Pattern | Tied) or isinstance(one, type):
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
    if isinstance(options.pattern, Tied):
        return resolve_tied(options.pattern, paths, leaves, options)
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
        label = options.label(path, alone=alone)
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
    for rule in options.mapping:
        for path, decision in zip(paths, decisions, strict=True):
            hidden = decision.rule not in options.mapping
            if rule.matches(path) and hidden and decision.dense is None:
                raise ValueError(
                    f"allocate gives {path} the sparsity {rule.sparsity}, but {decision.rule} "
                    "matches it first; write the sparsity into that rule."
                )


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
