"""Criteria: from a leaf to scores of its shape, where a higher score means keep."""

from jaxprune.scores._criterion import Criterion as Criterion
from jaxprune.scores._criterion import Memory as Memory
from jaxprune.scores._criterion import as_criterion as as_criterion
from jaxprune.scores._lamp import lamp as lamp
from jaxprune.scores._magnitude import magnitude as magnitude
from jaxprune.scores._normalized import l1_norm as l1_norm
from jaxprune.scores._normalized import l2_norm as l2_norm
from jaxprune.scores._normalized import normalized as normalized
from jaxprune.scores._random import random as random

__all__ = [
    "Criterion",
    "Memory",
    "as_criterion",
    "l1_norm",
    "l2_norm",
    "lamp",
    "magnitude",
    "normalized",
    "random",
]
