"""Functions in files: any batch, the params outside or baked in."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import export


def apply(params, x):
    return jax.nn.relu(x @ params["layers"][0]["kernel"]) @ params["layers"][1]["kernel"]


def params(width=64):
    keys = jax.random.split(jax.random.key(0), 2)
    kernels = [jax.random.normal(keys[0], (5, width)), jax.random.normal(keys[1], (width, 3))]
    return {"layers": [{"kernel": w} for w in kernels]}


close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def test_params_from_a_sparse_file_and_a_batch_of_any_size(tmp_path):
    tree = params()
    export.save(tmp_path / "params", tree)
    x = jax.ShapeDtypeStruct((1, 5), jnp.float32)
    export.save_function(tmp_path / "f", apply, tree, x, shapes=(None, "batch, ..."))
    function = export.load_function(tmp_path / "f")
    for batch in (1, 7):
        inputs = jax.random.normal(jax.random.key(batch), (batch, 5))
        loaded = export.load(tmp_path / "params", like=tree)
        close(function(loaded, inputs), apply(tree, inputs), rtol=1e-5, atol=1e-5)
    close(jax.jit(function)(loaded, inputs), apply(tree, inputs), rtol=1e-5, atol=1e-5)


def test_params_are_baked_in_where_they_are_bound(tmp_path):
    x = jnp.ones((2, 5))
    sizes = {}
    for width in (64, 512):
        tree = params(width)
        export.save_function(tmp_path / "baked", functools.partial(apply, tree), x)
        close(export.load_function(tmp_path / "baked")(x), apply(tree, x), rtol=1e-5, atol=1e-5)
        export.save_function(tmp_path / "outside", jax.jit(apply), tree, x)
        sizes[width] = [os.path.getsize(tmp_path / name) for name in ("baked", "outside")]
    assert sizes[512][0] - sizes[64][0] >= 4 * 8 * (512 - 64)
    assert abs(sizes[512][1] - sizes[64][1]) < 100


def test_platforms(tmp_path):
    export.save_function(tmp_path / "f", jnp.sin, jnp.zeros(3), platforms=("cpu", "tpu"))
    close(export.load_function(tmp_path / "f")(jnp.ones(3)), np.sin(np.ones(3)), rtol=1e-6)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="shapes has 1 entries for 2 arguments"):
        export.save_function(tmp_path / "f", apply, params(), jnp.ones((1, 5)), shapes=("b, ...",))
    state = nnx.state(nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"cannot be stored: .*Use dicts"):
        export.save_function(tmp_path / "f", lambda s: s["kernel"][...], state)
    with pytest.raises(ValueError, match=r"cannot be stored: .*string keys"):
        export.save_function(tmp_path / "f", lambda x: x[0], {0: jnp.ones(1)})
    assert os.listdir(tmp_path) == []
    for content in (b"", b"nothing of the kind"):
        (tmp_path / "none").write_bytes(content)
        with pytest.raises(ValueError, match="none: it holds no function"):
            export.load_function(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        export.load_function(tmp_path / "missing")
