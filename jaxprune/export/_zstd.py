"""Zstandard, whose frames are opened only where they hold exactly what is expected."""

import numpy as np


def _module(what: str):
    try:
        import zstandard
    except ImportError as error:
        raise ImportError(
            f"{what} needs zstandard; install it with: pip install 'jaxprune[export]'",
            name=error.name,
        ) from error
    return zstandard


def compress(data: np.ndarray, level: int) -> np.ndarray:
    """An array as one frame that names its size; bytes of the same place in an item together.

    The sign and exponent of floats are much alike and compress, once they are not interrupted by
    mantissas, which do not.
    """
    frame = _module('compress="zstd"').ZstdCompressor(level=level).compress(_planes(data))
    return np.frombuffer(frame, np.uint8)


def _planes(data: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(data.view(np.uint8).reshape(-1, data.itemsize).T)


def decompress(frame: np.ndarray, count: int, dtype: np.dtype) -> np.ndarray:
    """`count` items from a frame that claims and holds their bytes and nothing else.

    Raises:
      ValueError: the frame is broken, or holds more or fewer bytes.
    """
    zstandard = _module("this file")
    size = count * dtype.itemsize
    try:
        claimed = zstandard.get_frame_parameters(frame).content_size
        if claimed != size:
            raise ValueError(f"its frame claims {claimed} bytes, not {size}")
        data = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"its frame cannot be opened: {error}") from error
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype)
