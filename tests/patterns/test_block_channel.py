"""Blocks and channels: what is one unit, and what its score is."""

import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from pattern_oracle import expected

from jaxprune import Block, Channel, masks


def test_the_mean_of_a_ragged_block_is_over_the_weights_it_has():
    """[[1, 1, 5], [1, 1, 4], [3, 3, 2]] in 2 x 2: means 1, 4.5, 3, 2."""
    w = np.array([[1, 1, 5], [1, 1, 4], [3, 3, 2]], np.float32)
    order = [(0, 2), (2, 0), (2, 2), (0, 0)]  # a corner of each block, best first
    for kept in range(5):
        sparsity = 1 - max(kept, 1) / 4
        mask = np.asarray(masks.make({"kernel": w}, sparsity, pattern=Block((2, 2)))["kernel"])
        alive = {corner for corner in order if mask[corner]}
        assert alive == set(order[: max(kept, 1)])


def test_a_conv_kernel_is_pruned_at_each_position():
    """JaxPruner pools the first two axes: of a 3x3x64x64 kernel nothing is ever pruned."""
    w = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    mask = np.asarray(masks.make({"kernel": w}, 0.9, pattern=Block((4, 4)))["kernel"])
    blocks = mask.reshape(9, 16, 4, 16, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 16)
    assert (blocks.all(1) | ~blocks.any(1)).all()
    assert blocks.all(1).sum() == round(2304 * (1 - 0.9))
    assert len(np.unique(mask.reshape(9, -1), axis=0)) == 9


@pytest.mark.parametrize(
    "pattern", [Block((2, 3)), Block((8, 9)), Block((1, 1)), Block((3,), (0,))]
)
def test_expand_is_a_loop_over_weights(pattern):
    shape = (5, 7)
    units = np.random.default_rng(0).random(pattern.num_units(shape)) < 0.5
    lengths = {axis % 2: length for axis, length in zip(pattern.axes, pattern.shape, strict=True)}
    rows, columns = lengths.get(0, 1), lengths.get(1, 1)
    grid = units.reshape(-(-5 // rows), -(-7 // columns))
    full = np.asarray(pattern.expand(put(grid), shape))
    for i in range(5):
        for j in range(7):
            assert full[i, j] == grid[i // rows, j // columns]


@pytest.mark.parametrize("axes", [(0, 1), (3, 1)])
def test_any_two_axes(axes):
    w = np.random.default_rng(0).integers(-9, 10, (3, 4, 2, 5)).astype(np.float32)
    pattern = Block((2, 3), axes)
    mask = masks.make({"kernel": w}, 0.5, pattern=pattern)["kernel"]
    np.testing.assert_array_equal(mask, expected(pattern, [w], 0.5)[0])


def test_a_block_larger_than_the_leaf_is_the_leaf():
    pattern = Block((128, 128))
    assert pattern.num_units((3, 4)) == 1
    for alive in (True, False):
        mask = pattern.expand(jnp.full((1, 1), alive), (3, 4))
        np.testing.assert_array_equal(mask, np.full((3, 4), alive))


def test_squares_rank_channels_by_their_l2_norm():
    """(3, 3) has the larger L1 norm, (5, 0) the larger L2 norm."""
    w = np.array([[3.0, 5.0], [3.0, 0.0]], np.float32)
    mask = masks.make({"kernel": w}, 0.5, pattern=Channel(), score=jnp.square)["kernel"]
    np.testing.assert_array_equal(mask, [[False, True], [False, True]])


def test_several_axes_keep_the_layers_of_a_stack_apart():
    w = np.zeros((2, 3, 4), np.float32)
    w[0, :, 1], w[1, :, 3] = 1, 2
    mask = np.asarray(masks.make({"kernel": w}, 0.75, pattern=Channel((0, -1)))["kernel"])
    np.testing.assert_array_equal(mask, w > 0)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Block((2, 2, 2)), ValueError, "has 3 lengths for 2 axes"),
        (lambda: Block((0, 2)), ValueError, "must hold lengths of at least 1"),
        (lambda: Block((), ()), ValueError, "at least 1"),
        (lambda: Block(4), TypeError, "shape=4 must be a tuple"),
        (lambda: Block((2.0, 2)), TypeError, "must hold whole numbers"),
        (lambda: Block((2, True)), TypeError, "must hold whole numbers"),
        (lambda: Block((2, 2), axes=(0, "1")), TypeError, "axes=.* must hold whole numbers"),
        (lambda: Channel(1.0), TypeError, "axis=1.0 must be an integer or a tuple"),
        (lambda: Channel(()), TypeError, r"axis=\(\) must be an integer or a tuple"),
        (lambda: Channel(True), TypeError, "axis=True must be an integer or a tuple"),
        (lambda: Channel((0, None)), TypeError, "must be an integer or a tuple"),
    ],
)
def test_no_pattern(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (Block((2, 2), axes=(0, 2)), "for enc/kernel: axis 2 of a leaf with 2 axes"),
        (Block((2, 2), axes=(0, -2)), r"for enc/kernel: axes \(0, -2\) name an axis twice"),
        (Channel(2), "for enc/kernel: axis 2 of a leaf with 2 axes"),
        (Channel((0, -2)), "for enc/kernel: .* name an axis twice"),
    ],
)
def test_a_leaf_that_does_not_fit(pattern, message):
    with pytest.raises(ValueError, match=message):
        masks.make({"enc": {"kernel": np.ones((4, 4))}}, 0.5, pattern=pattern)


def test_patterns_are_values():
    assert Block([2, 3], [0, 1]) == Block((2, 3), (0, 1))
    assert hash(Channel([0, -1])) == hash(Channel((0, -1)))
    assert Channel(0) != Channel(1)
