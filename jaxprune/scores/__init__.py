"""Criteria: from a leaf to scores of its shape, where a higher score means keep."""

from jaxprune.scores._accumulated_saliency import accumulated_saliency as accumulated_saliency
from jaxprune.scores._activation import fraction_active as fraction_active
from jaxprune.scores._activation import mean_activation as mean_activation
from jaxprune.scores._criterion import Criterion as Criterion
from jaxprune.scores._criterion import Memory as Memory
from jaxprune.scores._criterion import as_criterion as as_criterion
from jaxprune.scores._diagonal import exact_diagonal as exact_diagonal
from jaxprune.scores._diagonal import hutchinson as hutchinson
from jaxprune.scores._geometric_median import geometric_median as geometric_median
from jaxprune.scores._given import given as given
from jaxprune.scores._gradient import gradient as gradient
from jaxprune.scores._grasp import grasp as grasp
from jaxprune.scores._lamp import lamp as lamp
from jaxprune.scores._magnitude import magnitude as magnitude
from jaxprune.scores._movement import movement as movement
from jaxprune.scores._movement import soft_movement as soft_movement
from jaxprune.scores._norm_scale import norm_scale as norm_scale
from jaxprune.scores._normalized import l1_norm as l1_norm
from jaxprune.scores._normalized import l2_norm as l2_norm
from jaxprune.scores._normalized import normalized as normalized
from jaxprune.scores._obd import obd as obd
from jaxprune.scores._obs import obs as obs
from jaxprune.scores._random import random as random
from jaxprune.scores._saliency import saliency as saliency
from jaxprune.scores._saliency import squared_saliency as squared_saliency
from jaxprune.scores._snip import snip as snip
from jaxprune.scores._squared import squared as squared
from jaxprune.scores._synflow import synflow as synflow
from jaxprune.scores._taylor import taylor as taylor

__all__ = [
    "Criterion",
    "Memory",
    "accumulated_saliency",
    "as_criterion",
    "exact_diagonal",
    "fraction_active",
    "geometric_median",
    "given",
    "gradient",
    "grasp",
    "hutchinson",
    "l1_norm",
    "l2_norm",
    "lamp",
    "magnitude",
    "mean_activation",
    "movement",
    "norm_scale",
    "normalized",
    "obd",
    "obs",
    "random",
    "saliency",
    "snip",
    "soft_movement",
    "squared",
    "squared_saliency",
    "synflow",
    "taylor",
]
