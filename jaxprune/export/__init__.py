"""What leaves the training program: sparse files, sparse arrays, compiled functions."""

from jaxprune.export._functions import load_function as load_function
from jaxprune.export._functions import save_function as save_function
from jaxprune.export._load import load as load
from jaxprune.export._load import load_masks as load_masks
from jaxprune.export._load import load_metadata as load_metadata
from jaxprune.export._nm import pack_nm as pack_nm
from jaxprune.export._nm import unpack_nm as unpack_nm
from jaxprune.export._save import save as save
from jaxprune.export._sizes import sizes as sizes
from jaxprune.export._sparse import to_bcoo as to_bcoo
from jaxprune.export._sparse import to_bcsr as to_bcsr

__all__ = [
    "load",
    "load_function",
    "load_masks",
    "load_metadata",
    "pack_nm",
    "save",
    "save_function",
    "sizes",
    "to_bcoo",
    "to_bcsr",
    "unpack_nm",
]
