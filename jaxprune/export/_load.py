"""Files of `save`, read back; a file from anywhere may be opened."""

import os
import zlib

import numpy as np

from jaxprune._tree import flatten_with_keys
from jaxprune.export import _container, _leaf
from jaxprune.export._leaf import Leaf
from jaxprune.export._save import OWN, OWN_SUM, VERSION


def load(path, like=None, *, max_bytes: int | None = None):
    """The arrays of a file that `save` wrote, identical to the bit.

    A file is data: nothing in it is run. All that it says about itself is checked before it is
    used, checksums of all arrays too, and nothing is returned unless all is well.

    Args:
      path: of the file.
      like: a tree of arrays or ShapeDtypeStructs whose structure the result gets, with the paths,
        shapes and dtypes of the file; its leaves that are no arrays are kept. None: nested dicts,
        in which the places of a list or tuple are integers.
      max_bytes: that the arrays may have in memory. A small file can hold large arrays of zeros;
        None allows 1,000 times the size of the file, and at least 1 GiB.

    Returns:
      A tree of NumPy arrays, also of bfloat16 and the like; `jax.device_put` places it.

    Raises:
      ImportError: the file is compressed and zstandard is not installed.
      OSError: the file cannot be read.
      ValueError: it is damaged, of another kind or version, larger in memory than allowed, or not
        like `like`; the message names the file and the leaf.

    Example:
      >>> import os
      >>> import numpy as np
      >>> from jaxprune import export
      >>> export.save("tree.safetensors", {"layers": [np.zeros(2), np.ones(2)]})
      >>> export.load("tree.safetensors")
      {'layers': {0: array([0., 0.]), 1: array([1., 1.])}}
      >>> export.load("tree.safetensors", like={"layers": [np.zeros(2), np.zeros(2)]})
      {'layers': [array([0., 0.]), array([1., 1.])]}
      >>> os.remove("tree.safetensors")
    """
    return _load(path, like, max_bytes, masks=False)


def load_masks(path, like=None, *, max_bytes: int | None = None):
    """The masks that `save` stored with the arrays.

    Args:
      path: of the file.
      like: as for `load`.
      max_bytes: as for `load`.

    Returns:
      A tree as from `load`: bool arrays, and None for leaves that had no mask.

    Raises:
      ImportError: as for `load`.
      OSError: as for `load`.
      ValueError: as for `load`.

    Example:
      >>> import os
      >>> import numpy as np
      >>> from jaxprune import export
      >>> params = {"bias": np.ones(1), "kernel": np.array([0.0, 0.0, 2.0])}
      >>> masks = {"bias": None, "kernel": np.array([True, False, True])}
      >>> export.save("masked.safetensors", params, masks=masks)
      >>> export.load_masks("masked.safetensors")
      {'bias': None, 'kernel': array([ True, False,  True])}
      >>> os.remove("masked.safetensors")
    """
    return _load(path, like, max_bytes, masks=True)


def load_metadata(path) -> dict[str, str]:
    """The metadata that `save` was given; no array is read.

    Args:
      path: of the file.

    Returns:
      A dict of strings.

    Raises:
      OSError: the file cannot be read.
      ValueError: as for `load`.

    Example:
      >>> import os
      >>> import numpy as np
      >>> from jaxprune import export
      >>> export.save("named.safetensors", np.ones(3), metadata={"step": "100"})
      >>> export.load_metadata("named.safetensors")
      {'step': '100'}
      >>> os.remove("named.safetensors")
    """
    with open(path, "rb") as stream, _Named(path):
        _, _, metadata = _contents(stream)
    return metadata


class _Named:
    """Adds the name of a file to what is wrong with it."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is ValueError:
            raise ValueError(f"{os.fspath(self.path)}: {error}.") from error


def _contents(stream) -> tuple[dict[str, _container.Tensor], list[Leaf], dict[str, str]]:
    """Tensors, the leaves they make up, one or two each and all of them, and metadata."""
    tensors, metadata = _container.read(stream)
    if OWN not in metadata:
        raise ValueError("it was not written by jaxprune.export.save; open it with safetensors")
    text, checksum = metadata.pop(OWN), metadata.pop(OWN_SUM, None)
    if str(zlib.crc32(text.encode(errors="replace"))) != checksum:
        raise ValueError(f"the checksum of its description under {OWN!r} differs; it is damaged")
    own = _container.parse(text, f"its description under {OWN!r}")
    if type(own.get("version")) is not int or own["version"] != VERSION:
        raise ValueError(f"its version is {own.get('version')!r}, and {VERSION} is known here")
    if set(own) != {"version", "leaves"} or not isinstance(own["leaves"], list):
        raise ValueError("its description must have version and a list of leaves alone")
    leaves = [_leaf.parse(record) for record in own["leaves"]]
    names = [leaf.tensor(part) for leaf in leaves for part in leaf.parts]
    strange = sorted(set(names) ^ set(tensors))
    if strange or len(set(names)) < len(names):
        raise ValueError(f"leaves and tensors do not belong together: {(strange or names)[:3]}")
    return tensors, leaves, metadata


def _load(path, like, max_bytes, *, masks):
    with open(path, "rb") as stream, _Named(path):
        tensors, leaves, _ = _contents(stream)
        if max_bytes is None:
            max_bytes = max(2**30, 1000 * os.fstat(stream.fileno()).st_size)
        claimed = sum(leaf.nbytes for leaf in leaves)
        if claimed > max_bytes:
            raise ValueError(
                f"its arrays take {claimed} bytes of memory, and {max_bytes} are allowed; if you "
                f"trust it, give max_bytes={claimed}"
            )

        def read(tensor):
            data = np.empty(tensor.nbytes, np.uint8)
            stream.seek(tensor.begin)
            if stream.readinto(data.data) != tensor.nbytes:
                raise ValueError("it became shorter while it was read")
            return data

        values = [
            _leaf.decode(leaf, tensors, read, masks=masks) if leaf.masked or not masks else None
            for leaf in leaves
        ]
        if like is None:
            return _nested(leaves, values)
        return _arranged(leaves, values, like, masks=masks)


def _nested(leaves, values):
    """Dicts by the keys of each leaf; a leaf without keys is the tree."""
    if len(leaves) == 1 and not leaves[0].keys:
        return values[0]
    tree: dict = {}
    for leaf, value in zip(leaves, values, strict=True):
        node = tree
        for key in leaf.keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                break
        if not leaf.keys or not isinstance(node, dict) or leaf.keys[-1] in node:
            raise ValueError(f"{leaf.name} lies in another leaf, or another in it")
        node[leaf.keys[-1]] = value
    return tree


def _arranged(leaves, values, like, *, masks):
    """The values in the structure of `like`."""
    paths, wanted, structure = flatten_with_keys(like)
    found = {leaf.name: (leaf, value) for leaf, value in zip(leaves, values, strict=True)}
    made = []
    for keys, x in zip(paths, wanted, strict=True):
        if not hasattr(x, "dtype"):
            made.append(None if masks else x)
            continue
        name = _leaf.name_of(_leaf.keys_of(keys))
        if name not in found:
            raise ValueError(f"it lacks {name!r}, which like has")
        leaf, value = found.pop(name)
        dtype = _container.dtype_of(leaf.code)
        if (leaf.shape, dtype) != (tuple(x.shape), x.dtype):
            raise ValueError(
                f"{name} is {dtype}{list(leaf.shape)}, but {x.dtype}{list(x.shape)} in like"
            )
        made.append(value)
    if found:
        raise ValueError(f"it has {next(iter(found))!r}, which like lacks")
    return structure.unflatten(made)
