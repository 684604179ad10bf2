"""The layout of docs/export.md, read and rewritten with code of its own."""

import json
import math
import zlib

import ml_dtypes
import numpy as np
import safetensors
import zstandard

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "C64": np.complex64,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def header(data):
    """The header of a file as JSON, and the bytes after it."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def description(data):
    return json.loads(header(data)[0]["__metadata__"]["jaxprune"])


def rebuilt(head, payload):
    """A file of a header and bytes."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + payload


def described(head, own, payload):
    """A file whose description is replaced, its checksum too."""
    text = own if isinstance(own, str) else json.dumps(own)
    head["__metadata__"]["jaxprune"] = text
    head["__metadata__"]["jaxprune_crc32"] = str(zlib.crc32(text.encode()))
    return rebuilt(head, payload)


def read(data):
    """Keys -> array, and keys -> mask, tensors taken apart by the safetensors library."""
    tensors = {name: bytes(entry["data"]) for name, entry in safetensors.deserialize(data)}
    arrays, masks = {}, {}
    for leaf in description(data)["leaves"]:
        keys, n, dtype = tuple(leaf["keys"]), math.prod(leaf["shape"]), DTYPES[leaf["dtype"]]
        name = "/".join(
            str(key).replace("~", "~0").replace("/", "~1").replace(":", "~2") for key in keys
        )
        plain = "bits" not in leaf and not leaf["values"]["zstd"]

        def part(kind, size, leaf=leaf, name=name, plain=plain):
            stored = tensors.pop(name if plain else f"{name}:{kind}")
            assert zlib.crc32(stored) == leaf[kind]["crc32"]
            if not leaf[kind]["zstd"]:
                return stored
            raw = zstandard.ZstdDecompressor().decompress(stored)
            count = len(raw) // size
            return bytes(raw[i + j * count] for i in range(count) for j in range(size))

        kept = [True] * n
        if "bits" in leaf:
            bits = part("bits", 1)
            kept = [bool(bits[i // 8] >> (7 - i % 8) & 1) for i in range(n)]
        values = iter(np.frombuffer(part("values", np.dtype(dtype).itemsize), dtype))
        flat = np.zeros(n, dtype) if n == 0 else np.frombuffer(bytes(n * dtype(0).nbytes), dtype)
        flat = flat.copy()
        for i in range(n):
            if kept[i]:
                flat[i] = next(values)
        assert not list(values)
        arrays[keys] = flat.reshape(leaf["shape"])
        if leaf["masked"]:
            masks[keys] = np.array(kept, bool).reshape(leaf["shape"])
    assert not tensors
    return arrays, masks
