"""Masks: bool pytrees in the tree of the params, True = keep, None for a dense leaf."""

from jaxprune.masks._masks import apply as apply
from jaxprune.masks._masks import density as density
from jaxprune.masks._masks import from_zeros as from_zeros
from jaxprune.masks._masks import make as make
from jaxprune.masks._masks import overlap as overlap
from jaxprune.masks._masks import pack as pack
from jaxprune.masks._masks import unpack as unpack

__all__ = ["apply", "density", "from_zeros", "make", "overlap", "pack", "unpack"]
