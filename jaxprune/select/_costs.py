"""What is counted and what it costs: sums over the rows of a group, and how a group shares."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from jaxprune.select import _wide

COST_BITS = 45  # of what a group costs together: twice as much and a difference are in range


def sums(limbs, member, num_groups):
    """[rows, ...] limbs -> [groups, ...] limbs."""
    if num_groups == 1:
        return _wide.total(limbs)[None]
    if member.tolist() == list(range(num_groups)):
        return limbs
    return jnp.stack([_wide.total(limbs[member == g]) for g in range(num_groups)])


def of_rows(values, member):
    """[groups, ...] -> [rows, ...]."""
    return values if member.tolist() == list(range(len(values))) else values[member]


@dataclasses.dataclass(frozen=True)
class Costs:
    """What each score costs, where groups have a budget and scores do not cost the same.

    Costs are doubled and budgets odd, twice the budget and one more: so no count meets a budget
    exactly, and a threshold is the lowest that can be paid also where some scores cost nothing.

    Attributes:
      each: int64 [rows], what one of each row costs, static.
      member: the group of each row, static.
    """

    each: np.ndarray
    member: np.ndarray

    @functools.cached_property
    def highest(self) -> np.ndarray:
        """The highest cost in the group of each row, float32 [rows], at least 1."""
        most = np.ones((max(self.member) + 1,), np.int64)
        np.maximum.at(most, self.member, self.each)
        return most[self.member].astype(np.float32)

    def take(self, rows) -> "Costs":
        """Those of some rows."""
        return Costs(self.each[rows], self.member[rows])

    def paid(self, limbs):
        """What so many of each row cost, limbs [rows, ..., 2]."""
        return _wide.times(limbs, self.each.reshape(-1, *(1,) * (limbs.ndim - 2)))

    def closed(self, bracket, where):
        """The bracket, made empty `where` not one more of the scores in it can be paid."""
        affordable = _wide.at_least(bracket.missing, _wide.constant(self.each))
        some = (bracket.spare > 0) & affordable
        number = sums(_wide.from_int32(some.astype(jnp.int32)), self.member, max(self.member) + 1)
        final = where & of_rows(_wide.equal(number, 0), self.member)
        return bracket._replace(low=jnp.where(final[:, None], bracket.high, bracket.low))


def share(spare, member, missing, costs=None):
    """How much of `spare` each row takes until its group has what it is missing, in order.

    Args:
      spare: limbs [rows, 1 or 2].
      member: the group of each row, static.
      missing: as many limbs, of its group.
      costs: `Costs` of the rows, or None. With them the first row of which not all can be paid
        is the last that takes any.

    Returns:
      limbs, from 0 to `spare`.
    """
    if member.tolist() != list(range(len(member))):
        order = np.argsort(member, kind="stable")
        back = np.argsort(order, kind="stable")
        start = np.searchsorted(member[order], member[order])
        taken = spare if costs is None else costs.paid(spare)
        before = _wide.totals_before(taken[order])
        missing = _wide.subtract(missing, _wide.subtract(before, before[start])[back])
    if costs is None:
        return _wide.clip(missing, 0, spare)
    return _wide.most_times(missing, costs.each, spare)
