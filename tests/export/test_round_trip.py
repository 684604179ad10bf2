"""What is saved comes back to the bit, in the structure asked for, and others can read it."""

import os

import equinox as eqx
import file_oracle
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

import jaxprune
from jaxprune import export


def identical(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


def sparse(rng, shape, density, dtype=np.float32):
    w = rng.standard_normal(shape).astype(np.float32)
    return np.where(rng.random(shape) < density, w, np.float32(0)).astype(dtype)


@pytest.mark.parametrize("compress", [None, "zstd"])
@pytest.mark.parametrize("code", file_oracle.DTYPES)
def test_every_dtype_comes_back_and_is_as_documented(tmp_path, code, compress):
    rng, dtype = np.random.default_rng(0), np.dtype(file_oracle.DTYPES[code])
    top = 2 if code == "BOOL" else 256
    words = rng.integers(0, top, (60, 7, dtype.itemsize), np.uint8)
    words[rng.random((60, 7)) < 0.8] = 0
    w = words.reshape(-1).view(dtype).reshape(60, 7)
    tree = {"w": w, "b": w[0].copy()}
    path = tmp_path / "w"
    export.save(path, tree, compress=compress)
    loaded = export.load(path)
    read, _ = file_oracle.read(path.read_bytes())
    for name, array in tree.items():
        identical(loaded[name], array)
        identical(read[name,], array)


@st.composite
def cases(draw):
    shape = draw(st.lists(st.integers(0, 9), max_size=3).map(tuple))
    density = draw(st.sampled_from([0, 0.1, 0.5, 0.9, 1]))
    return shape, density, draw(st.sampled_from([None, "zstd"])), draw(st.booleans())


@given(case=cases(), seed=st.integers(0, 1000))
def test_arrays_and_masks_come_back(tmp_path_factory, case, seed):
    shape, density, compress, masked = case
    rng = np.random.default_rng(seed)
    w = np.asarray(sparse(rng, shape, density))
    mask = np.asarray((w != 0) | (rng.random(shape) < 0.2))  # keeps some zeros, too
    tree, masks = {"a": [w, w], "b": {"c": w}}, {"a": [mask, None], "b": None}
    path = tmp_path_factory.mktemp("files") / "w"
    export.save(path, tree, masks=masks if masked else None, compress=compress)
    loaded = export.load(path, like=tree)
    jax.tree.map(identical, loaded, tree)
    found = export.load_masks(path, like=tree)
    assert found["a"][1] is None
    assert found["b"]["c"] is None
    if masked:
        identical(found["a"][0], mask)
    else:
        assert found["a"][0] is None
    arrays, stored = file_oracle.read(path.read_bytes())
    identical(arrays["a", 0], w)
    assert list(stored) == ([("a", 0)] if masked else [])


def test_odd_values_come_back_to_the_bit(tmp_path):
    words = np.zeros(100, np.uint32)
    words[:6] = [0x80000000, 0x7FC00001, 0xFFC12345, 0x7F800000, 0xFF800000, 1]
    w = words.view(np.float32)
    export.save(tmp_path / "w", {"w": w})
    identical(export.load(tmp_path / "w")["w"], w)
    assert file_oracle.description((tmp_path / "w").read_bytes())["leaves"][0].get("bits")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_the_smaller_form_is_taken(tmp_path, dtype):
    for kept in range(0, 1001, 50):
        w = np.zeros(1000, dtype)
        w[:kept] = 1
        export.save(tmp_path / "w", {"w": w})
        payload = file_oracle.header((tmp_path / "w").read_bytes())[1]
        small = 125 + kept * w.itemsize
        assert len(payload) == (small if small + 128 <= w.nbytes else w.nbytes)


def test_a_second_tensor_makes_no_file_larger(tmp_path):
    found = []
    for zeros in range(0, 1000, 25):
        w = np.ones(1000, np.float32)
        w[:zeros] = 0
        export.save(tmp_path / "w", {"layers": [{"kernel": w}]})
        found.append(os.path.getsize(tmp_path / "w"))
    assert max(found) <= found[0] + 64
    assert found[-1] < 0.5 * found[0]


def test_90_percent_zeros_take_less_than_a_seventh_and_with_zstd_a_tenth(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "w"
    w = rng.standard_normal((1000, 1000), np.float32)
    w[np.abs(w) < np.quantile(np.abs(w), 0.9)] = 0
    for bar, options in [(0.14, {}), (0.10, {"compress": "zstd"}), (0.09, {"dtype": "bfloat16"})]:
        export.save(path, {"w": w}, **options)
        assert os.path.getsize(path) <= bar * w.nbytes


def test_bfloat16_is_cast_once_and_integers_stay(tmp_path):
    w = sparse(np.random.default_rng(0), (20, 30), 0.2)
    tree = {"w": w, "n": np.arange(5), "c": np.ones(3, np.complex64)}
    export.save(tmp_path / "w", tree, dtype="bfloat16")
    loaded = export.load(tmp_path / "w")
    identical(loaded["w"], put(w).astype(jnp.bfloat16))
    identical(loaded["n"], tree["n"])
    identical(loaded["c"], tree["c"])


def test_other_readers_see_dense_leaves_as_they_are(tmp_path):
    tree = {"enc": {"bias": np.arange(5, dtype=np.float32)}, "w": np.eye(40, dtype=np.float32)}
    export.save(tmp_path / "w", tree, metadata={"step": "7"})
    tensors = load_file(tmp_path / "w")
    assert set(tensors) == {"enc/bias", "w:bits", "w:values"}
    identical(tensors["enc/bias"], tree["enc"]["bias"])
    identical(tensors["w:bits"], np.packbits(tree["w"] != 0))
    identical(tensors["w:values"], np.ones(40, np.float32))
    with safe_open(tmp_path / "w", "np") as stream:
        assert stream.metadata()["step"] == "7"
    assert export.load_metadata(tmp_path / "w") == {"step": "7"}


def test_wide_items_come_first_so_that_all_are_aligned(tmp_path):
    tree = {"a": np.ones(3, np.int8), "b": np.ones(3, np.float64), "c": np.ones(3, np.float16)}
    export.save(tmp_path / "w", tree)
    data = (tmp_path / "w").read_bytes()
    head, payload = file_oracle.header(data)
    for name, array in tree.items():
        assert (len(data) - len(payload) + head[name]["data_offsets"][0]) % array.itemsize == 0


def test_keys_with_slashes_and_lists_are_told_apart(tmp_path):
    one = [np.full(2, i, np.float32) for i in range(8)]
    tree = {
        "a/b": one[0],
        "a": {"b": one[1], "b:bits": one[2]},
        "~1": one[3],
        "é": [one[4], one[5]],
    }
    tree["a"]["c"] = {"": one[6], "jaxprune": one[7]}
    export.save(tmp_path / "w", tree)
    loaded = export.load(tmp_path / "w")
    assert list(loaded["é"]) == [0, 1]
    jax.tree.map(identical, loaded | {"é": [loaded["é"][0], loaded["é"][1]]}, tree)
    jax.tree.map(identical, export.load(tmp_path / "w", like=tree), tree)
    load_file(tmp_path / "w")


def test_a_bare_array_is_a_tree(tmp_path):
    w = np.arange(3, dtype=np.float32)
    export.save(tmp_path / "w", w)
    identical(export.load(tmp_path / "w"), w)
    identical(export.load(tmp_path / "w", like=jax.ShapeDtypeStruct((3,), jnp.float32)), w)


def test_arrays_of_numpy_in_any_order_of_bytes_and_axes(tmp_path):
    w = sparse(np.random.default_rng(0), (6, 50), 0.1)
    tree = {"t": w.T, "big": w.astype(">f4"), "every": w[:, ::2], "scalar": np.float32(3)}
    export.save(tmp_path / "w", tree)
    loaded = export.load(tmp_path / "w")
    for name, array in tree.items():
        np.testing.assert_array_equal(loaded[name], array, strict=False)
        assert loaded[name].flags.writeable
        assert loaded[name].dtype == np.float32


def test_sharded_arrays(tmp_path):
    w = sparse(np.random.default_rng(0), (16, 8), 0.1)
    mesh = jax.make_mesh((8,), ("x",))
    spread = jax.device_put(w, jax.NamedSharding(mesh, jax.P("x")))
    export.save(tmp_path / "w", {"w": spread}, masks={"w": spread != 0})
    identical(export.load(tmp_path / "w", like={"w": spread})["w"], w)


def test_nnx(tmp_path):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])

    state = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    pruned, masks = jaxprune.prune_params(state, 0.75)
    export.save(tmp_path / "w", pruned, masks=masks)
    loaded = export.load(tmp_path / "w", like=pruned)
    assert jax.tree.structure(loaded) == jax.tree.structure(pruned)
    jax.tree.map(identical, loaded, pruned)
    by_keys = export.load(tmp_path / "w")["layers"][1]["kernel"]
    identical(by_keys, loaded["layers"][1]["kernel"][...])
    found = export.load_masks(tmp_path / "w", like=pruned)
    jax.tree.map(identical, found, masks)


