"""Tied axes resolved: their leaves are scored and have masks, their groups are ranked."""

import jax.numpy as jnp

from jaxprune import rules as _rules
from jaxprune.masks._costs import with_costs
from jaxprune.masks._setup import STORED, Options, Setup, Target
from jaxprune.patterns import Tied, Unstructured
from jaxprune.scores import as_criterion


def resolve_tied(
    tied: Tied, paths, leaves, options: Options
) -> tuple[Setup, list[_rules.Decision]]:
    """`resolve` where the pattern ties axes of several leaves.

    Raises:
      TypeError, ValueError: the groups do not fit the tree; a rule, an allocation or a scope says
        what the groups decide; a criterion asks for the pattern of a leaf.
    """
    _check_leaves(tied, paths, leaves)
    rules = options.rules[: len(options.rules) - options.mapped]
    decisions = _decide(tied, paths, rules)
    groups: dict[str, list[str]] = {path: [] for path in tied.paths}
    for member in tied.members:
        groups[member.path].append(tied.groups[member.group].name)
    names = {path: ", ".join(dict.fromkeys(of_path)) for path, of_path in groups.items()}
    labels = tuple(dict.fromkeys(names.values()))
    targets = []
    for index, (path, leaf, decision) in enumerate(zip(paths, leaves, decisions, strict=True)):
        if decision.dense is not None:
            continue
        rule = decision.rule
        scored = rule is not None and rule.score is not None
        criterion = as_criterion(rule.score) if scored else options.score
        if "pattern" in criterion.needs:
            raise ValueError(
                f"the criterion for {path} asks for the pattern of a leaf, but tied groups are of "
                "several leaves; give one that scores weights, such as jaxprune.scores.magnitude "
                "or jaxprune.scores.saliency."
            )
        targets.append(
            Target(
                index=index,
                path=path,
                shape=tuple(leaf.shape),
                dtype=str(leaf.dtype),
                pattern=Unstructured(),
                criterion=criterion,
                group=labels.index(names[path]),
                rule="default" if rule is None else str(rule),
            )
        )
    by_group = _by_group(tied, options)
    return Setup(tuple(targets), labels, (False,) * len(labels), tied, by_group), decisions


def _check_leaves(tied, paths, leaves):
    """Every member is a leaf of the tree, of that shape."""
    if not tied.members:
        raise ValueError("the pattern ties nothing: it has no groups, so nothing is prunable.")
    known = dict(zip(paths, leaves, strict=True))
    for member in tied.members:
        path = member.path
        shape = tuple(known[path].shape) if hasattr(known.get(path), "shape") else None
        if shape != member.shape:
            what = "the params lack" if shape is None else f"the params have of shape {shape}"
            raise ValueError(
                f"the groups were traced on another model: they tie {path} of shape "
                f"{member.shape}, which {what}. Trace them again on these params."
            )
        if not jnp.issubdtype(known[path].dtype, jnp.floating):
            raise TypeError(
                f"the groups tie {path}, whose dtype is {known[path].dtype}; only real floating "
                "leaves can be pruned."
            )


def _decide(tied, paths, rules):
    """What the rules say about each leaf: members may have a score, others are dense."""
    members = set(tied.paths)
    decisions = []
    for path in paths:
        rule = next((rule for rule in rules if rule.matches(path)), None)
        if path in members:
            _check_member(rule, path)
            decisions.append(_rules.Decision(rule, None))
            continue
        if rule is not None and rule.dense is False:
            raise ValueError(f"{rule} would prune {path}, which is in no tied group.")
        named = rule is not None and rule.dense
        decisions.append(_rules.Decision(rule, "rule" if named else "in no tied group"))
    for rule in rules:
        if not any(rule.matches(path) and (rule.dense or path in members) for path in paths):
            some = ", ".join(tied.paths[:8]) + (", ..." if len(tied.paths) > 8 else "")
            raise ValueError(
                f"{rule} matches no leaf that is in a tied group. A rule is a regular expression "
                f"for a whole path; the paths are {some}."
            )
    return decisions


def _check_member(rule, path):
    for name in ("dense", "sparsity", "pattern", "min_sparsity", "max_sparsity"):
        if rule is not None and getattr(rule, name) is not None:
            raise ValueError(
                f"{rule}: {name}={getattr(rule, name)} for {path}, which is in tied groups: they "
                "decide, and a rule gives a score at most. Give groups a `keep`, or leave some out."
            )


def _by_group(tied, options) -> Setup:
    """The groups, in the place of leaves that are ranked."""
    names = [group.name for group in tied.groups]
    for rule in options.mapping:
        if not any(rule.matches(name) for name in names):
            raise ValueError(
                f"allocate: {rule.path!r} matches no tied group; they are {', '.join(names[:8])}."
            )
    if options.scope != "leaf" and all(group.keep is not None for group in tied.groups):
        raise ValueError(
            f"scope={options.scope!r} ranks groups together, but every tied group says how many "
            "units it keeps; leave scope out, or take tied.planned(None)."
        )
    targets, labels = [], []
    for index, group in enumerate(tied.groups):
        rule = next((rule for rule in options.mapping if rule.matches(group.name)), None)
        sparsity = None if rule is None else rule.sparsity
        if group.keep is not None and rule is not None:
            raise ValueError(
                f"allocate gives the tied group {group.name!r} the sparsity {rule.sparsity}, but "
                f"it keeps {group.keep} of {group.size}; leave one out."
            )
        if group.keep is not None:
            sparsity = 1 - group.keep / group.size
        label = options.label(group.name, alone=options.scope == "leaf" or sparsity is not None)
        if label not in labels:
            labels.append(label)
        targets.append(
            Target(
                index=index,
                path=group.name,
                shape=(group.size,),
                dtype="float32",
                pattern=Unstructured(),
                criterion=STORED,
                group=labels.index(label),
                rule="default",
                sparsity=sparsity,
                min_sparsity=options.min_sparsity,
                max_sparsity=options.max_sparsity,
            )
        )
    kinds, of_labels = zip(*labels, strict=True)
    alone = tuple(kind == "leaf" for kind in kinds)
    return Setup(tuple(with_costs(targets, of_labels, alone, options.cost)), of_labels, alone)


def check_untied(pattern, function: str):
    """For what looks at leaves one by one.

    Raises:
      ValueError: the pattern ties axes of several leaves.
    """
    if isinstance(pattern, Tied):
        raise ValueError(
            f"pattern: {function} looks at leaves one by one, and tied groups are of several; use "
            "jaxprune.prune, jaxprune.prune_params or jaxprune.masks.make."
        )
