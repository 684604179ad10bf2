"""jaxprune: functional pruning transforms for JAX."""

from jaxprune import allocate as allocate
from jaxprune import analysis as analysis
from jaxprune import compact as compact
from jaxprune import export as export
from jaxprune import iterate as iterate
from jaxprune import masks as masks
from jaxprune import oneshot as oneshot
from jaxprune import patterns as patterns
from jaxprune import recipes as recipes
from jaxprune import schedules as schedules
from jaxprune import scores as scores
from jaxprune import select as select
from jaxprune import sparse as sparse
from jaxprune import transforms as transforms
from jaxprune._version import __version__ as __version__
from jaxprune.analysis import plan as plan
from jaxprune.analysis import summary as summary
from jaxprune.masks import apply as apply_masks
from jaxprune.masks import finalize as finalize
from jaxprune.oneshot import prune_params as prune_params
from jaxprune.patterns import NM as NM
from jaxprune.patterns import Block as Block
from jaxprune.patterns import Channel as Channel
from jaxprune.patterns import Heads as Heads
from jaxprune.patterns import Unstructured as Unstructured
from jaxprune.rules import Rule as Rule
from jaxprune.schedules import ac_dc as ac_dc
from jaxprune.schedules import constant as constant
from jaxprune.schedules import cosine as cosine
from jaxprune.schedules import every as every
from jaxprune.schedules import exponential as exponential
from jaxprune.schedules import linear as linear
from jaxprune.schedules import one_shot as one_shot
from jaxprune.schedules import polynomial as polynomial
from jaxprune.schedules import steps as steps
from jaxprune.transforms import get_masks as get_masks
from jaxprune.transforms import group_lasso as group_lasso
from jaxprune.transforms import growing_l2 as growing_l2
from jaxprune.transforms import inverse_power as inverse_power
from jaxprune.transforms import keep as keep
from jaxprune.transforms import masks_changed as masks_changed
from jaxprune.transforms import power as power
from jaxprune.transforms import proximal_l1 as proximal_l1
from jaxprune.transforms import prune as prune
from jaxprune.transforms import rigl as rigl
from jaxprune.transforms import set_ as set_
from jaxprune.transforms import sparse_view as sparse_view
from jaxprune.transforms import srigl as srigl
from jaxprune.transforms import static as static
from jaxprune.transforms import straight_through as straight_through
from jaxprune.transforms import top_kast as top_kast

__all__ = [
    "NM",
    "Block",
    "Channel",
    "Heads",
    "Rule",
    "Unstructured",
    "__version__",
    "ac_dc",
    "allocate",
    "analysis",
    "apply_masks",
    "compact",
    "constant",
    "cosine",
    "every",
    "exponential",
    "export",
    "finalize",
    "get_masks",
    "group_lasso",
    "growing_l2",
    "inverse_power",
    "iterate",
    "keep",
    "linear",
    "masks",
    "masks_changed",
    "one_shot",
    "oneshot",
    "patterns",
    "plan",
    "polynomial",
    "power",
    "proximal_l1",
    "prune",
    "prune_params",
    "recipes",
    "rigl",
    "schedules",
    "scores",
    "select",
    "set_",
    "sparse",
    "sparse_view",
    "srigl",
    "static",
    "steps",
    "straight_through",
    "summary",
    "top_kast",
    "transforms",
]