def test_equinox_leaves_functions_and_numbers_out(tmp_path):
    model = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
    model = (model, eqx.nn.Dropout(0.5))
    export.save(tmp_path / "w", model)
    like = jax.tree.map(lambda x: jnp.zeros_like(x) if eqx.is_array(x) else x, model)
    loaded = export.load(tmp_path / "w", like=like)
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(model), strict=True):
        if eqx.is_array(b):
            identical(a, b)
        else:
            assert a is b
    masks = export.load_masks(tmp_path / "w", like=model)
    assert jax.tree.leaves(masks) == []


def test_flax_boxes(tmp_path):
    params = {"kernel": nn.Partitioned(jnp.eye(16), names=("a", "b"))}
    export.save(tmp_path / "w", params)
    identical(export.load(tmp_path / "w")["kernel"], jnp.eye(16))
    loaded = export.load(tmp_path / "w", like=params)
    assert loaded["kernel"].names == ("a", "b")
    identical(loaded["kernel"].value, jnp.eye(16))


def test_a_node_with_keys_of_two_kinds_is_loaded_with_like(tmp_path):
    @jax.tree_util.register_pytree_with_keys_class
    class Pair(tuple):
        def tree_flatten_with_keys(self):
            keys = jax.tree_util.DictKey("b"), jax.tree_util.SequenceKey(1)
            return list(zip(keys, self, strict=True)), None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls(children)

    pair = Pair([np.zeros(2, np.float32), np.ones(2, np.float32)])
    export.save(tmp_path / "w", pair)
    jax.tree.map(identical, export.load(tmp_path / "w", like=pair), pair)
    with pytest.raises(ValueError, match="stands beside"):
        export.load(tmp_path / "w")


def test_what_is_masked_comes_back_as_zero_and_a_kept_zero_as_kept(tmp_path):
    params = {"w": np.array([-0.0, 0.0, 3.0, -0.0], np.float32)}
    masks = {"w": np.array([False, True, True, True])}
    export.save(tmp_path / "w", params, masks=masks)
    identical(export.load(tmp_path / "w")["w"], np.array([0.0, 0.0, 3.0, -0.0], np.float32))
    identical(export.load_masks(tmp_path / "w")["w"], masks["w"])
