"""The report: totals, what masks leave, and networks whose cost is known."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from flax import linen

import jaxprune
from jaxprune.analysis import flops, macs


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


PARAMS = {"a": {"bias": f32(6), "kernel": f32(4, 6)}, "b": {"kernel": f32(6, 3)}}
X = f32(5, 4)


def predict(params, x):
    x = jax.nn.relu(x @ params["a"]["kernel"] + params["a"]["bias"][None])
    return x @ x.T @ x @ params["b"]["kernel"]


def keep(shape, n):
    mask = np.zeros(shape, bool)
    mask.ravel()[:n] = True
    return mask


def test_rows_and_totals():
    report = flops(predict, PARAMS, X)
    assert [(r.path, r.shape, r.size, r.macs, r.kept, r.remaining) for r in report.rows] == [
        ("a/bias", (6,), 6, 0, 6, 0),
        ("a/kernel", (4, 6), 24, 120, 24, 120),
        ("b/kernel", (6, 3), 18, 90, 18, 90),
    ]
    assert report.total == report.remaining == 210
    assert report.activations == 2 * 5 * 5 * 6
    assert report.macs == 210 + 300
    assert report.flops == 2 * 510
    assert not report.masked
    assert {row.path: row.macs for row in report.rows} == macs(predict, PARAMS, X)


def test_what_masks_leave():
    masks = {"a": {"bias": None, "kernel": keep((4, 6), 7)}, "b": {"kernel": None}}
    report = flops(predict, PARAMS, X, masks=masks)
    assert [row.kept for row in report.rows] == [6, 7, 18]
    assert [row.remaining for row in report.rows] == [0, Fraction(120 * 7, 24), 90]
    assert report.remaining == 35 + 90
    assert (report.total, report.activations) == (210, 300)
    assert report.masked


def test_what_remains_is_a_fraction_where_it_is_not_whole():
    params = {"a": f32(1, 3), "b": f32(3, 1)}
    report = flops(lambda p: p["a"] @ p["b"], params, masks={"a": keep((1, 3), 1), "b": None})
    assert [row.remaining for row in report.rows] == [Fraction(2, 3), 1]
    assert report.remaining == Fraction(5, 3)


def test_what_remains_is_what_is_not_multiplied_by_zero():
    """By brute force: products of a convolution whose weight is not zero, counted by a sum."""
    rng = np.random.default_rng(0)
    params = {"kernel": put(rng.normal(size=(3, 3, 4, 8)), jnp.float32)}
    x = jnp.ones((2, 6, 6, 4))

    def function(params, x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, params["kernel"], (1, 1), "VALID", dimension_numbers=dimensions
        )

    _, masks = jaxprune.prune_params(params, 0.7)
    report = flops(function, params, x, masks=masks)
    ones = jax.tree.map(lambda m: m.astype(jnp.float32), masks)
    assert report.remaining == int(function(ones, x).sum())
    assert report.total == int(function(jax.tree.map(jnp.ones_like, ones), x).sum())


def test_empty_leaves_and_leaves_that_are_no_arrays():
    params = {"empty": f32(4, 0), "name": "relu", "rate": 0.5}
    report = flops(lambda p, x: x @ p["empty"], params, X)
    assert [(row.size, row.macs, row.remaining) for row in report.rows] == [(0, 0, 0)] * 3


def test_masks_that_do_not_fit():
    with pytest.raises(ValueError, match="the mask of b/kernel has shape"):
        flops(predict, PARAMS, X, masks={"a": None, "b": {"kernel": keep((3, 6), 2)}})


def test_table():
    text = str(flops(predict, PARAMS, X))
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["leaf", "shape", "weights", "macs"]
    assert rows[2:5] == [
        ["a/bias", "6", "6", "0"],
        ["a/kernel", "4x6", "24", "120"],
        ["b/kernel", "6x3", "18", "90"],
    ]
    assert rows[-4:] == [
        ["leaves", "48", "210"],
        ["activations", "300"],
        ["whole", "call", "48", "510"],
        ["1,020", "FLOPs,", "dense"],
    ]


def test_table_with_masks():
    masks = {"a": {"bias": None, "kernel": keep((4, 6), 7)}, "b": {"kernel": None}}
    rows = [line.split() for line in str(flops(predict, PARAMS, X, masks=masks)).splitlines()]
    assert rows[0] == ["leaf", "shape", "weights", "macs", "kept", "macs", "left"]
    assert rows[3] == ["a/kernel", "4x6", "24", "120", "7", "35"]
    assert rows[-4:-1] == [
        ["leaves", "48", "210", "31", "125"],
        ["activations", "300", "300"],
        ["whole", "call", "48", "510", "31", "425"],
    ]


def test_a_table_says_what_is_not_counted_in_full():
    def function(w, x):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x)

    assert str(flops(function, f32(4, 4), X)).endswith("\nnot counted in full: while")


class Bottleneck(linen.Module):
    """Of version 1.5: the stride is in the 3x3 convolution."""

    width: int
    stride: int

    @linen.compact
    def __call__(self, x):
        conv = partial(linen.Conv, use_bias=False)
        norm = partial(linen.BatchNorm, use_running_average=True)
        strides = (self.stride, self.stride)
        y = linen.relu(norm()(conv(self.width, (1, 1))(x)))
        y = linen.relu(norm()(conv(self.width, (3, 3), strides, padding=((1, 1), (1, 1)))(y)))
        y = norm()(conv(4 * self.width, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.width, (1, 1), strides, name="shortcut")(x))
        return linen.relu(x + y)


class ResNet50(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(64, (7, 7), (2, 2), padding=((3, 3), (3, 3)), use_bias=False)(x)
        x = linen.relu(linen.BatchNorm(use_running_average=True)(x))
        x = linen.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                x = Bottleneck(64 << stage, 2 if stage and not block else 1)(x)
        return linen.Dense(1000)(x.mean((1, 2)))


def test_resnet_50():
    """4.089 GMACs and 25.557 million weights at 224x224, as in the literature."""
    model, image = ResNet50(), f32(1, 224, 224, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    stats = variables["batch_stats"]

    def function(params, stats, x):
        return model.apply({"params": params, "batch_stats": stats}, x)

    report = flops(function, variables["params"], stats, image)
    assert sum(row.size for row in report.rows) == 25_557_032
    # Stem, stages and head, worked out layer by layer from widths and resolutions.
    assert report.total == 4_089_184_256
    assert (report.activations, report.partial) == (0, ())
    by_path = {row.path: row.macs for row in report.rows}
    assert by_path["Conv_0/kernel"] == 112 * 112 * 7 * 7 * 3 * 64
    assert by_path["Bottleneck_3/Conv_1/kernel"] == 28 * 28 * 9 * 128 * 128
    assert by_path["Bottleneck_3/shortcut/kernel"] == 28 * 28 * 256 * 512
    assert by_path["Dense_0/kernel"] == 2048 * 1000
    assert sum(n > 0 for n in by_path.values()) == 54
