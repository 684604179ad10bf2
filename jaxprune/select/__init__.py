"""Exact k of n scores by counting: in one array, per slice, or over many arrays in place."""

from jaxprune.select._top_k import top_k_mask as top_k_mask
from jaxprune.select._top_k import top_k_masks as top_k_masks
from jaxprune.select._top_k import top_n_of_m as top_n_of_m

__all__ = ["top_k_mask", "top_k_masks", "top_n_of_m"]
