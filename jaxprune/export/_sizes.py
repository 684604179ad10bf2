"""How many bytes params take in a file, format by format."""

import io
import math
from collections.abc import Sequence

import numpy as np

from jaxprune.export._leaf import name_of, unsigned
from jaxprune.export._save import arrays, file_chunks

FORMATS = ("dense", "bitmask", "bitmask zstd", "bitmask bfloat16", "npz", "csr", "bcoo")


def sizes(tree, masks=None, *, formats: Sequence[str] = FORMATS) -> dict[str, int]:
    """Bytes that a tree takes in each of several formats, exactly, without a file.

    - "dense": the arrays alone.
    - "bitmask", "bitmask zstd", "bitmask bfloat16": the file that `save` writes, as it is, with
      compress="zstd", with dtype="bfloat16".
    - "npz": the file that `numpy.savez_compressed` writes.
    - "csr": values, int32 columns and where rows begin, a leaf as a matrix of its last axis.
    - "bcoo": values and int32 indices for each axis.

    In "csr" and "bcoo" a leaf of one axis, or of which all is kept, counts dense.

    Args:
      tree: any pytree of arrays, as for `save`.
      masks: as for `save`.
      formats: those that are wanted; npz takes seconds for millions of weights.

    Returns:
      format -> bytes, in the order of `formats`.

    Raises:
      ImportError: "bitmask zstd" is wanted and zstandard is not installed.
      TypeError: as `save`.
      ValueError: a format is unknown; otherwise as `save`.

    Example:
      >>> import numpy as np
      >>> from jaxprune import export
      >>> w = np.zeros((1000, 100), np.float32)
      >>> w[:100] = 1
      >>> export.sizes({"w": w}, formats=("dense", "csr", "bcoo"))
      {'dense': 400000, 'csr': 84004, 'bcoo': 120000}
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"formats: {name!r} is unknown; choose from {', '.join(FORMATS)}.")
    found = arrays(tree, masks)
    measures = {
        "dense": lambda: sum(array.nbytes for _, array, _ in found),
        "bitmask": lambda: _file(tree, masks),
        "bitmask zstd": lambda: _file(tree, masks, compress="zstd"),
        "bitmask bfloat16": lambda: _file(tree, masks, dtype="bfloat16"),
        "npz": lambda: _npz(found),
        "csr": lambda: sum(_sparse(array, mask, _csr) for _, array, mask in found),
        "bcoo": lambda: sum(_sparse(array, mask, _bcoo) for _, array, mask in found),
    }
    return {name: measures[name]() for name in formats}


def _file(tree, masks, **options) -> int:
    return sum(memoryview(chunk).nbytes for chunk in file_chunks(tree, masks=masks, **options))


def _npz(found) -> int:
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name_of(keys): array for keys, array, _ in found})
    return stream.tell()


def _sparse(array, mask, measure) -> int:
    kept = int(np.count_nonzero(unsigned(array) if mask is None else mask))
    if array.ndim < 2 or kept == array.size:
        return array.nbytes
    return measure(array, kept)


def _csr(array, kept) -> int:
    return kept * (array.itemsize + 4) + 4 * (math.prod(array.shape[:-1]) + 1)


def _bcoo(array, kept) -> int:
    return kept * (array.itemsize + 4 * array.ndim)
