"""A matrix as the blocks of it that are kept, block column by block column (block-ELL).

Columns differ in how many blocks they keep. They are sorted by that and cut into at most four
groups; in a group each is stored with as many blocks as its fullest keeps, so that one batched
product does the group. What is added to make columns even holds zeros.
"""

import dataclasses
import itertools
import math
from typing import NamedTuple

import jax
import numpy as np

GROUPS = 4
"""Groups of columns of a matrix: more of them store fewer zeros, in smaller products."""


class Matrix(NamedTuple):
    """How a leaf is read as matrices: its first axes stack them, then inputs, then outputs.

    Attributes:
      stack: how many axes stack matrices, such as the layers of `nn.scan`.
      inputs: how many axes after these are rows; the others are columns. A weight that is stored
        (outputs, inputs), as Equinox does, is read the same way.
    """

    stack: int = 0
    inputs: int = 1


@dataclasses.dataclass(frozen=True)
class Integers:
    """A constant array of integers that can be hashed, so that it is part of a tree's structure."""

    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array) -> "Integers":
        """From an array."""
        array = np.ascontiguousarray(array, np.int32)
        return cls(array.shape, array.tobytes())

    @property
    def array(self) -> np.ndarray:
        """As int32."""
        return np.frombuffer(self.data, np.int32).reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which blocks a leaf keeps. Static: equal layouts are compiled once.

    Attributes:
      shape: of the dense leaf.
      matrix: how it is read as matrices.
      block: rows and columns of a block; the last ones of a matrix may reach beyond it.
      columns: [*stack, block columns], sorted by how many blocks they keep, the fullest first.
      rows: of each group of columns the block rows that are kept [*stack, columns, kept].
      counts: of each group how many of these are real [*stack, columns].
    """

    shape: tuple[int, ...]
    matrix: Matrix
    block: tuple[int, int]
    columns: Integers
    rows: tuple[Integers, ...]
    counts: tuple[Integers, ...]

    @property
    def sizes(self) -> tuple[tuple[int, ...], int, int]:
        """(axes of the stack, rows, columns) of the dense matrices."""
        return sizes(self.shape, self.matrix)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class BlockELL:
    """A leaf of which only some blocks are stored: a pytree of arrays, as optimizers need it.

    It is made by `to_blocks`, undone by `to_dense`, and run by `sparse_apply`.

    Attributes:
      blocks: of each group of block columns an array [*stack, columns, kept, rows, columns of a
        block]. Where a column keeps fewer blocks than its group stores, the last are padding: zeros
        whose gradient is exactly 0.
      layout: where they belong; static, so gradients and optimizer states have the same structure.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import sparse
      >>> w = {"kernel": jnp.zeros((64, 64)).at[:32, :32].set(1.0)}
      >>> sparse.to_blocks(w, block=(32, 32))["kernel"]
      BlockELL((64, 64), float32, blocks of 32x32, 1 of 4 stored)
    """

    blocks: tuple[jax.Array, ...]
    layout: Layout = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the dense leaf."""
        return self.layout.shape

    @property
    def dtype(self):
        """Of its blocks."""
        return self.blocks[0].dtype

    @property
    def stored(self) -> int:
        """How many blocks are stored, padding included."""
        return sum(math.prod(rows.shape) for rows in self.layout.rows)

    def __repr__(self):
        (stack, m, n), (bm, bn) = self.layout.sizes, self.layout.block
        total = math.prod(stack) * -(-m // bm) * -(-n // bn)
        kind = getattr(self.blocks[0], "dtype", type(self.blocks[0]).__name__)
        return (
            f"BlockELL({self.shape}, {kind}, blocks of {bm}x{bn}, {self.stored} of {total} stored)"
        )


def sizes(shape, matrix: Matrix) -> tuple[tuple[int, ...], int, int]:
    """(axes of the stack, rows, columns) of a leaf that is read as matrices."""
    stack, end = matrix.stack, matrix.stack + matrix.inputs
    return tuple(shape[:stack]), math.prod(shape[stack:end]), math.prod(shape[end:])


def kept_blocks(leaf: np.ndarray, matrix: Matrix, block) -> np.ndarray:
    """Whether each block has a weight that is not 0: bool [stack, block rows, block columns]."""
    return np.any(_grid(leaf != 0, matrix, block), axis=(-2, -1))


def plan(kept: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """The order of columns, and groups of them that together store the fewest blocks.

    Args:
      kept: bool [stack, block rows, block columns].

    Returns:
      Columns [stack, block columns], the fullest first; and (start, stop, blocks of each column) of
      each group. Columns behind the last group keep nothing.
    """
    counts = kept.sum(1)
    columns = np.argsort(-counts, axis=1, kind="stable")
    most = np.take_along_axis(counts, columns, 1).max(0)
    most[:1] = np.maximum(most[:1], 1)  # one block, if only of zeros, tells the dtype
    used = int(np.count_nonzero(most))
    steps = [i for i in range(1, used) if most[i] < most[i - 1]]

    def groups(cuts):
        ends = [0, *cuts, used]
        return [(a, b, int(most[a])) for a, b in itertools.pairwise(ends)]

    cuts = itertools.combinations(steps, min(GROUPS - 1, len(steps)))
    best = min(map(groups, cuts), key=lambda found: sum((b - a) * k for a, b, k in found))
    return columns, best


def pack(leaf: np.ndarray, matrix: Matrix, block, kept: np.ndarray) -> BlockELL:
    """A leaf as its blocks, given which of them it keeps."""
    stack = sizes(leaf.shape, matrix)[0]
    columns, groups = plan(kept)
    grid = _grid(leaf, matrix, block)
    first = np.argsort(~kept, axis=1, kind="stable")  # the rows that a column keeps come first
    each = np.arange(len(kept))[:, None, None]
    blocks, rows, counts = [], [], []
    for start, stop, most in groups:
        own = columns[:, start:stop]
        count = np.take_along_axis(kept.sum(1), own, 1)
        # What is padding repeats a row of its own column: what is NaN there is so already.
        place = np.minimum(np.arange(most), np.maximum(count, 1)[:, :, None] - 1)
        row = first[each, place, own[:, :, None]]
        found = grid[each, row, own[:, :, None]]
        found[np.arange(most) >= count[:, :, None]] = 0
        blocks.append(jax.numpy.asarray(found.reshape(*stack, *found.shape[1:])))
        rows.append(Integers.of(row.reshape(*stack, *row.shape[1:])))
        counts.append(Integers.of(count.reshape(*stack, *count.shape[1:])))
    order = Integers.of(columns.reshape(*stack, -1))
    layout = Layout(leaf.shape, matrix, tuple(block), order, tuple(rows), tuple(counts))
    return BlockELL(tuple(blocks), layout)


def _grid(leaf: np.ndarray, matrix: Matrix, block) -> np.ndarray:
    """A leaf as [stack, block rows, block columns, rows, columns of a block], zeros beyond it."""
    stack, m, n = sizes(leaf.shape, matrix)
    bm, bn = block
    padded = np.pad(leaf.reshape(-1, m, n), ((0, 0), (0, -m % bm), (0, -n % bn)))
    return padded.reshape(math.prod(stack), -(-m // bm), bm, -(-n // bn), bn).swapaxes(2, 3)
