"""Pruning and sparse training inside an optax optimizer."""

from jaxprune.transforms._criteria import ScoreState as ScoreState
from jaxprune.transforms._keep import keep as keep
from jaxprune.transforms._prune import prune as prune
from jaxprune.transforms._sparse_training import rigl as rigl
from jaxprune.transforms._sparse_training import set_ as set_
from jaxprune.transforms._sparse_training import static as static
from jaxprune.transforms._state import KeepState as KeepState
from jaxprune.transforms._state import PruneState as PruneState
from jaxprune.transforms._state import get_masks as get_masks
from jaxprune.transforms._state import masks_changed as masks_changed

__all__ = [
    "KeepState",
    "PruneState",
    "ScoreState",
    "get_masks",
    "keep",
    "masks_changed",
    "prune",
    "rigl",
    "set_",
    "static",
]
