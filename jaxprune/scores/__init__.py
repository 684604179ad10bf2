"""Criteria: from a leaf to scores of its shape, where a higher score means keep."""

from jaxprune.scores._criterion import Criterion as Criterion
from jaxprune.scores._criterion import Memory as Memory
from jaxprune.scores._criterion import as_criterion as as_criterion
from jaxprune.scores._magnitude import magnitude as magnitude
from jaxprune.scores._random import random as random

__all__ = ["Criterion", "Memory", "as_criterion", "magnitude", "random"]
