"""Arrays in the sparse formats of JAX, which are imported when they are asked for."""

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jaxprune.export._leaf import unsigned

if TYPE_CHECKING:
    from jax.experimental import sparse

_MAX_INDEX = 2**31


def to_bcoo(w, mask=None) -> "sparse.BCOO":
    """A masked array as `jax.experimental.sparse.BCOO`: each kept value with its indices.

        bytes = kept * (itemsize + 4 * axes)

    The number kept becomes a shape, so this runs on the host and not under jit. The format is for
    other code that wants it: as a way to multiply it is slower than dense, but for very few kept.

    Args:
      w: an array of one axis or more.
      mask: bool, what is kept; None keeps what has a bit that is not 0.

    Returns:
      A BCOO with sorted, distinct int32 indices and neither batch nor dense axes.

    Raises:
      TypeError: the mask is not bool.
      ValueError: the shapes differ, `w` is a scalar, or an axis is longer than an int32 counts.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import export
      >>> sparse = export.to_bcoo(jnp.array([[0.0, 2.0], [3.0, 0.0]]))
      >>> sparse @ jnp.ones(2)
      Array([2., 3.], dtype=float32)
    """
    from jax.experimental import sparse

    w, kept = _checked("to_bcoo", w, mask)
    indices = np.argwhere(kept).astype(np.int32)
    return sparse.BCOO(
        (jnp.asarray(w[kept]), jnp.asarray(indices)),
        shape=w.shape,
        indices_sorted=True,
        unique_indices=True,
    )


def to_bcsr(w, mask=None) -> "sparse.BCSR":
    """A masked matrix as `jax.experimental.sparse.BCSR`: values, columns, and where rows begin.

        bytes = kept * (itemsize + 4) + 4 * (rows + 1)

    On CPUs `sparse @ dense` in float32 gains from about 90 % zeros up. Like `to_bcoo` this runs on
    the host.

    Args:
      w: a matrix; flatten a kernel of more axes first: `w.reshape(-1, w.shape[-1])`.
      mask: bool, what is kept; None keeps what has a bit that is not 0.

    Returns:
      A BCSR with sorted, distinct int32 indices.

    Raises:
      TypeError: the mask is not bool.
      ValueError: the shapes differ, `w` is no matrix, or more is kept than an int32 counts.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import export
      >>> sparse = export.to_bcsr(jnp.array([[0.0, 2.0], [3.0, 0.0]]))
      >>> sparse @ jnp.ones((2, 1))
      Array([[2.],
             [3.]], dtype=float32)
    """
    from jax.experimental import sparse

    w, kept = _checked("to_bcsr", w, mask)
    if w.ndim != 2:
        raise ValueError(
            f"to_bcsr: w has the shape {w.shape}; give a matrix: w.reshape(-1, w.shape[-1])."
        )
    rows = np.count_nonzero(kept, axis=1)
    starts = np.concatenate([[0], np.cumsum(rows)])
    if starts[-1] >= _MAX_INDEX:
        raise ValueError(f"to_bcsr: {starts[-1]} values are kept, more than an int32 counts.")
    columns = np.nonzero(kept)[1]
    return sparse.BCSR(
        (
            jnp.asarray(w[kept]),
            jnp.asarray(columns.astype(np.int32)),
            jnp.asarray(starts.astype(np.int32)),
        ),
        shape=w.shape,
        indices_sorted=True,
        unique_indices=True,
    )


def _checked(what, w, mask) -> tuple[np.ndarray, np.ndarray]:
    """The array and what is kept of it, on the host."""
    w = np.asarray(w)
    if not w.ndim or max(w.shape) >= _MAX_INDEX:
        raise ValueError(f"{what}: w has the shape {w.shape}; give axes that an int32 counts.")
    if mask is None:
        return w, unsigned(w) != 0
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{what}: mask is {mask.dtype}; masks are bool arrays, True = keep.")
    if mask.shape != w.shape:
        raise ValueError(f"{what}: mask has the shape {mask.shape}, w {w.shape}; they must agree.")
    return w, mask
