"""The container of safetensors: eight bytes of length, a header of JSON, and the tensors' bytes.

Nothing that a file says is believed before it is checked against the size of the file.
"""

import collections
import dataclasses
import json
import math
import os
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
"""What safetensors calls the dtypes that JAX has, too."""

NAMES = {name: code for code, name in TYPES.items()}
METADATA = "__metadata__"
_MAX_HEADER = 100_000_000  # as in safetensors
_MAX_AXES = 64  # as in NumPy


def dtype_of(code: str) -> np.dtype:
    """The dtype that a code stands for."""
    return jnp.dtype(TYPES[code])


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in a file.

    Attributes:
      code: of its dtype.
      shape: of the tensor.
      begin: of its bytes, counted from the start of the file.
      nbytes: how many they are.
    """

    code: str
    shape: tuple[int, ...]
    begin: int
    nbytes: int


def chunks(tensors: dict[str, tuple[str, tuple[int, ...], np.ndarray]], metadata):
    """The bytes of a whole file, piece by piece.

    Args:
      tensors: name -> (code, shape, its bytes as uint8).
      metadata: str -> str.
    """
    header, end = {METADATA: metadata}, 0
    order = sorted(tensors, key=lambda name: -dtype_of(tensors[name][0]).itemsize)  # aligns them
    for name in order:
        code, shape, data = tensors[name]
        begin, end = end, end + data.size
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    yield from (tensors[name][2] for name in order)


def read(stream: BinaryIO) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, which cover it without gaps, and its metadata.

    Raises:
      ValueError: the file is not a whole file of safetensors.
    """
    total = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if total < 8 or length > min(total - 8, _MAX_HEADER):
        raise ValueError(f"it has {total} bytes, and a header of {length} does not fit")
    header = parse(stream.read(length), "its header")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
        raise ValueError(f"{METADATA} does not hold strings")
    start, end = 8 + length, 8 + length
    tensors = {name: _tensor(name, entry, start) for name, entry in header.items()}
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].nbytes)):
        if tensor.begin != end:
            raise ValueError(f"tensor {name!r} begins at {tensor.begin}, not at {end}")
        end += tensor.nbytes
    if end != total:
        raise ValueError(f"it has {total} bytes, but its tensors end at {end}")
    return tensors, metadata


def _tensor(name, entry, start) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r} must have dtype, shape and data_offsets alone")
    code, shape = entry["dtype"], check_shape(entry["shape"], f"tensor {name!r}")
    offsets = check_integers(entry["data_offsets"], f"data_offsets of tensor {name!r}")
    if type(code) is not str or code not in TYPES:
        raise ValueError(f"tensor {name!r} has the unknown dtype {code!r}")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * dtype_of(code).itemsize:
        raise ValueError(f"tensor {name!r}: {code}{list(shape)} does not fill bytes {offsets}")
    return Tensor(code, shape, start + offsets[0], offsets[1] - offsets[0])


def parse(text: str | bytes, what: str) -> dict[str, Any]:
    """An object of JSON in which no name stands twice."""

    def distinct(pairs):
        made = dict(pairs)
        if len(made) < len(pairs):
            ((twice, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"the name {twice!r} stands twice")
        return made

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        made = json.loads(text, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} cannot be read: {error}") from error
    if not isinstance(made, dict):
        raise ValueError(f"{what} is no JSON object")
    return made


def check_integers(value, what: str) -> tuple[int, ...]:
    """A list of whole numbers from 0 up that fit 63 bits."""
    if not isinstance(value, list) or any(type(n) is not int or not 0 <= n < 2**63 for n in value):
        raise ValueError(f"{what} is {str(value)[:80]}, not a list of whole numbers from 0 up")
    return tuple(value)


def check_shape(value, what: str) -> tuple[int, ...]:
    """A shape that an array can have."""
    shape = check_integers(value, f"the shape of {what}")
    if len(shape) > _MAX_AXES or math.prod(max(n, 1) for n in shape) >= 2**59:
        raise ValueError(f"{what}: no array has the shape {list(shape)}")
    return shape
