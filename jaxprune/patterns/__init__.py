"""Patterns: which weights live or die together."""

from jaxprune.patterns._block import Block as Block
from jaxprune.patterns._channel import Channel as Channel
from jaxprune.patterns._heads import Heads as Heads
from jaxprune.patterns._nm import NM as NM
from jaxprune.patterns._pattern import Pattern as Pattern
from jaxprune.patterns._permutation import Permutation as Permutation
from jaxprune.patterns._permutation import permutation as permutation
from jaxprune.patterns._tied import Group as Group
from jaxprune.patterns._tied import Member as Member
from jaxprune.patterns._tied import Tied as Tied
from jaxprune.patterns._unstructured import Unstructured as Unstructured

__all__ = [
    "NM",
    "Block",
    "Channel",
    "Group",
    "Heads",
    "Member",
    "Pattern",
    "Permutation",
    "Tied",
    "Unstructured",
    "permutation",
]
