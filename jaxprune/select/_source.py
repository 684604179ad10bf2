"""What is ranked: arrays, and how to read a score off them in every pass instead of storing it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.select import _keys


def _identity(scores):
    return scores


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["array", "num_candidates", "member", "wanted"],
    meta_fields=["scores"],
)
@dataclasses.dataclass(frozen=True)
class Source:
    """The scores of one leaf.

    Attributes:
      array: what the scores are read off, under 2**31 elements.
      scores: elementwise function of the array that gives float scores. It is computed again in
        every pass, so that no scores are stored.
      member, wanted: bool array and bool scalar, or None: only where they agree is an element a
        candidate, and what is no candidate is not kept.
      num_candidates: how many candidates there are, an int32 scalar; None: all.
    """

    array: jax.Array
    scores: Callable[[jax.Array], jax.Array] = _identity
    member: Any = None
    wanted: Any = None
    num_candidates: Any = None

    @property
    def shape(self):
        """The shape of the scores."""
        return self.array.shape

    @property
    def size(self) -> int:
        """How many scores there are."""
        return self.array.size

    @property
    def dtype(self):
        """The dtype of the scores."""
        return jax.eval_shape(self.scores, self.array).dtype

    def in_rows(self, rows: int) -> "Source":
        """The same with a new first axis of that length, which divides what was the first."""
        first, *others = self.shape or (1,)
        lengths = rows, first // rows, *others
        return self.map(lambda x: x.reshape(lengths))

    @property
    def most_per_row(self):
        """How many of each row can be kept at most, int32 [rows]."""
        rows = self.shape[0]
        if self.num_candidates is None:
            return jnp.full((rows,), self.size // rows, jnp.int32)
        return jnp.full((rows,), self.num_candidates // rows, jnp.int32)

    def map(self, function) -> "Source":
        """The same after a reshape or slice of the arrays."""
        member = None if self.member is None else function(self.member)
        return dataclasses.replace(self, array=function(self.array), member=member)

    def keys(self, dtype) -> jax.Array:
        """Ordered integers to compare in `dtype`; what is no candidate lies below the lowest."""
        keys = _keys.to_keys(self.scores(self.array).astype(dtype))
        if self.member is None:
            return keys
        lowest, _ = _keys.key_range(dtype)
        return jnp.where(self.member == self.wanted, keys, jnp.asarray(lowest - 1, keys.dtype))


def concatenate(sources: list[Source]) -> Source:
    """Flat sources whose scores are made alike, one after the other."""
    member = None
    if sources[0].member is not None:
        member = jnp.concatenate([x.member for x in sources])
    array = jnp.concatenate([x.array for x in sources])
    return dataclasses.replace(sources[0], array=array, member=member)
