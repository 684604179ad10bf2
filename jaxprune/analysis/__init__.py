"""What would be pruned, what is sparse, and what a call costs."""

from jaxprune.analysis._flops import Flops as Flops
from jaxprune.analysis._flops import flops as flops
from jaxprune.analysis._macs import macs as macs
from jaxprune.analysis._plan import Plan as Plan
from jaxprune.analysis._plan import plan as plan
from jaxprune.analysis._summary import Summary as Summary
from jaxprune.analysis._summary import summary as summary

__all__ = ["Flops", "Plan", "Summary", "flops", "macs", "plan", "summary"]
