"""A leaf in a file: all of its values, or a bit for each and the values of those that are kept."""

import dataclasses
import math
import operator
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxprune._tree import key_name
from jaxprune.export import _container, _zstd

_ESCAPES = {"~": "~0", "/": "~1", ":": "~2"}
_MAX_KEYS = 1_000
_ENTRY = 128  # about what a second tensor takes in the header
_FIELDS = {"keys", "dtype", "shape", "masked", "values"}


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What a file says about a leaf.

    Attributes:
      keys: strings and integers that lead to it from the root.
      code: of its dtype, as in safetensors.
      shape: of the array.
      masked: whether the bits are a mask that was saved with it.
      parts: "values", and "bits" unless all values are stored -> (crc32, whether in a zstd frame).
    """

    keys: tuple[str | int, ...]
    code: str
    shape: tuple[int, ...]
    masked: bool
    parts: dict[str, tuple[int, bool]]

    @property
    def name(self) -> str:
        """The keys with slashes between them."""
        return name_of(self.keys)

    @property
    def size(self) -> int:
        """How many values the array has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Of the array in memory."""
        return self.size * _container.dtype_of(self.code).itemsize

    def tensor(self, part: str) -> str:
        """The tensor that holds a part; an ordinary one is called as its leaf."""
        plain = "bits" not in self.parts and not self.parts["values"][1]
        return self.name if plain else f"{self.name}:{part}"

    def record(self) -> dict[str, Any]:
        """The leaf as JSON."""
        return {
            "keys": list(self.keys),
            "dtype": self.code,
            "shape": list(self.shape),
            "masked": self.masked,
        } | {part: {"crc32": crc, "zstd": zstd} for part, (crc, zstd) in self.parts.items()}


def name_of(keys) -> str:
    """Keys as a path, in which a slash of a key is not taken for one between keys."""
    return "/".join("".join(_ESCAPES.get(c, c) for c in str(key)) for key in keys)


def keys_of(path) -> tuple[str | int, ...]:
    """The names of the keys of a path."""
    return tuple(_plain(key_name(key)) for key in path)


def _plain(name):
    try:
        return str(name) if isinstance(name, bool) else operator.index(name)
    except TypeError:
        return str(name)


def unsigned(array: np.ndarray) -> np.ndarray:
    """The bits of each value as a whole number: fast for every dtype, and -0.0 is not 0."""
    return array.view(f"u{array.itemsize}")


def encode(array: np.ndarray, kept: np.ndarray | None) -> dict[str, np.ndarray]:
    """The parts of an array, all 1-D: the smaller form, or with bits where a mask is given."""
    flat = np.ascontiguousarray(array).reshape(-1)
    words = unsigned(flat)
    masked = kept is not None
    kept = np.ascontiguousarray(kept).reshape(-1) if masked else words != 0
    count = np.count_nonzero(kept)
    if not masked and -(-flat.size // 8) + count * flat.itemsize + _ENTRY > flat.nbytes:
        return {"values": flat}
    return {"values": np.compress(kept, words).view(flat.dtype), "bits": np.packbits(kept)}


def decode(leaf: Leaf, tensors, read: Callable, *, masks: bool) -> np.ndarray:
    """The array of a leaf, or the mask that was saved with it.

    Args:
      leaf: what the file says, checked by itself and not yet against the tensors.
      tensors: name -> where it lies.
      read: tensor -> its bytes.
      masks: the mask is wanted.

    Raises:
      ValueError: the leaf and its tensors do not belong together.
    """
    kept, shape = None, leaf.shape
    if "bits" in leaf.parts:
        bits = _part(leaf, "bits", tensors, read, "U8", (-(-leaf.size // 8),))
        if leaf.size % 8 and bits[-1] & (0xFF >> leaf.size % 8):
            raise ValueError(f"{leaf.name}: bits are set beyond the {leaf.size} of the leaf")
        kept = np.unpackbits(bits, count=leaf.size).view(bool)
        if masks:
            return kept.reshape(leaf.shape)
        shape = (int(np.count_nonzero(kept)),)
    values = _part(leaf, "values", tensors, read, leaf.code, shape)
    if leaf.code == "BOOL" and values.size and values.view(np.uint8).max() > 1:
        raise ValueError(f"{leaf.name}: a value of a bool is neither 0 nor 1")
    if kept is None:
        return values.reshape(leaf.shape)
    words = np.zeros(leaf.size, f"u{values.itemsize}")
    words[np.flatnonzero(kept)] = unsigned(values)
    return words.view(values.dtype).reshape(leaf.shape)


def _part(leaf, part, tensors, read, code, shape) -> np.ndarray:
    """One part, 1-D, after all checks that can be made."""
    crc, zstd = leaf.parts[part]
    tensor = tensors[leaf.tensor(part)]
    expected = ("U8", (tensor.nbytes,)) if zstd else (code, shape)
    if (tensor.code, tensor.shape) != expected:
        raise ValueError(
            f"{leaf.name}: its {part} are {tensor.code}{list(tensor.shape)}, where the leaf needs "
            f"{expected[0]}{list(expected[1])}"
        )
    data = read(tensor)
    if zlib.crc32(data) != crc:
        raise ValueError(f"{leaf.name}: the checksum of its {part} differs; the file is damaged")
    dtype, count = _container.dtype_of(code), math.prod(shape)
    if not zstd:
        return data.view(dtype)
    try:
        return _zstd.decompress(data, count, dtype)
    except ValueError as error:
        raise ValueError(f"{leaf.name}: its {part} cannot be unpacked: {error}") from error


def parse(record) -> Leaf:
    """A leaf from JSON, checked by itself.

    Raises:
      ValueError: it is not what `record` gives.
    """
    if not isinstance(record, dict) or not _FIELDS <= set(record) <= _FIELDS | {"bits"}:
        raise ValueError(f"a leaf must have {sorted(_FIELDS)} and may have bits, nothing else")
    keys, code = record["keys"], record["dtype"]
    if not isinstance(keys, list) or any(type(key) not in (str, int) for key in keys):
        raise ValueError(f"the keys of a leaf are {str(keys)[:80]}, not strings and integers")
    if len(keys) > _MAX_KEYS:
        raise ValueError(f"a leaf lies {len(keys)} keys deep, and {_MAX_KEYS} are allowed")
    name = name_of(keys)
    if type(code) is not str or code not in _container.TYPES:
        raise ValueError(f"{name}: the dtype {code!r} is unknown")
    shape = _container.check_shape(record["shape"], name)
    parts = {p: _check_part(record[p], f"{name}: {p}") for p in ("values", "bits") if p in record}
    masked = record["masked"]
    if type(masked) is not bool or (masked and "bits" not in parts):
        raise ValueError(f"{name}: masked={masked!r} needs bits")
    return Leaf(tuple(keys), code, shape, masked, parts)


def _check_part(value, what) -> tuple[int, bool]:
    if not isinstance(value, dict) or set(value) != {"crc32", "zstd"}:
        raise ValueError(f"{what} must have crc32 and zstd alone")
    if type(value["crc32"]) is not int or type(value["zstd"]) is not bool:
        raise ValueError(f"{what} must have a whole number as crc32, and zstd true or false")
    return value["crc32"], value["zstd"]
