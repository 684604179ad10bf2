"""Sizes are those of the files that they speak of."""

import os

import jax
import numpy as np
import pytest

import jaxprune
from jaxprune import export


def params():
    rng = np.random.default_rng(0)
    tree = {
        "conv": rng.standard_normal((3, 3, 8, 20)).astype(np.float32),
        "dense": {"kernel": rng.standard_normal((60, 50)).astype(np.float32)},
        "bias": np.zeros(50, np.float32),
    }
    return jaxprune.prune_params(tree, 0.8)


@pytest.mark.parametrize("masked", [False, True])
def test_sizes_of_files(tmp_path, masked):
    tree, masks = params()
    masks = masks if masked else None
    found = export.sizes(tree, masks)
    path = tmp_path / "w"
    for name, options in [
        ("bitmask", {}),
        ("bitmask zstd", {"compress": "zstd"}),
        ("bitmask bfloat16", {"dtype": "bfloat16"}),
    ]:
        export.save(path, tree, masks=masks, **options)
        assert found[name] == os.path.getsize(path)
    arrays = {"conv": tree["conv"], "dense/kernel": tree["dense"]["kernel"], "bias": tree["bias"]}
    np.savez_compressed(tmp_path / "w.npz", **arrays)
    assert abs(found["npz"] - os.path.getsize(tmp_path / "w.npz")) <= 64
    assert found["dense"] == 4 * (1440 + 3000 + 50)


def test_sparse_formats_are_their_arrays():
    tree, masks = params()
    found = export.sizes(tree, masks, formats=("csr", "bcoo"))
    kernels = [(tree["conv"], masks["conv"]), (tree["dense"]["kernel"], masks["dense"]["kernel"])]
    flat = [(w.reshape(-1, w.shape[-1]), m.reshape(-1, w.shape[-1])) for w, m in kernels]
    rows = [export.to_bcsr(w, m) for w, m in flat]
    places = [export.to_bcoo(w, m) for w, m in kernels]
    assert list(found) == ["csr", "bcoo"]
    assert found["csr"] == 200 + sum(x.nbytes for x in jax.tree.leaves(rows))
    assert found["bcoo"] == 200 + sum(x.nbytes for x in jax.tree.leaves(places))


def test_what_is_kept_whole_counts_dense():
    dense = {"w": np.ones((4, 4), np.float32)}
    assert export.sizes(dense, formats=("csr", "bcoo")) == {"csr": 64, "bcoo": 64}


def test_errors():
    with pytest.raises(ValueError, match="'zip' is unknown; choose from dense, bitmask"):
        export.sizes({"w": np.ones(2)}, formats=["zip"])
    with pytest.raises(ValueError, match="no arrays"):
        export.sizes({})
