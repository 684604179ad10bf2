"""N:M arrays as the values that are kept and where in their group they are."""

import math

import numpy as np

from jaxprune import axes
from jaxprune.export._leaf import unsigned
from jaxprune.patterns import NM


def pack_nm(w, pattern: NM, mask=None) -> tuple[np.ndarray, np.ndarray]:
    """An N:M array as its values and their places, as sparse matrix units take them.

        2:4 along the axis:  0 a 0 b  ->  values a b, indices 1 3

    Args:
      w: an array whose axis `pattern.axis` is divisible by m, at most n of each m kept.
      pattern: such as `NM(2, 4)`.
      mask: bool, what is kept; None keeps what has a bit that is not 0.

    Returns:
      (values, indices): `values` as `w`, with n in place of every m along the axis, in the order
      of the axis; `indices` uint8 of ceil(values.size * bits / 8), bits = ceil(log2(m)): the place
      of each value in its group, in row-major order of `values`, highest bit first, the rest of
      the last byte 0. A group with fewer than n is filled up with zeros at its lowest free places.

    Raises:
      ValueError: the axis does not exist or is not divisible by m; a group keeps more than n; the
        mask has another shape.

    Example:
      >>> import numpy as np
      >>> from jaxprune import NM, export
      >>> values, indices = export.pack_nm(np.array([0.0, 5.0, 0.0, 7.0]), NM(2, 4, axis=-1))
      >>> values, [f"{byte:08b}" for byte in indices]
      (array([5., 7.]), ['01110000'])
    """
    w = np.asarray(w)
    pattern.check(w.shape, "pack_nm")
    kept = unsigned(w) != 0 if mask is None else np.asarray(mask)
    if kept.dtype != bool or kept.shape != w.shape:
        raise ValueError(
            f"pack_nm: mask is {kept.dtype}{list(kept.shape)}; give a bool array of the shape "
            f"{list(w.shape)}."
        )
    groups, kept = (_groups(x, pattern.m, pattern.axis) for x in (w, kept))
    most = int(kept.sum(-1).max(initial=0))
    if most > pattern.n:
        raise ValueError(
            f"pack_nm: a group of {pattern.m} keeps {most}, more than {pattern.n}; prune with "
            f"pattern={pattern!r} first."
        )
    places = np.sort(np.argsort(~kept, axis=-1, kind="stable")[..., : pattern.n], axis=-1)
    values = np.take_along_axis(np.where(kept, groups, w.dtype.type(0)), places, -1)
    places = _joined(places, pattern.axis)
    bits = places[..., None] >> np.arange(_width(pattern))[::-1] & 1
    return _joined(values, pattern.axis), np.packbits(bits.astype(bool))


def unpack_nm(values, indices, pattern: NM) -> np.ndarray:
    """The array that `pack_nm` packed.

    Args:
      values: as from `pack_nm`.
      indices: as from `pack_nm`.
      pattern: as was given to it.

    Returns:
      An array with m in place of every n along the axis, 0 where nothing is kept.

    Raises:
      ValueError: the indices are not as many as the values need, do not rise within a group, or
        point beyond it; bits are set after the last.

    Example:
      >>> import numpy as np
      >>> from jaxprune import NM, export
      >>> indices = np.array([0b01110000], np.uint8)
      >>> export.unpack_nm(np.array([5.0, 7.0]), indices, NM(2, 4, axis=-1))
      array([0., 5., 0., 7.])
    """
    values, indices = np.asarray(values), np.asarray(indices)
    axis = axes.normalize(pattern.axis, values.ndim, "unpack_nm")
    if values.shape[axis] % pattern.n:
        raise ValueError(
            f"unpack_nm: axis {axis} of values of shape {values.shape} is not divisible by "
            f"{pattern.n}; give the pattern that they were packed with."
        )
    width = _width(pattern)
    needed = (math.ceil(values.size * width / 8),)
    if indices.dtype != np.uint8 or indices.shape != needed:
        raise ValueError(
            f"unpack_nm: indices are {indices.dtype}{list(indices.shape)}; {values.size} values "
            f"take uint8{list(needed)}."
        )
    bits = np.unpackbits(indices)
    if bits[values.size * width :].any():
        raise ValueError("unpack_nm: bits are set after the last index; the indices are damaged.")
    places = bits[: values.size * width].reshape(-1, width) @ (1 << np.arange(width)[::-1])
    places = _groups(places.reshape(values.shape), pattern.n, axis)
    if (places >= pattern.m).any() or (np.diff(places, axis=-1) <= 0).any():
        raise ValueError(
            f"unpack_nm: the indices of a group must rise and be below {pattern.m}; these are "
            "damaged, or of another pattern."
        )
    groups = np.zeros((*places.shape[:-1], pattern.m), values.dtype)
    np.put_along_axis(groups, places, _groups(values, pattern.n, axis), -1)
    return _joined(groups, axis)


def _width(pattern) -> int:
    """Bits of an index."""
    return (pattern.m - 1).bit_length()


def _groups(x, size, axis) -> np.ndarray:
    """The axis last, and cut into groups."""
    x = np.moveaxis(x, axis, -1)
    return x.reshape(*x.shape[:-1], x.shape[-1] // size, size)


def _joined(groups, axis) -> np.ndarray:
    """Back from `_groups`."""
    x = groups.reshape(*groups.shape[:-2], groups.shape[-2] * groups.shape[-1])
    return np.moveaxis(x, -1, axis)
