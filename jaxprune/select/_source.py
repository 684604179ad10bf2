"""What is ranked: arrays, and how to read a score off them in every pass instead of storing it."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.select import _keys


def _identity(scores):
    return scores


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["array", "member", "wanted"],
    meta_fields=["scores", "num_members", "unit", "row_axes"],
)
@dataclasses.dataclass(frozen=True)
class Source:
    """The scores of one leaf.

    Attributes:
      array: what the scores are read off.
      scores: elementwise function of the array that gives float scores. It is computed again in
        every pass, so that no scores are stored.
      member, wanted: bool array and bool scalar, or None: members rank before all others. If
        they are wanted, candidates are the members, and others are not kept; if not, all members
        are kept, and candidates are the others.
      num_members: how many members there are, static.
      unit: (axis, m): each m consecutive elements along the axis have the same number of members,
        so that rows must not cut them; or None.
      row_axes: how many of the first axes are those of rows, which are counted one by one.
    """

    array: jax.Array
    scores: Callable[[jax.Array], jax.Array] = _identity
    member: Any = None
    wanted: Any = None
    num_members: int = 0
    unit: tuple[int, int] | None = None
    row_axes: int = 0

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

    @property
    def num_rows(self) -> int:
        """How many rows are counted one by one."""
        return math.prod(self.shape[: self.row_axes])

    def in_rows(self, lengths: tuple[int, ...]) -> "Source":
        """The same with first axes of those lengths: whole ones, and the major part of the next.

        No axis is merged with another, so that a sharded one stays as it is.
        """
        whole = len(lengths) - 1
        shape = self.shape or (1,)
        view = (*lengths, shape[whole] // lengths[whole], *shape[whole + 1 :])
        return dataclasses.replace(self.map(lambda x: x.reshape(view)), row_axes=len(lengths))

    @property
    def most_per_row(self):
        """How many of each row can be kept at most, int32 [rows]."""
        rows = self.num_rows
        most = jnp.int32(self.size // rows)
        if self.member is not None:
            others = self.size - self.num_members
            most = jnp.where(
                self.wanted, jnp.int32(self.num_members // rows), jnp.int32(others // rows)
            )
        return jnp.full((rows,), most, jnp.int32)

    def map(self, function) -> "Source":
        """The same after a reshape or a choice of elements of the arrays."""
        member = None if self.member is None else function(self.member)
        return dataclasses.replace(self, array=function(self.array), member=member)

    def sample(self, stride: int) -> "Source":
        """Every stride-th score in order, flat.

        Read by its indices along each axis: of an array that is cut over devices each then gives
        what it holds of them, while a slice of a flat view would gather the array.
        """
        flat = np.arange(0, self.size, stride, dtype=np.int64)
        index = tuple(i.astype(np.int32) for i in np.unravel_index(flat, self.shape))
        taken = self.map(lambda x: x.at[index].get(mode="promise_in_bounds"))
        return dataclasses.replace(taken, row_axes=0)

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
