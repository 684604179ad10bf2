"""The dry run: what would be pruned, by which rule, to what count."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import _table
from jaxprune._checks import check_sparsity, is_traced
from jaxprune._tree import flatten
from jaxprune.masks._compute import Given, compute, params_needed
from jaxprune.masks._counts import count
from jaxprune.masks._make import check_reachable
from jaxprune.masks._measure import num_kept
from jaxprune.masks._targets import options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.schedules import resolve_events
from jaxprune.scores import magnitude
from jaxprune.select import _wide


@dataclasses.dataclass(frozen=True)
class PlannedLeaf:
    """What would happen to one leaf.

    Attributes:
      path, shape, dtype, size: of the leaf.
      rule: which rule decides; "default" if none does.
      dense: why the leaf is left alone, or None.
      pattern: its pattern, or None where it is dense.
      ranked_with: the name of what it is ranked with: itself, or a scope; or of its tied groups.
      kept: number of weights that would be kept; None where a ranking decides and there are no
        values to rank.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    rule: str
    dense: str | None
    pattern: str | None = None
    ranked_with: str | None = None
    kept: int | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `plan` found; `str` gives a table.

    Attributes:
      leaves: every leaf of the tree, in order.
      sparsity: the target.
      num_events: how many times masks would be recomputed.
      of_cost: whether the target is a fraction of the cost, and not of the weights.
    """

    leaves: tuple[PlannedLeaf, ...]
    sparsity: float
    num_events: int
    of_cost: bool = False

    @property
    def prunable(self) -> tuple[PlannedLeaf, ...]:
        """The leaves that would be pruned."""
        return tuple(leaf for leaf in self.leaves if leaf.dense is None)

    def __str__(self) -> str:
        """A table; raises ImportError without rich."""
        columns = ("leaf", "shape", "by", "pattern", "weights", "kept", "sparsity")
        rows = [_cells(leaf) for leaf in self.leaves]
        total = sum(leaf.size for leaf in self.prunable)
        kept = [leaf.kept for leaf in self.prunable]
        known = sum(k for k in kept if k is not None)
        footer = ["prunable", "", "", "", f"{total:,}", "ranked", ""]
        if None not in kept:
            footer[-2:] = [f"{known:,}", _table.percent(1 - known / total if total else 0.0)]
        events = f"{self.num_events} event{'s' * (self.num_events != 1)}"
        text = _table.render("the table of a plan", columns, rows, left=4, footer=[footer])
        of_cost = " of the cost" if self.of_cost else ""
        return f"{text}\ntarget sparsity {self.sparsity:g}{of_cost}, {events}"


def _cells(leaf: PlannedLeaf):
    shape = "x".join(map(str, leaf.shape))
    if leaf.dense is not None:
        by = leaf.rule if leaf.dense == "rule" else f"default: {leaf.dense}"
        return leaf.path, shape, by, "dense", f"{leaf.size:,}", f"{leaf.size:,}", ""
    if leaf.kept is None:
        kept, sparsity = "ranked", ""
    else:
        kept = f"{leaf.kept:,}"
        sparsity = _table.percent(1 - leaf.kept / leaf.size if leaf.size else 0.0)
    return leaf.path, shape, leaf.rule, leaf.pattern, f"{leaf.size:,}", kept, sparsity


def plan(
    params,
    sparsity,
    *,
    when=None,
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
    cost=None,
) -> Plan:
    """The dry run: what `prune` or `prune_params` with the same arguments would do.

    Args:
      params: any pytree of arrays, or of `jax.ShapeDtypeStruct`: then what a ranking over several
        leaves leaves of each is not known.
      sparsity: as in `prune`: a float or a schedule, of which the last value counts.
      when, score, pattern, scope, allocate, rules, min_sparsity, max_sparsity, cost: as in
        `prune`.

    Returns:
      A `Plan`; print it. It names every leaf, what decides about it, and how many weights are
      kept at the end of the schedule.

    Raises:
      TypeError, ValueError: as `prune` and its `init`.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}
      >>> [(leaf.path, leaf.dense, leaf.kept) for leaf in jaxprune.plan(params, 0.75).leaves]
      [('bias', 'one axis', 4), ('kernel', None, 4)]
    """
    events = resolve_events(when, sparsity)
    value = sparsity(events.end) if callable(sparsity) else sparsity
    value = check_sparsity(value, "sparsity")
    if is_traced(value):
        raise TypeError("sparsity is traced, but a plan is made on the host; pass a Python float.")
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity, cost)
    setup, decisions = resolve(params, chosen)
    for target in setup.targets:
        check_reachable(target, value)
    paths, leaves, _ = flatten(params)
    given = Given(params_needed(setup, paths, leaves))
    counted = _kept(setup, chosen, leaves, given, value, events.end)
    kept = {t.index: n for t, n in zip(setup.targets, counted, strict=True)}
    by_index = {t.index: t for t in setup.targets}
    planned = []
    for i, (path, leaf, decision) in enumerate(zip(paths, leaves, decisions, strict=True)):
        shape = tuple(getattr(leaf, "shape", ()))
        size = int(np.prod(shape, dtype=np.int64))
        rule = "default" if decision.rule is None else str(decision.rule)
        row = PlannedLeaf(
            path,
            shape,
            str(getattr(leaf, "dtype", type(leaf).__name__)),
            size,
            rule,
            decision.dense,
        )
        if decision.dense is not None:
            planned.append(dataclasses.replace(row, kept=size))
            continue
        target = by_index[i]
        planned.append(
            dataclasses.replace(
                row,
                pattern=str(setup.tied or target.pattern),
                ranked_with=setup.labels[target.group],
                kept=kept[i],
            )
        )
    return Plan(tuple(planned), value, len(events), of_cost=cost is not None)


def _kept(setup, chosen, leaves, given, sparsity, step) -> list[int | None]:
    """How many weights of each target are kept, as far as it can be known."""
    counts = count(setup, chosen.allocate, sparsity, step=step)
    arrays = [leaves[t.index] for t in setup.targets]
    grads = any(t.criterion.needs_grads for t in setup.targets)
    if not grads and not any(isinstance(x, jax.ShapeDtypeStruct) for x in arrays):
        masks = compute(setup, [jnp.asarray(x) for x in arrays], given, *counts)
        return [num_kept(mask) for mask in masks]
    if setup.tied is not None:
        return [None] * len(arrays)
    limbs = counts.num_keep.astype(np.int64)
    units = limbs[:, 0] * (1 << _wide.BITS) + limbs[:, 1]
    alone = [setup.groups.count(t.group) == 1 for t in setup.targets]
    return [
        int(units[t.group]) if lone and t.units == t.size else None
        for t, lone in zip(setup.targets, alone, strict=True)
    ]
