"""Heads: which weights are one head, in every layout of attention."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import Channel, Heads, masks

EMBED, HEADS, DIM = 5, 4, 3


def kernels(strength):
    """One kernel (embed, heads, dim) of whole numbers, whose heads rank by `strength`."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 3, (EMBED, HEADS, DIM)).astype(np.float32)
    return noise + 10 * np.asarray(strength, np.float32)[:, None]


STRENGTH = [2, 4, 1, 3]  # at half sparsity heads 1 and 3 are kept
KEPT = np.array([False, True, False, True])


@pytest.mark.parametrize(
    ("layout", "pattern"),
    [
        (lambda w: w, Heads(HEADS, axis=-2)),
        (lambda w: w.transpose(1, 2, 0), Heads(HEADS, axis=-3)),
        (lambda w: w.reshape(EMBED, -1), Heads(HEADS, axis=-1)),
        (lambda w: w.transpose(1, 2, 0).reshape(-1, EMBED), Heads(HEADS, axis=-2)),
        (lambda w: np.concatenate([w.reshape(EMBED, -1)] * 3, -1), Heads(HEADS, -1, parts=3)),
        (lambda w: np.stack([w] * 3, 2).reshape(EMBED, -1), Heads(HEADS, axis=-1)),
    ],
    ids=["qkv", "out", "fused", "fused out", "q then k then v", "head by head"],
)
def test_layouts_of_attention(layout, pattern):
    """The mask is what the same layout makes of a mask of heads."""
    made = masks.make({"kernel": layout(kernels(STRENGTH))}, 0.5, pattern=pattern)["kernel"]
    heads = np.broadcast_to(KEPT[:, None], (EMBED, HEADS, DIM))
    np.testing.assert_array_equal(made, layout(heads))


def test_a_head_is_judged_by_all_of_its_parts():
    """Queries alone would keep head 0; with keys and values head 1 is the stronger."""
    w = np.array([[3, 0, 0, 2, 0, 2]] * 2, np.float32)  # q0 q1 k0 k1 v0 v1
    made = masks.make({"kernel": w}, 0.5, pattern=Heads(2, axis=-1, parts=3))["kernel"]
    np.testing.assert_array_equal(made, [[False, True] * 3] * 2)


def test_layers_of_a_stack_have_heads_of_their_own():
    stack = np.stack([kernels([4, 3, 2, 1]), kernels([1, 2, 3, 4])])
    made = np.asarray(masks.make({"kernel": stack}, 0.5, pattern=Heads(4, (0, -2)))["kernel"])
    np.testing.assert_array_equal(made[0, 0, :, 0], [True, True, False, False])
    np.testing.assert_array_equal(made[1, 0, :, 0], [False, False, True, True])


def test_one_index_for_each_head_is_a_channel():
    w = kernels(STRENGTH)
    heads = masks.make({"kernel": w}, 0.25, pattern=Heads(HEADS, axis=1))
    channels = masks.make({"kernel": w}, 0.25, pattern=Channel(1))
    np.testing.assert_array_equal(heads["kernel"], channels["kernel"])


@pytest.mark.parametrize(
    "pattern", [Channel((-1, 0)), Heads(2, -1), Heads(2, (2, 1), parts=3), Heads(3, (2, 0))]
)
def test_units_are_indices_of_axes_of_the_view(pattern):
    shape = (3, 6, 4)
    view, axes = pattern.view(shape)
    order = np.argsort(axes)
    ids = np.arange(pattern.num_units(shape)).reshape([view[axes[i]] for i in order])
    ids = ids.reshape([n if a in axes else 1 for a, n in enumerate(view)])
    numbers = jnp.arange(pattern.num_units(shape))
    want = np.broadcast_to(ids, view).reshape(shape)
    np.testing.assert_array_equal(pattern.expand(numbers, shape), want)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Heads(0, -1), ValueError, "Heads: num_heads=0 must be at least 1"),
        (lambda: Heads(8, -1, parts=-3), ValueError, "Heads: parts=-3 must be at least 1"),
        (lambda: Heads(8.0, -1), TypeError, "Heads: num_heads=8.0 must be a whole number"),
        (lambda: Heads(8, -1, parts=True), TypeError, "parts=True must be a whole number"),
        (lambda: Heads(8, None), TypeError, "Heads: axis=None must be an integer or a tuple"),
        (lambda: Heads(8, ()), TypeError, r"Heads: axis=\(\) must be an integer or a tuple"),
    ],
)
def test_no_heads(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (Heads(2, 3), "for att/kernel: axis 3 of a leaf with 2 axes"),
        (Heads(2, (1, -1)), "for att/kernel: .* name an axis twice"),
        (Heads(5, -1), r"axis 1 of shape \(4, 12\) is not divisible by parts \* num_heads = 5"),
        (Heads(4, -1, parts=2), r"num_heads = 8. Give .* Rule\('att/kernel', pattern=...\)"),
    ],
)
def test_a_leaf_that_does_not_fit(pattern, message):
    with pytest.raises(ValueError, match=message):
        masks.make({"att": {"kernel": np.ones((4, 12))}}, 0.5, pattern=pattern)


def test_heads_are_values():
    assert Heads(4, [0, -1]) == Heads(4, (0, -1))
    assert hash(Heads(4, [0, -1])) == hash(Heads(4, (0, -1)))
    assert Heads(4, -1) != Heads(4, -2)
    assert str(Heads(4, -1)) == "4 heads axis -1"
    assert str(Heads(4, (0, -1), parts=3)) == "4 heads axis (0, -1) parts 3"
