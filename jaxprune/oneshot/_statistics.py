"""What is kept of the inputs of a layer, summed over batches; and how far its output is off."""

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxprune._sharding import with_auto_axes
from jaxprune.oneshot._products import Rows, read_rows

Need = Literal["squares", "gram"]
"""The sum of squares of each input, or all of X^T X."""


class Statistics(NamedTuple):
    """Sums over the rows of X [batch, rows, inputs], float32. Those of two data sets add up.

    Attributes:
      squares: sum of x**2, [batch, inputs].
      gram: X^T X, [batch, inputs, inputs], or None.
      cross: X^T X_dense, of the same shape, or None: X is then what the pruned network makes, and
        X_dense what the dense one does.
    """

    squares: jax.Array
    gram: jax.Array | None
    cross: jax.Array | None


def zeros(rows: Rows, need: Need, twins: bool) -> Statistics:
    """Statistics of no rows of what is read like that."""
    batch, inputs = math.prod(rows.batch_sizes), math.prod(rows.input_sizes)
    square = (batch, inputs, inputs)
    return Statistics(
        jnp.zeros((batch, inputs), jnp.float32),
        jnp.zeros(square, jnp.float32) if need == "gram" else None,
        jnp.zeros(square, jnp.float32) if twins else None,
    )


@functools.partial(jax.jit, static_argnums=3, donate_argnums=0)
def add(sums: Statistics, x, dense, rows: Rows) -> tuple[Statistics, jax.Array]:
    """Statistics with one more batch, and whether all of it is finite.

    Args:
      sums: so far; they are used up.
      x: the operand of the product, in the network as it is now.
      dense: the same in the dense network, or None.
      rows: how operands are read.
    """
    leaves, structure = jax.tree.flatten(sums)

    def more(leaves, x, dense):
        squares, gram, cross = jax.tree.unflatten(structure, leaves)
        x = read_rows(x, rows).astype(jnp.float32)
        finite = jnp.all(jnp.isfinite(x))
        squares = squares + jnp.sum(x * x, 1)
        if gram is not None:
            gram = gram + _products(x, x)
        if cross is not None:
            other = read_rows(dense, rows).astype(jnp.float32)
            finite &= jnp.all(jnp.isfinite(other))
            cross = cross + _products(x, other)
        return [*jax.tree.leaves((squares, gram, cross)), finite]

    *leaves, finite = _everywhere(more, len(leaves) + 1, leaves, x, dense)
    return jax.tree.unflatten(structure, leaves), finite


def _everywhere(function, number: int, sums, x, *args):
    """So many sums, on all devices; their axes are cut by the compiler."""
    whole = lambda sharding: NamedSharding(sharding.mesh, PartitionSpec())  # noqa: E731
    return with_auto_axes(function, sums, x, *args, like=[x] * number, fit=whole)


def add_checked(sums: Statistics, x, dense, rows: Rows, name: str, number: int) -> Statistics:
    """As `add`, for a named layer and a batch with a number.

    Raises:
      ValueError: the batch is empty, or makes inputs that are not finite.
    """
    if not x.size:
        raise ValueError(
            f"batch {number} is empty: it has no rows of inputs for {name}; leave it out."
        )
    sums, finite = add(sums, x, dense, rows)
    if not finite:
        raise ValueError(
            f"batch {number} makes NaN or infinite inputs of {name}, by which nothing can be "
            "ranked; leave it out, or mend what makes them."
        )
    return sums


def _products(x, y):
    return jnp.einsum("brd,bre->bde", x, y, precision=lax.Precision.HIGHEST)


class Errors(NamedTuple):
    """Sums of squares of the output of a layer, and of what it is off; float32 scalars.

    Attributes:
      output: of X_dense W.
      inherited: of X_dense W - X W: what the pruning of earlier layers does to it.
      masked: of X_dense W - X (W where the mask keeps it).
      pruned: of X_dense W - X W_pruned.
    """

    output: jax.Array
    inherited: jax.Array
    masked: jax.Array
    pruned: jax.Array


@functools.partial(jax.jit, static_argnums=6)
def add_errors(sums: Errors, x, dense, weights, mask, pruned, rows: Rows) -> Errors:
    """Errors with one more batch.

    Args:
      sums: so far.
      x, dense, rows: as in `add`; dense is None where it is x.
      weights, mask, pruned: [batch, inputs, outputs]: as they were, what is kept, as they are.
    """

    def more(sums, x, dense, weights, mask, pruned):
        x = read_rows(x, rows).astype(jnp.float32)
        other = x if dense is None else read_rows(dense, rows).astype(jnp.float32)
        w, p = weights.astype(jnp.float32), pruned.astype(jnp.float32)
        aim = _outputs(other, w)
        off = (aim if dense is None else _outputs(x, w)), _outputs(x, jnp.where(mask, w, 0.0))
        found = [jnp.sum(aim**2), *(jnp.sum((aim - y) ** 2) for y in (*off, _outputs(x, p)))]
        return [a + b for a, b in zip(sums, found, strict=True)]

    return Errors(*_everywhere(more, 4, list(sums), x, dense, weights, mask, pruned))


def _outputs(x, w):
    return jnp.einsum("bri,bio->bro", x, w, precision=lax.Precision.HIGHEST)
