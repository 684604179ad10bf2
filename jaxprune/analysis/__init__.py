"""What would be pruned, what it would cost, and what is sparse."""

from jaxprune.analysis._plan import Plan as Plan
from jaxprune.analysis._plan import plan as plan
from jaxprune.analysis._sensitivity import Sensitivity as Sensitivity
from jaxprune.analysis._sensitivity import sensitivity as sensitivity
from jaxprune.analysis._summary import Summary as Summary
from jaxprune.analysis._summary import summary as summary

__all__ = ["Plan", "Sensitivity", "Summary", "plan", "sensitivity", "summary"]
