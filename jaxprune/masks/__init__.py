"""Masks: bool pytrees in the tree of the params, True = keep, None for a dense leaf."""

from jaxprune.masks._apply import apply as apply
from jaxprune.masks._apply import from_zeros as from_zeros
from jaxprune.masks._finalize import finalize as finalize
from jaxprune.masks._make import make as make
from jaxprune.masks._measure import density as density
from jaxprune.masks._measure import overlap as overlap
from jaxprune.masks._pack import pack as pack
from jaxprune.masks._pack import unpack as unpack
from jaxprune.masks._shuffle import shuffle as shuffle

__all__ = [
    "apply",
    "density",
    "finalize",
    "from_zeros",
    "make",
    "overlap",
    "pack",
    "shuffle",
    "unpack",
]
