"""Trees of params to one file, in which what is pruned takes a bit."""

import json
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._tree import flatten_with_keys
from jaxprune.export import _atomic, _container, _leaf, _zstd
from jaxprune.masks._apply import match

VERSION = 1
OWN, OWN_SUM = "jaxprune", "jaxprune_crc32"


def save(path, tree, *, masks=None, dtype=None, compress=None, level=1, metadata=None) -> None:
    """Writes the arrays of a tree to one file, a leaf with many zeros as bits and what is kept.

        bytes of a leaf = min(n * itemsize, ceil(n / 8) + kept * itemsize + 128)

    Where the second form saves less than its entry in the header takes, about 128 bytes, a leaf
    is an ordinary tensor.

    The file is a container of safetensors and is replaced as a whole or not at all: what raises
    leaves the old file as it was.

    Args:
      path: of the file.
      tree: any pytree of arrays on devices or of NumPy, of all dtypes that safetensors has. What is
        no array, such as a function or a number of Python in an Equinox module, is left out.
      masks: bool arrays in the tree of `tree`, None where a leaf is dense: they say what is kept
        and are stored. Without, what has a bit that is not 0 is kept, so that -0.0 and NaN come
        back as they are; below a mask -0.0 comes back as 0.0.
      dtype: to which floating leaves are cast, such as "bfloat16"; all else is exact to the bit.
      compress: None, or "zstd" (needs zstandard), which is worth a quarter of a sparse file.
      level: of zstd, 1 (fast) to 22; higher ones find little more in weights.
      metadata: str -> str, which `load_metadata` gives back.

    Raises:
      ImportError: zstandard is not installed.
      OSError: the file cannot be written.
      TypeError: a leaf holds PRNG keys, has a dtype that safetensors lacks, or no values; a mask is
        not bool; dtype is not floating; metadata holds other than strings.
      ValueError: the tree has no arrays; two leaves have one path; masks are of another tree, or
        prune weights that are not 0; an array lies on other processes' devices.

    Example:
      >>> import os
      >>> import numpy as np
      >>> from jaxprune import export
      >>> w = np.zeros((1000, 100), np.float32)
      >>> w[:100] = 1
      >>> export.save("w.safetensors", {"w": w})
      >>> print(f"{os.path.getsize('w.safetensors') / w.nbytes:.3f}")
      0.132
      >>> np.array_equal(export.load("w.safetensors")["w"], w)
      True
      >>> os.remove("w.safetensors")
    """
    chunks = file_chunks(
        tree, masks=masks, dtype=dtype, compress=compress, level=level, metadata=metadata
    )
    with _atomic.replaced(path) as stream:
        for chunk in chunks:
            stream.write(chunk)


def file_chunks(tree, *, masks=None, dtype=None, compress=None, level=1, metadata=None) -> list:
    """The bytes of the file, in pieces."""
    if compress not in (None, "zstd"):
        raise ValueError(f'compress={compress!r}; choose None or "zstd".')
    if type(level) is not int or not 1 <= level <= 22:
        raise ValueError(f"level={level!r} must be a whole number from 1 to 22.")
    metadata = _check_metadata(metadata)
    dtype = _check_dtype(dtype)
    tensors: dict[str, tuple[str, tuple[int, ...], np.ndarray]] = {}
    leaves = []
    for keys, array, mask in arrays(tree, masks):
        if dtype is not None and jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(dtype)
        leaf, parts = _stored(keys, array, mask, level if compress else None)
        leaves.append(leaf)
        tensors |= {leaf.tensor(part): tensor for part, tensor in parts.items()}
    own = {"version": VERSION, "leaves": [leaf.record() for leaf in leaves]}
    text = json.dumps(own, ensure_ascii=False, separators=(",", ":"))
    own_metadata = {OWN: text, OWN_SUM: str(zlib.crc32(text.encode()))}
    return list(_container.chunks(tensors, metadata | own_metadata))


def arrays(tree, masks) -> list[tuple[tuple, np.ndarray, np.ndarray | None]]:
    """(keys, array, mask or None) of each array of a tree, on the host."""
    paths, leaves, _ = flatten_with_keys(tree)
    found = [None] * len(leaves) if masks is None else [mask for *_, mask in match(tree, masks)]
    made, names = [], set()
    for path, leaf, mask in zip(paths, leaves, found, strict=True):
        if not hasattr(leaf, "dtype"):
            continue
        keys = _leaf.keys_of(path)
        name = _leaf.name_of(keys)
        if name in names or name == _container.METADATA:
            raise ValueError(
                f"save: a leaf cannot be called {name!r}, which is taken; rename a key."
            )
        names.add(name)
        array = _on_host(leaf, name)
        if mask is not None:
            mask = np.asarray(mask)
            _check_pruned(array, mask, name)
        made.append((keys, array, mask))
    if not made:
        raise ValueError("save: the tree has no arrays; give a pytree of params.")
    return made


def _on_host(leaf, name) -> np.ndarray:
    """An array of NumPy in the machine's byte order."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"save: {name} holds PRNG keys; save jax.random.key_data of them, or leave them out."
        )
    if np.dtype(leaf.dtype).name not in _container.NAMES:
        raise TypeError(
            f"save: {name} is {leaf.dtype}, which safetensors has no name for; cast it to one of "
            f"{', '.join(_container.NAMES)}."
        )
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"save: {name} is a {type(leaf).__name__} without values; give arrays.")
    if not getattr(leaf, "is_fully_addressable", True):
        raise ValueError(
            f"save: {name} lies on devices of other processes; gather it first, by "
            "jax.experimental.multihost_utils.process_allgather."
        )
    array = np.asarray(leaf)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_pruned(array, mask, name):
    """What a mask prunes is not stored, so it has to be 0."""
    strange = (_leaf.unsigned(array) != 0) & ~mask
    number = np.count_nonzero(array[strange] != 0) if strange.any() else 0  # -0.0 is 0 here
    if number:
        raise ValueError(
            f"save: {number} weights of {name} that its mask prunes are not 0 and would be lost; "
            "apply the masks first: jaxprune.apply_masks(params, masks)."
        )


def _stored(keys, array, mask, level):
    """(what the file says about an array, part -> (code, shape, bytes))."""
    encoded = _leaf.encode(array, mask)
    parts, sums = {}, {}
    for part, flat in encoded.items():
        shape = array.shape if len(encoded) == 1 else flat.shape
        stored = _container.NAMES[flat.dtype.name], shape, flat.view(np.uint8)
        if level and flat.size:
            frame = _zstd.compress(flat, level)
            if frame.size < flat.nbytes:
                stored = "U8", frame.shape, frame
        parts[part] = stored
        sums[part] = zlib.crc32(stored[2].data), stored[2].size < flat.nbytes
    code = _container.NAMES[array.dtype.name]
    return _leaf.Leaf(keys, code, array.shape, mask is not None, sums), parts


def _check_metadata(metadata) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping) or any(
        not isinstance(text, str) for pair in metadata.items() for text in pair
    ):
        raise TypeError(f"metadata={metadata!r} must map strings to strings.")
    for name in (OWN, OWN_SUM):
        if name in metadata:
            raise ValueError(f"metadata: the name {name!r} is taken; choose another.")
    return dict(metadata)


def _check_dtype(dtype):
    if dtype is None:
        return None
    made = jnp.dtype(dtype)
    if not jnp.issubdtype(made, jnp.floating) or made.name not in _container.NAMES:
        known = [n for n in _container.NAMES if jnp.issubdtype(jnp.dtype(n), jnp.floating)]
        raise TypeError(f"dtype={dtype!r} must be one of {', '.join(known)}.")
    return made
