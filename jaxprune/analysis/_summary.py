"""What is sparse: per leaf and in total, counted exactly."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import _table
from jaxprune._program import is_array
from jaxprune.masks._apply import match
from jaxprune.masks._measure import num_kept


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf, or a total of leaves.

    Attributes:
      path: of the leaf.
      shape: of the leaf, or "" for a total.
      size: number of weights.
      kept: number that the mask keeps; all where there is no mask.
      nonzero: number of weights that are not 0.
      masked: whether there is a mask.
    """

    path: str
    shape: Any
    size: int
    kept: int
    nonzero: int
    masked: bool

    @property
    def sparsity(self) -> float:
        """Fraction of weights that the mask prunes."""
        return 1 - self.kept / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `summary` counts; `str` gives a table.

    Attributes:
      rows: the leaves that have a mask, in the order of the tree.
      prunable: their total.
      model: the total of all leaves.
    """

    rows: tuple[Row, ...]
    prunable: Row
    model: Row

    @property
    def unmasked(self) -> tuple[str, ...]:
        """Paths of leaves that have nonzero weights where their mask prunes."""
        return tuple(row.path for row in self.rows if row.nonzero > row.kept)

    def __str__(self) -> str:
        """A table; raises ImportError without rich."""
        columns = ("leaf", "shape", "weights", "kept", "sparsity", "nonzero")
        text = _table.render(
            "the table of a summary",
            columns,
            [_cells(row) for row in self.rows],
            left=2,
            footer=[_cells(self.prunable), _cells(self.model)],
        )
        if self.unmasked:
            text += (
                f"\nnot masked yet: {', '.join(self.unmasked)} have more nonzero weights than kept "
                "ones; apply_masks(params, masks) sets them to 0"
            )
        return text


def _cells(row: Row):
    shape = "x".join(map(str, row.shape))
    return (
        row.path,
        shape,
        f"{row.size:,}",
        f"{row.kept:,}",
        _table.percent(row.sparsity),
        f"{row.nonzero:,}",
    )


def summary(params, masks) -> Summary:
    """How sparse params are, per leaf and in total.

    Args:
      params: any pytree of arrays; other leaves, such as functions, do not count.
      masks: bool arrays in the tree of `params`, None where a leaf is dense.

    Returns:
      A `Summary`; print it. Counts are exact integers.

    Raises:
      TypeError, ValueError: masks do not fit params.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params, masks = jaxprune.prune_params({"kernel": jnp.ones((2, 4))}, sparsity=0.75)
      >>> jaxprune.summary(params, masks).prunable.sparsity
      0.75
    """
    rows = []
    for path, leaf, mask in match(params, masks):
        if not (is_array(leaf) or np.isscalar(leaf)):
            continue
        size = int(np.prod(jnp.shape(leaf), dtype=np.int64))
        kept = size if mask is None else num_kept(mask)
        key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        nonzero = size if key else num_kept(leaf)
        rows.append(Row(path, tuple(jnp.shape(leaf)), size, kept, nonzero, mask is not None))
    masked = [row for row in rows if row.masked]
    return Summary(tuple(masked), _total("prunable", masked), _total("whole model", rows))


def _total(name, rows):
    size, kept, nonzero = (
        sum(getattr(row, field) for row in rows) for field in ("size", "kept", "nonzero")
    )
    return Row(name, "", size, kept, nonzero, any(row.masked for row in rows))
