"""How a total sparsity is divided over leaves: from shapes to whole numbers, on the host."""

from jaxprune.allocate._erdos_renyi import erdos_renyi as erdos_renyi
from jaxprune.allocate._erdos_renyi import erdos_renyi_kernel as erdos_renyi_kernel
from jaxprune.allocate._owl import outlier_share as outlier_share
from jaxprune.allocate._owl import owl as owl
from jaxprune.allocate._sensitivity import from_sensitivity as from_sensitivity
from jaxprune.allocate._solve import Leaf as Leaf
from jaxprune.allocate._uniform import uniform as uniform

__all__ = [
    "Leaf",
    "erdos_renyi",
    "erdos_renyi_kernel",
    "from_sensitivity",
    "outlier_share",
    "owl",
    "uniform",
]
