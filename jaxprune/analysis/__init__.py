"""What would be pruned, what is sparse, what a call costs, and what a metric makes of it."""

from jaxprune.analysis import plots as plots
from jaxprune.analysis._flops import Flops as Flops
from jaxprune.analysis._flops import flops as flops
from jaxprune.analysis._gains import Form as Form
from jaxprune.analysis._gains import Gains as Gains
from jaxprune.analysis._gains import gains as gains
from jaxprune.analysis._macs import macs as macs
from jaxprune.analysis._plan import Plan as Plan
from jaxprune.analysis._plan import plan as plan
from jaxprune.analysis._sensitivity import Sensitivity as Sensitivity
from jaxprune.analysis._sensitivity import sensitivity as sensitivity
from jaxprune.analysis._summary import Summary as Summary
from jaxprune.analysis._summary import summary as summary

__all__ = [
    "Flops",
    "Form",
    "Gains",
    "Plan",
    "Sensitivity",
    "Summary",
    "flops",
    "gains",
    "macs",
    "plan",
    "plots",
    "sensitivity",
    "summary",
]
