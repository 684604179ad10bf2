"""Smaller models: which axes of parameters are tied, what to keep of them, and cutting the rest."""

from jaxprune.compact._from_masks import plan_from_masks as plan_from_masks
from jaxprune.compact._groups import Frozen as Frozen
from jaxprune.compact._groups import Group as Group
from jaxprune.compact._groups import Groups as Groups
from jaxprune.compact._groups import Member as Member
from jaxprune.compact._make_plan import plan as plan
from jaxprune.compact._pattern import group_scores as group_scores
from jaxprune.compact._permute import permutations as permutations
from jaxprune.compact._permute import permute as permute
from jaxprune.compact._plan import Plan as Plan
from jaxprune.compact._trace_groups import trace_groups as trace_groups
from jaxprune.compact._verify import Verified as Verified
from jaxprune.compact._verify import verify as verify

__all__ = [
    "Frozen",
    "Group",
    "Groups",
    "Member",
    "Plan",
    "Verified",
    "group_scores",
    "permutations",
    "permute",
    "plan",
    "plan_from_masks",
    "trace_groups",
    "verify",
]
