"""Pruning and sparse training inside an optax optimizer."""

from jaxprune.transforms._criteria import ScoreState as ScoreState
from jaxprune.transforms._keep import keep as keep
from jaxprune.transforms._power import inverse_power as inverse_power
from jaxprune.transforms._power import power as power
from jaxprune.transforms._proximal import ProximalState as ProximalState
from jaxprune.transforms._proximal import group_lasso as group_lasso
from jaxprune.transforms._proximal import growing_l2 as growing_l2
from jaxprune.transforms._proximal import proximal_l1 as proximal_l1
from jaxprune.transforms._prune import prune as prune
from jaxprune.transforms._sparse_training import rigl as rigl
from jaxprune.transforms._sparse_training import set_ as set_
from jaxprune.transforms._sparse_training import srigl as srigl
from jaxprune.transforms._sparse_training import static as static
from jaxprune.transforms._sparse_view import sparse_view as sparse_view
from jaxprune.transforms._state import KeepState as KeepState
from jaxprune.transforms._state import PruneState as PruneState
from jaxprune.transforms._state import StraightThroughState as StraightThroughState
from jaxprune.transforms._state import get_masks as get_masks
from jaxprune.transforms._state import masks_changed as masks_changed
from jaxprune.transforms._straight_through import straight_through as straight_through
from jaxprune.transforms._straight_through import top_kast as top_kast

__all__ = [
    "KeepState",
    "ProximalState",
    "PruneState",
    "ScoreState",
    "StraightThroughState",
    "get_masks",
    "group_lasso",
    "growing_l2",
    "inverse_power",
    "keep",
    "masks_changed",
    "power",
    "proximal_l1",
    "prune",
    "rigl",
    "set_",
    "sparse_view",
    "srigl",
    "static",
    "straight_through",
    "top_kast",
]
