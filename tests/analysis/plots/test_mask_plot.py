"""Pictures of masks: tiles, lines between groups, densities of large ones."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from figures import assert_inside

import jaxprune
from jaxprune.analysis import plots


def drawn(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def lines_at(axes):
    """Where lines part rows, and where columns."""
    ends = [line.get_xydata() for line in axes.lines]
    rows = {a[1] for a, b in ends if a[1] == b[1]}
    columns = {a[0] for a, b in ends if a[0] == b[0]}
    return sorted(rows), sorted(columns)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), lambda m: m.reshape(1, 1)),
        ((5,), lambda m: m[None]),
        ((6, 8), lambda m: m),
        ((12, 3, 4), lambda m: m.reshape(12, 12)),  # inputs, heads, width
        ((3, 4, 12), lambda m: m.reshape(12, 12)),  # heads, width, outputs
        ((3, 3, 4, 5), lambda m: m.transpose(2, 0, 3, 1).reshape(12, 15)),
        ((2, 3, 3, 4, 5), lambda m: m.transpose(3, 0, 1, 4, 2).reshape(24, 15)),
    ],
)
def test_a_mask_as_a_matrix(shape, expected):
    mask = np.random.default_rng(1).random(shape) < 0.5
    figure = plots.mask(put(mask), name="layer/kernel")
    np.testing.assert_array_equal(drawn(figure), expected(np.asarray(mask)))
    density = 100 * np.mean(mask)
    title = f"layer/kernel: {'x'.join(map(str, shape or (1,)))}, {density:.2f} % kept"
    assert figure.get_suptitle() == title
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    assert_inside(figure)


def test_each_kernel_of_a_convolution_is_a_tile():
    mask = np.zeros((3, 2, 4, 5), bool)
    mask[:, 1, 2, 3] = True
    figure = plots.mask(mask)
    rows, columns = np.nonzero(drawn(figure))
    assert set(rows) == {6, 7, 8}
    assert set(columns) == {7}
    assert lines_at(figure.axes[0]) == ([3, 6, 9], [2, 4, 6, 8])
    assert figure.axes[0].get_ylabel() == "axes 2, 0"
    assert figure.axes[0].get_xlabel() == "axes 3, 1"


@pytest.mark.parametrize(
    ("pattern", "shape", "expected"),
    [
        (jaxprune.NM(2, 4), (12, 6), ([4, 8], [])),
        (jaxprune.NM(2, 4, axis=-1), (6, 12), ([], [4, 8])),
        (jaxprune.Block((4, 3)), (10, 6), ([4, 8], [3])),
        (jaxprune.NM(1, 2), (3, 3, 4, 2), ([3, 6, 9], [3])),
        (jaxprune.Heads(3, axis=-1), (5, 12), ([], [4, 8])),
        (jaxprune.Heads(2, axis=0), (8, 6), ([4], [])),
        (jaxprune.Heads(2, axis=-1, parts=2), (5, 12), ([], [3, 6, 9])),
        (jaxprune.Heads(3, axis=(0, -2)), (2, 6, 5), ([2, 4, 6, 8, 10], [])),
        (jaxprune.Channel(), (6, 6), ([], [])),
    ],
    ids=str,
)
def test_lines_part_the_groups_of_a_pattern(pattern, shape, expected):
    masks = jaxprune.masks.make({"kernel": jnp.ones(shape)}, 0.5, pattern=pattern)
    figure = plots.mask(masks["kernel"], pattern=pattern)
    assert lines_at(figure.axes[0]) == expected
    assert figure.get_suptitle().endswith(f", {pattern}")


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        (jaxprune.NM(2, 4, axis=-3), r"NM.* for a/kernel: axis -3 of a leaf with 2 axes"),
        (jaxprune.NM(2, 5), r"a/kernel: axis 0 of shape \(4, 6\) is not divisible by 5"),
        (jaxprune.Heads(5, axis=-1), r"a/kernel: axis 1 of shape \(4, 6\) is not divisible"),
    ],
    ids=str,
)
def test_a_pattern_that_does_not_fit_is_refused(pattern, match):
    with pytest.raises(ValueError, match=match):
        plots.mask(np.ones((4, 6), bool), name="a/kernel", pattern=pattern)
    with pytest.raises(ValueError, match="for the mask: axis"):
        plots.mask(np.ones((4, 6), bool), pattern=pattern)


def test_a_mask_is_gathered_without_a_copy_in_numbers():
    mask = np.random.default_rng(2).random((4096, 4097)) < 0.3
    tracemalloc.start()
    try:
        figure = plots.mask(mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < mask.nbytes
    cells = [[mask[i : i + 33, j : j + 33].mean() for j in (0, 4092)] for i in (0, 4092)]
    np.testing.assert_allclose(drawn(figure)[:: len(drawn(figure)) - 1, ::124], cells)


@pytest.mark.parametrize("shape", [(64, 300), (300, 64), (3, 12), (4, 300)], ids=str)
def test_the_title_of_a_mask_stands_above_its_picture(shape):
    figure = plots.mask(np.random.default_rng(5).random(shape) < 0.2)
    figure.draw_without_rendering()
    (title,) = figure.texts
    gap = title.get_window_extent().y0 - figure.axes[0].get_window_extent().y1
    assert 0 <= gap / figure.dpi < 0.25


def test_a_large_mask_is_drawn_as_densities():
    mask = np.random.default_rng(2).random((70, 33)) < 0.3
    figure = plots.mask(mask, cells=np.int64(10))
    cells = [[mask[i : i + 7, j : j + 7].mean() for j in range(0, 33, 7)] for i in range(0, 70, 7)]
    np.testing.assert_allclose(drawn(figure), cells)
    assert figure.axes[1].get_xlabel() + figure.axes[1].get_ylabel() == "density of cells of 7x7"
    assert figure.axes[0].images[0].get_clim() == (0, np.max(cells))
    assert_inside(figure)


def test_only_the_side_that_is_long_is_gathered():
    mask = np.random.default_rng(2).random((9, 40)) < 0.3
    found = drawn(plots.mask(mask, cells=10))
    np.testing.assert_allclose(found, mask.reshape(9, 10, 4).mean(2))


def test_cells_hold_whole_groups_and_tiles():
    blocks = np.kron(np.random.default_rng(3).random((20, 20)) < 0.3, np.ones((4, 4))) > 0
    figure = plots.mask(blocks, pattern=jaxprune.Block((4, 4)), cells=30)
    np.testing.assert_array_equal(drawn(figure), blocks[::4, ::4])
    kernels = np.random.default_rng(4).random((3, 3, 8, 8)) < 0.5
    figure = plots.mask(kernels, cells=8)
    np.testing.assert_allclose(drawn(figure), kernels.mean((0, 1)))


@pytest.mark.parametrize("shape", [(300,), (10, 2000), (2000, 10), (1, 1), (400, 400)], ids=str)
@pytest.mark.parametrize("name", [None, "a/long/path/of/a/leaf/" * 4 + "kernel"])
def test_masks_of_all_sides_lie_within_the_figure(shape, name):
    figure = plots.mask(np.random.default_rng(5).random(shape) < 0.2, name=name)
    assert_inside(figure)
    assert max(drawn(figure).shape) <= 128


def test_a_mask_without_true():
    figure = plots.mask(np.zeros((300, 300), bool))
    assert not drawn(figure).any()
    assert figure.axes[0].images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(
    ("mask", "cells", "error", "match"),
    [
        (np.ones((2, 2)), 9, TypeError, r"mask is float64; a mask is a bool array"),
        (np.ones((0, 2), bool), 9, ValueError, r"mask has shape \(0, 2\) and no elements"),
        (np.ones((2, 2), bool), 0, ValueError, r"cells=0 must be a whole number from 1"),
        (np.ones((2, 2), bool), True, ValueError, r"cells=True must be a whole number"),
        (np.ones((2, 2), bool), 2.0, ValueError, r"cells=2\.0 must be a whole number"),
    ],
)
def test_mask_says_what_does_not_fit(mask, cells, error, match):
    with pytest.raises(error, match=match):
        plots.mask(mask, cells=cells)
