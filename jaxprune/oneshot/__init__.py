"""Pruning trained params: in one call by scores, or layer by layer from a few batches of inputs."""

from jaxprune.oneshot import cores as cores
from jaxprune.oneshot._capture import Captured as Captured
from jaxprune.oneshot._capture import CapturedLayer as CapturedLayer
from jaxprune.oneshot._capture import capture as capture
from jaxprune.oneshot._capture import outlier_shares as outlier_shares
from jaxprune.oneshot._capture import wanda_scores as wanda_scores
from jaxprune.oneshot._collect import Collected as Collected
from jaxprune.oneshot._collect import collect as collect
from jaxprune.oneshot._methods import Method as Method
from jaxprune.oneshot._methods import Problem as Problem
from jaxprune.oneshot._methods import alps as alps
from jaxprune.oneshot._methods import magnitude as magnitude
from jaxprune.oneshot._methods import obc as obc
from jaxprune.oneshot._methods import sparsegpt as sparsegpt
from jaxprune.oneshot._methods import wanda as wanda
from jaxprune.oneshot._prune_model import prune_model as prune_model
from jaxprune.oneshot._prune_params import prune_params as prune_params
from jaxprune.oneshot._report import LayerReport as LayerReport
from jaxprune.oneshot._report import Report as Report
from jaxprune.oneshot._statistics import Statistics as Statistics

__all__ = [
    "Captured",
    "CapturedLayer",
    "Collected",
    "LayerReport",
    "Method",
    "Problem",
    "Report",
    "Statistics",
    "alps",
    "capture",
    "collect",
    "cores",
    "magnitude",
    "obc",
    "outlier_shares",
    "prune_model",
    "prune_params",
    "sparsegpt",
    "wanda",
    "wanda_scores",
]
