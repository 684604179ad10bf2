"""What would be pruned, and what is sparse."""

from jaxprune.analysis._plan import Plan as Plan
from jaxprune.analysis._plan import plan as plan
from jaxprune.analysis._summary import Summary as Summary
from jaxprune.analysis._summary import summary as summary

__all__ = ["Plan", "Summary", "plan", "summary"]
