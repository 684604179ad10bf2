"""Pruning trained params in one call."""

from jaxprune.oneshot import cores as cores
from jaxprune.oneshot._collect import Collected as Collected
from jaxprune.oneshot._collect import collect as collect
from jaxprune.oneshot._prune_params import prune_params as prune_params

__all__ = ["Collected", "collect", "cores", "prune_params"]
