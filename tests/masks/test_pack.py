"""Eight masks to a byte."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprune import masks


@st.composite
def arrays(draw):
    shape = draw(st.lists(st.integers(0, 18), min_size=1, max_size=3).map(tuple))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return shape, axis, draw(st.integers(0, 2**32 - 1))


@settings(max_examples=15)
@given(arrays())
@example(((3, 0), 0, 0))
def test_round_trip(case):
    shape, axis, seed = case
    mask = np.random.default_rng(seed).random(shape) < 0.5
    packed = masks.pack([mask, None], axis=axis)
    cut = list(shape)
    cut[axis] = -(-shape[axis] // 8)  # exactly ceil(n / 8) bytes
    assert packed[0].dtype == jnp.uint8
    assert packed[0].shape == tuple(cut)
    np.testing.assert_array_equal(packed[0], np.packbits(mask, axis=axis))
    unpacked = masks.unpack(packed, [np.zeros(shape, np.float32), None], axis=axis)
    assert unpacked[1] is None
    assert unpacked[0].dtype == jnp.bool_
    np.testing.assert_array_equal(unpacked[0], mask)


def test_scalars_take_a_byte():
    packed = masks.pack([jnp.array(True), jnp.array(False)])
    assert [p.tolist() for p in packed] == [[128], [0]]
    assert masks.unpack(packed, [1.0, 2.0]) == [True, False]


def test_what_make_gives_is_packed_with_params_for_the_shapes():
    params = {
        "kernel": np.arange(60, dtype=np.float32).reshape(12, 5),
        "bias": np.ones(5, np.float32),
    }
    made = masks.make(params, 0.5)
    packed = masks.pack(made)
    assert packed["bias"] is None
    assert packed["kernel"].shape == (2, 5)
    again = masks.unpack(packed, params)
    assert jax.tree.structure(again) == jax.tree.structure(made)
    np.testing.assert_array_equal(again["kernel"], made["kernel"])


def test_sharding_along_other_axes_is_kept():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
    sharding = NamedSharding(mesh, P("y", "x"))
    mask = np.random.default_rng(0).random((6, 64)) < 0.5
    column = NamedSharding(mesh, P(None, "x"))
    for spread, axis in [(column, 0), (NamedSharding(mesh, P(("x", "y"), None)), 1)]:
        held = jax.device_put(np.resize(mask, (64, 64)), spread)
        packed = jax.jit(lambda m, axis=axis: masks.pack(m, axis=axis))(held)
        assert packed.sharding.is_equivalent_to(spread, 2)
        assert packed.addressable_shards[0].data.size * 8 == held.addressable_shards[0].data.size
        unpacked = jax.jit(lambda p, m, axis=axis: masks.unpack(p, m, axis=axis))(packed, held)
        assert unpacked.sharding.is_equivalent_to(spread, 2)
        np.testing.assert_array_equal(unpacked, held)
    packed = masks.pack(jax.device_put(mask, sharding), axis=0)  # sharded along the axis itself
    np.testing.assert_array_equal(packed, np.packbits(mask, axis=0))


def test_only_bool_is_packed():
    with pytest.raises(TypeError, match="pack: enc/kernel is float32"):
        masks.pack({"enc": {"kernel": jnp.ones((2, 3))}})


@pytest.mark.parametrize(
    ("bits", "like"),
    [
        (jnp.zeros((1, 3), jnp.uint8), jnp.zeros((9, 3))),
        (jnp.zeros((2, 3), jnp.uint8), jnp.zeros((8, 3))),
        (jnp.zeros((1, 3), jnp.uint8), jnp.zeros((8, 4))),
        (jnp.zeros((1, 3), jnp.uint8), jnp.zeros((8,))),
        (jnp.zeros((1, 3), jnp.int32), jnp.zeros((8, 3))),
    ],
)
def test_bits_that_do_not_fit(bits, like):
    with pytest.raises(ValueError, match=r"unpack: enc/kernel is u?int"):
        masks.unpack({"enc": {"kernel": bits}}, {"enc": {"kernel": like}})


def test_an_axis_that_a_leaf_lacks_names_the_leaf():
    mask = {"enc": {"kernel": jnp.ones((3,), bool)}}
    with pytest.raises(ValueError, match="enc/kernel"):
        masks.pack(mask, axis=1)
    with pytest.raises(ValueError, match="enc/kernel"):
        masks.unpack({"enc": {"kernel": jnp.ones((3,), jnp.uint8)}}, mask, axis=1)
