"""How many units each group keeps: a share, or what fits a budget, in widths that run well."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import jax
import numpy as np

from jaxprune._checks import check_sparsity
from jaxprune.compact import _costs
from jaxprune.compact._groups import Group, Groups, Member
from jaxprune.compact._keep import Keep
from jaxprune.compact._pattern import group_scores
from jaxprune.compact._plan import Plan
from jaxprune.scores import magnitude

_MULTIPLES = {"cpu": 16, "gpu": 8, "tpu": 128}


def plan(
    groups: Groups,
    params,
    *,
    sparsity=None,
    parameters=None,
    macs=None,
    bytes=None,
    score=magnitude,
    scope="group",
    multiple: int | None = None,
    min_width: float = 1,
    skip: Sequence[str] = (),
    flagged: bool = False,
    rules=(),
    grads=None,
    memory=None,
) -> Plan:
    """Chooses which units of each group are kept, and how many.

        width of a group = units * (1 - sparsity), to the nearest multiple or the whole
        kept units       = those of the highest scores

    With a budget the sparsity is the lowest at which all budgets are met; then groups are widened
    by a step, those of the highest scores first, as far as the budgets go.

    Args:
      groups: from `trace_groups`.
      params: a tree as was traced, with values.
      sparsity: fraction of the units that is removed, 0 <= s < 1; of each group, or of all with
        `scope="global"`.
      parameters, macs, bytes: budgets for the whole model: weights, multiply-adds of the call that
        was traced, bytes of the weights. Up to 1 a fraction of the dense model's, above it a
        number. Give these or sparsity.
      score, rules, grads, memory: as in `group_scores`.
      scope: "group": each keeps the same share. "global": all units are ranked together, by their
        scores over the mean of their group.
      multiple: axes become a multiple of this. None: what suits the default device, 16 on CPU, 8 on
        GPU, 128 on TPU. Of a group less than twice as wide, half of it, and so on. Heads of 64 are
        such a multiple by themselves. 1: no rounding.
      min_width: least width of a group; below 1 a fraction of its units.
      skip: regular expressions for paths, matched in full, or axes as they are printed, such as
        "query/kernel[1]" for heads; a group with such a member stays whole.
      flagged: whether groups are cut whose flags say that this is not the same as masking them.

    Returns:
      A `Plan`. Groups that are left out by `skip` or `flagged` are not in it.

    Raises:
      TypeError, ValueError: no target or two, one out of range, a pattern in skip that matches
        nothing, no group to cut, or a budget that cannot be met.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxprune import compact
      >>> def apply(params, x):
      ...     return jax.nn.relu(x @ params["up"]) @ params["down"]
      >>> keys = jax.random.split(jax.random.key(0))
      >>> params = {
      ...     "up": jax.random.normal(keys[0], (8, 64)), "down": jax.random.normal(keys[1], (64, 2))
      ... }
      >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 8)))
      >>> compact.plan(groups, params, macs=0.6, multiple=16).widths
      {'up[1]': 32}
    """
    targets = {"parameters": parameters, "macs": macs, "bytes": bytes}
    budgets = {name: value for name, value in targets.items() if value is not None}
    if (sparsity is None) == (not budgets):
        raise ValueError("give sparsity=, or budgets: parameters=, macs=, bytes=.")
    if scope not in ("group", "global"):
        raise ValueError(f'scope={scope!r} must be "group" or "global".')
    chosen = _chosen(groups, skip, flagged)
    multiple = _MULTIPLES.get(jax.default_backend(), 16) if multiple is None else multiple
    if isinstance(multiple, bool) or not isinstance(multiple, Integral) or multiple < 1:
        raise ValueError(f"multiple={multiple!r} must be a whole number from 1.")
    if isinstance(min_width, bool) or not isinstance(min_width, Real) or not float(min_width) > 0:
        raise ValueError(f"min_width={min_width!r} must be a fraction below 1, or units from 1.")
    scores = group_scores(groups, params, score=score, rules=rules, grads=grads, memory=memory)
    together = scope == "global"
    ranked = _Ranked(groups, chosen, scores, int(multiple), float(min_width), together)
    if sparsity is not None:
        kept = ranked.at(check_sparsity(sparsity, "sparsity"))
    else:
        kept = _within(ranked, groups, budgets)
    return Plan(groups, kept)


def _chosen(groups: Groups, skip: Sequence[str], flagged: bool) -> list[Group]:
    if isinstance(skip, str):
        raise TypeError(f"skip={skip!r} must be a sequence: write skip=[{skip!r}].")
    for pattern in skip:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"skip has {pattern!r}, no regular expression: {error}.") from None
        if not any(_named(pattern, m) for g in groups for m in g.members):
            raise ValueError(f"skip has {pattern!r}, which matches no path of a group in full.")
    chosen = [
        group
        for group in groups
        if (flagged or not group.flags)
        and not any(_named(pattern, m) for pattern in skip for m in group.members)
    ]
    if not chosen:
        raise ValueError(
            "there is no group to cut; print(groups) says what is tied to what stays whole, and "
            "which groups are flagged."
        )
    return chosen


def _named(pattern: str, member: Member) -> bool:
    return pattern == str(member) or re.fullmatch(pattern, member.path) is not None


@dataclasses.dataclass(frozen=True)
class _Ranked:
    """Groups with the order of their units, which say what is kept at a sparsity."""

    groups: Groups
    chosen: list[Group]
    scores: dict[str, np.ndarray]
    multiple: int
    min_width: float
    together: bool

    def at(self, sparsity: float) -> dict[str, np.ndarray]:
        """Name of a group -> which units are kept."""
        if not self.together:
            wanted = {group.name: group.size * (1 - sparsity) for group in self.chosen}
        else:
            pooled = np.concatenate([self.relative(group) for group in self.chosen])
            owner = np.repeat(np.arange(len(self.chosen)), [g.size for g in self.chosen])
            removed = np.argsort(pooled, kind="stable")[: round(len(pooled) * sparsity)]
            gone = np.bincount(owner[removed], minlength=len(self.chosen))
            wanted = {g.name: g.size - int(n) for g, n in zip(self.chosen, gone, strict=True)}
        return {g.name: self.best(g, self.width(g, wanted[g.name])) for g in self.chosen}

    def relative(self, group: Group) -> np.ndarray:
        """Scores of which those of each group have the mean 1; those that are no numbers last."""
        scores = self.order(group)
        mean = scores[np.isfinite(scores)].mean() if np.isfinite(scores).any() else 0.0
        return scores / mean if mean > 0 else scores

    def order(self, group: Group) -> np.ndarray:
        scores = self.scores[group.name].astype(np.float64)
        return np.where(np.isnan(scores), -np.inf, scores)

    def best(self, group: Group, width: int) -> np.ndarray:
        """The units of the highest scores; of equal ones the first."""
        kept = np.zeros((group.size,), bool)
        kept[np.argsort(-self.order(group), kind="stable")[:width]] = True
        return kept

    def width(self, group: Group, wanted: float) -> int:
        """The nearest width that is a multiple or the whole, and at least the least."""
        least = self.min_width if self.min_width >= 1 else math.ceil(self.min_width * group.size)
        least = min(max(1, int(least)), group.size)
        step = self.step(group)
        rounded = math.floor(wanted / step + 0.5) * step
        if group.size - wanted < abs(rounded - wanted):
            return group.size
        return min(max(rounded, math.ceil(least / step) * step), group.size)

    def step(self, group: Group) -> int:
        """How many units make the multiple of an axis; fewer for groups that are narrow."""
        step = self.multiple // math.gcd(self.multiple, group.step)
        while step > 1 and group.size < 2 * step:
            step = -(-step // 2)
        return step


def _within(ranked: _Ranked, groups: Groups, budgets) -> dict[str, np.ndarray]:
    """What is kept at the lowest sparsity at which all budgets are met."""
    costs: dict[str, Callable] = {
        "parameters": _costs.parameters,
        "macs": _costs.macs,
        "bytes": _costs.num_bytes,
    }
    limits = {}
    for name, budget in budgets.items():
        if isinstance(budget, bool) or not isinstance(budget, Real) or not float(budget) > 0:
            raise ValueError(f"{name}={budget!r} must be a fraction up to 1, or a number above.")
        budget = float(budget)
        limits[name] = budget * costs[name](groups, Keep()) if budget <= 1 else budget

    def excess(kept):
        keep = Keep({groups._roots[name]: vector for name, vector in kept.items()})
        found = {name: costs[name](groups, keep) for name in limits}
        return {name: cost for name, cost in found.items() if cost > limits[name]}

    low, high = 0.0, 1.0
    if not excess(ranked.at(low)):
        return ranked.at(low)
    least = excess(ranked.at(1 - 1e-9))
    if least:
        name, cost = next(iter(least.items()))
        raise ValueError(
            f"{name}={budgets[name]} cannot be met: at the least widths {cost:,} are left. Lower "
            "min_width or multiple, or let more groups be cut."
        )
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(ranked.at(middle)) else (low, middle)
    return _widened(ranked, ranked.at(high), ranked.at(low), excess)


def _widened(ranked: _Ranked, kept, wider, excess) -> dict[str, np.ndarray]:
    """What fits of the next step, of which all groups together do not: the highest scores first."""

    def gained(group: Group) -> float:
        more = wider[group.name] & ~kept[group.name]
        return float(ranked.relative(group)[more].mean()) if more.any() else -np.inf

    for group in sorted(ranked.chosen, key=gained, reverse=True):
        more = kept | {group.name: wider[group.name]}
        if not excess(more):
            kept = more
    return kept
