"""Pruning trained params in one call."""

from jaxprune.oneshot._prune_params import prune_params as prune_params

__all__ = ["prune_params"]
