"""Criteria: from a leaf to scores of its shape, where a higher score means keep."""

from jaxprune.scores._activation import fraction_active as fraction_active
from jaxprune.scores._activation import mean_activation as mean_activation
from jaxprune.scores._criterion import Criterion as Criterion
from jaxprune.scores._criterion import Memory as Memory
from jaxprune.scores._criterion import as_criterion as as_criterion
from jaxprune.scores._geometric_median import geometric_median as geometric_median
from jaxprune.scores._given import given as given
from jaxprune.scores._magnitude import magnitude as magnitude
from jaxprune.scores._norm_scale import norm_scale as norm_scale
from jaxprune.scores._random import random as random
from jaxprune.scores._squared import squared as squared
from jaxprune.scores._taylor import taylor as taylor

__all__ = [
    "Criterion",
    "Memory",
    "as_criterion",
    "fraction_active",
    "geometric_median",
    "given",
    "magnitude",
    "mean_activation",
    "norm_scale",
    "random",
    "squared",
    "taylor",
]
