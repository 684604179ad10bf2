"""Products with matrices of which only some blocks are stored, by gathering what meets them."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune.sparse._block_ell import BlockELL


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blocks:
    """Matrices as arrays alone, which loops can run over and `vmap` can map.

    Attributes:
      blocks, rows, counts, columns: as in `BlockELL` and its layout.
      size: rows and columns of a dense matrix.
      block: rows and columns of a block.
    """

    blocks: tuple[jax.Array, ...]
    rows: tuple[Any, ...]
    counts: tuple[Any, ...]
    columns: Any
    size: tuple[int, int] = dataclasses.field(metadata={"static": True})
    block: tuple[int, int] = dataclasses.field(metadata={"static": True})

    @property
    def stack(self) -> tuple[int, ...]:
        """Leading axes."""
        return self.blocks[0].shape[:-4]

    @property
    def grid(self) -> tuple[int, int]:
        """Block rows and block columns."""
        return -(-self.size[0] // self.block[0]), self.columns.shape[-1]


def opened(leaf: BlockELL) -> Blocks:
    """The arrays of a leaf; padding has no gradient from here on."""
    layout = leaf.layout
    _, m, n = layout.sizes
    rows, counts = ([x.array for x in group] for group in (layout.rows, layout.counts))
    blocks = tuple(map(_only_real, leaf.blocks, counts))
    return Blocks(blocks, tuple(rows), tuple(counts), layout.columns.array, (m, n), layout.block)


def _only_real(blocks, counts):
    """The blocks as they are, of which padding has gradient 0."""
    most = blocks.shape[-3]
    real = np.arange(most) < counts[..., None]
    if real.all():
        return blocks
    return jnp.where(real[..., None, None], blocks, lax.stop_gradient(blocks))


def times(x, w: Blocks, dtype, **options):
    """X [batch, rows] @ w -> [batch, columns] of a dtype; of a stack of matrices see `stacked`."""
    pieces = _cut(x, w.block[0])
    made = []
    for blocks, rows in zip(w.blocks, w.rows, strict=True):
        met = _take(pieces, rows)  # [columns, kept, batch, rows of a block]
        dims = ((1, 3), (1, 2)), ((0,), (0,))
        made.append(lax.dot_general(met, blocks, dims, **options))
    y = jnp.concatenate(made) if len(made) > 1 else made[0]
    return _joined(_unsorted(y, w.columns), w.size[1]).astype(dtype)


def times_transposed(x, w: Blocks, dtype, **options):
    """X [batch, columns] @ w.T -> [batch, rows] of a dtype."""
    pieces, wide = _cut(x, w.block[1]), jnp.promote_types(dtype, jnp.float32)
    y = jnp.zeros((w.grid[0], len(x), w.block[0]), wide)
    start, options = 0, {**options, "preferred_element_type": wide}
    for blocks, rows in zip(w.blocks, w.rows, strict=True):
        own = w.columns[start : start + len(rows)]
        start += len(rows)
        dims = ((2,), (3,)), ((0,), (0,))
        made = lax.dot_general(_take(pieces, own), blocks, dims, **options)
        # [columns, batch, kept, rows of a block]; columns that keep a row add to it
        y = y.at[rows].add(made.swapaxes(1, 2), mode="promise_in_bounds")
    return _joined(y, w.size[0]).astype(dtype)


def stacked(product, x, w: Blocks, mapped: bool):
    """A product with each matrix of a stack: [stack, batch, ...], x likewise if mapped."""
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[len(w.stack) :]), w)
    return jax.vmap(product, in_axes=(0 if mapped else None, 0))(x, flat)


def dense(w: Blocks):
    """The dense matrices [*stack, rows, columns]."""
    if w.stack:
        flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[len(w.stack) :]), w)
        return jax.vmap(dense)(flat).reshape(*w.stack, *w.size)
    (m, n), (bm, bn) = w.grid, w.block
    grid, start = jnp.zeros((m, n, bm, bn), w.blocks[0].dtype), 0
    for blocks, rows in zip(w.blocks, w.rows, strict=True):
        own = w.columns[start : start + len(rows), None]
        start += len(rows)
        grid = grid.at[rows, own].add(blocks, mode="promise_in_bounds")
    return grid.swapaxes(1, 2).reshape(m * bm, n * bn)[: w.size[0], : w.size[1]]


def _cut(x, size):
    """[batch, n] -> [pieces, batch, size], zeros beyond n."""
    batch, n = x.shape
    if n % size:
        x = jnp.pad(x, ((0, 0), (0, -n % size)))
    return x.reshape(batch, math.ceil(n / size), size).swapaxes(0, 1)


def _joined(pieces, n):
    """[pieces, batch, size] -> [batch, n]."""
    return pieces.swapaxes(0, 1).reshape(pieces.shape[1], -1)[:, :n]


def _take(pieces, index):
    """Pieces by number. Their gradients are added up in float32 or wider."""
    wide = pieces.astype(jnp.promote_types(pieces.dtype, jnp.float32))
    return wide.at[index].get(mode="promise_in_bounds").astype(pieces.dtype)


def _unsorted(y, columns):
    """Columns [some, batch, size] in their own order; those that were not made are 0."""
    n = len(columns)
    if len(y) < n:
        y = jnp.pad(y, ((0, n - len(y)), (0, 0), (0, 0)))
    if isinstance(columns, np.ndarray):
        if np.array_equal(columns, np.arange(n)):
            return y
        return _take(y, np.argsort(columns))
    return _take(y, jnp.argsort(columns))
