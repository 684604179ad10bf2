"""Searches that prune and look, again and again: the caller says how good a pruned network is."""

from jaxprune.iterate._evolution import LegrState as LegrState
from jaxprune.iterate._legr import Ranking as Ranking
from jaxprune.iterate._legr import legr as legr

__all__ = ["LegrState", "Ranking", "legr"]
