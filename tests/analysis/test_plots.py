"""What the plots draw: lines, bars and cells against NumPy, and all of it within the figure."""

import dataclasses
import itertools
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import jaxprune
from jaxprune import analysis, oneshot
from jaxprune.analysis import plots

STEPS = np.arange(0, 100, 10)
SEEDS = np.random.default_rng(0).normal(size=(4, 10))
WEIGHTS = {"a": jnp.arange(12.0).reshape(3, 4), "b": {"kernel": jnp.arange(20.0).reshape(4, 5)}}


def named(axes):
    return {line.get_label(): line for line in axes.lines}


def band(axes):
    """(step -> low, step -> high) of the one band."""
    (area,) = axes.collections
    corners = area.get_paths()[0].vertices
    edges = [{x: pick(y for at, y in corners if at == x) for x in STEPS} for pick in (min, max)]
    return [[edge[x] for x in STEPS] for edge in edges]


def assert_inside(figure):
    """All that is drawn lies within the figure."""
    figure.draw_without_rendering()
    box, width, height = figure.get_tightbbox(), *figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.02, box
    assert box.x1 <= width + 0.02, (box, width)
    assert box.y1 <= height + 0.02, (box, height)
    assert figure.canvas.manager is None  # pyplot does not know of it


# Training


@pytest.mark.parametrize("spread", ["range", "std"])
def test_training_draws_means_and_bands_of_seeds(spread):
    sparsity = np.linspace(0, 0.9, 10)
    figure = plots.training(STEPS, sparsity, {"loss": {"run": SEEDS}}, spread=spread)
    top, below = figure.axes
    np.testing.assert_array_equal(top.lines[0].get_ydata(), sparsity)
    line = named(below)["run"]
    np.testing.assert_array_equal(line.get_xdata(), STEPS)
    np.testing.assert_allclose(line.get_ydata(), SEEDS.mean(0))
    std = SEEDS.std(0, ddof=1)
    expected = {
        "range": (SEEDS.min(0), SEEDS.max(0)),
        "std": (SEEDS.mean(0) - std, SEEDS.mean(0) + std),
    }
    np.testing.assert_allclose(band(below), expected[spread])
    assert [axes.get_ylabel() for axes in figure.axes] == ["sparsity", "loss"]
    assert below.get_xlabel() == "step"
    assert_inside(figure)


def test_training_of_one_seed_has_no_band_and_own_steps():
    figure = plots.training(STEPS, STEPS / 100, {"loss": ([1, 2, 300], [3.0, 2.0, 1.0])})
    (line,) = figure.axes[1].lines
    np.testing.assert_array_equal(line.get_xydata(), [(1, 3), (2, 2), (300, 1)])
    assert figure.axes[1].get_xlim() == (0, 300)
    assert not figure.axes[1].collections
    assert figure.axes[0].get_legend() is figure.axes[1].get_legend() is None


@pytest.mark.parametrize("values", [(0.1, 0.2), [0.1, 0.2], np.array([0.1, 0.2])], ids=type)
def test_two_values_are_no_pair_of_steps_and_values(values):
    (line,) = plots.training([3, 7], values).axes[0].lines
    np.testing.assert_array_equal(line.get_xydata(), [(3, 0.1), (7, 0.2)])


def test_training_leaves_a_gap_where_a_seed_is_not_finite():
    values = SEEDS.copy()
    values[1, 3], values[2, 5] = np.nan, np.inf
    found = plots.training(STEPS, STEPS / 100, {"loss": values}).axes[1].lines[0].get_ydata()
    np.testing.assert_array_equal(np.isnan(found), np.isin(range(10), (3, 5)))


@pytest.mark.parametrize(
    ("values", "points"),
    [([5], [0]), ([1, 2], []), ([1, np.nan, 3, np.inf, 5, 6], [0, 2]), ([np.nan, 1], [1])],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_value_without_neighbours_is_a_point(values, points, seeds):
    steps, values = np.arange(len(values)), np.multiply.outer(range(1, seeds + 1), values)
    figure = plots.training(steps, np.zeros(len(steps)), {"loss": {"a": values}})
    (line,), bars = figure.axes[1].lines, figure.axes[1].collections
    marked = line.get_markevery() if line.get_marker() == "o" else []
    assert marked == points
    spreads = [bar.get_segments() for bar in bars if hasattr(bar, "get_segments")]
    expected = [[[at, values[0, at]], [at, values[-1, at]]] for at in points]
    if points:  # with the spread of the seeds, which a band cannot show
        np.testing.assert_array_equal(spreads, [expected])
    assert_inside(figure)


def test_a_point_is_seen():
    drawn = {}
    for value in (0.5, np.nan):
        figure = plots.training([3], [value])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        blue = np.asarray(canvas.buffer_rgba())[..., :3] == (0x00, 0x72, 0xB2)
        drawn[value == 0.5] = blue.all(-1).sum()
    assert drawn[True] > 10
    assert drawn[False] == 0


def test_training_draws_a_schedule_and_what_masks_have():
    ramp = jaxprune.linear(0.9, begin=20, end=60)
    figure = plots.training([0, 100], ramp, when=jaxprune.every(30))
    lines = named(figure.axes[0])
    np.testing.assert_array_equal(lines["masks"].get_xdata(), [0, 20, 50, 60, 100])
    expected = [0, 0, 0.9 * 30 / 40, 0.9, 0.9]
    np.testing.assert_allclose(lines["masks"].get_ydata(), expected, atol=1e-6)
    steps = lines["schedule"].get_xdata()
    np.testing.assert_allclose(
        lines["schedule"].get_ydata(), 0.9 * np.clip((steps - 20) / 40, 0, 1), atol=1e-6
    )


def test_training_begins_with_what_masks_have_by_then():
    ramp = jaxprune.linear(0.9, begin=20, end=60)
    masks = named(plots.training([55, 57], ramp, when=[20, 40, 60]).axes[0])["masks"]
    np.testing.assert_allclose(masks.get_ydata(), 0.45, atol=1e-6)
    np.testing.assert_array_equal(masks.get_xdata(), [55, 57])


def test_a_name_has_one_color_in_all_panels_and_one_entry_in_the_legend():
    runs = {"dense": SEEDS[0], "sparse": SEEDS[1]}
    figure = plots.training(
        STEPS, {"sparse": STEPS / 100}, {"loss": runs, "error": dict(reversed(runs.items()))}
    )
    colors = [{name: line.get_color() for name, line in named(a).items()} for a in figure.axes]
    assert colors[1] == colors[2]
    assert colors[0]["sparse"] == colors[1]["sparse"] != colors[1]["dense"]
    legends = [axes.get_legend() for axes in figure.axes]
    assert [text.get_text() for text in legends[0].get_texts()] == ["sparse", "dense"]
    assert legends[1] is legends[2] is None


def test_training_of_many_leaves_has_its_legend_beside_it():
    leaves = {f"encoder/layer_{i}/attention/kernel": STEPS / (100 + i) for i in range(40)}
    figure = plots.training(STEPS, leaves, {"loss": SEEDS[0]})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(leaves)
    looks = {(x.get_color(), x.get_linestyle()) for x in figure.axes[0].lines[:28]}
    assert len(looks) == 28
    assert_inside(figure)


def test_training_shades_the_stages_of_a_recipe():
    recipe = jaxprune.recipes.gmp(100)
    figure = plots.training(
        range(100), recipe.sparsity, {"loss": np.ones(100)}, when=recipe.when, stages=recipe.stages
    )
    assert [text.get_text() for text in figure.axes[0].texts] == [
        stage.name for stage in recipe.stages
    ]
    for axes in figure.axes:
        spans = [(span.get_x(), span.get_x() + span.get_width()) for span in axes.patches]
        assert spans == [(stage.begin, stage.end) for stage in recipe.stages]
    assert_inside(figure)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([], []), ValueError, r"steps has shape \(0,\); give one step or more"),
        ((0, 0.5), ValueError, r"steps has shape \(\)"),
        (([0, 1], [0.5]), ValueError, r"sparsity has shape \(1,\) at steps of shape \(2,\)"),
        (([0, 1], [0, 0], {"loss": {"a": [1.0]}}), ValueError, r"loss of a has shape \(1,\)"),
        (([0, 20, 10], [0] * 3), ValueError, r"steps must ascend, but 10 follows 20; sort by"),
        (([0, np.nan], [0] * 2), ValueError, r"steps must be finite; leave out those"),
        (
            ([0, 1], [0, 0], {"loss": {"a": ([2, 1], [0, 0])}}),
            ValueError,
            r"the steps of loss of a must ascend, but 1 follows 2",
        ),
        (([0, 1], ["x", "y"]), TypeError, r"sparsity=\['x', 'y'\] holds no numbers"),
        (([0, 1], [[0, 1], [0]]), TypeError, r"as many for one seed as not for another"),
    ],
)
def test_training_says_what_does_not_fit(arguments, error, match):
    with pytest.raises(error, match=match):
        plots.training(*arguments)


def test_an_unknown_spread():
    for draw in (plots.training, plots.tradeoff):
        arguments = ([0], [0]) if draw is plots.training else ({"a": {0.5: 1}},)
        with pytest.raises(ValueError, match=r"spread='sem' is unknown; give 'range'"):
            draw(*arguments, spread="sem")


# Layers


def counts(axes):
    return [bar.get_width() for bar in axes.containers[-1]]


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_layers_of_summary_plan_report_and_masks():
    pruned, masks = jaxprune.prune_params(WEIGHTS, 0.5, scope="global")
    kept = [int(np.sum(masks["a"])), int(np.sum(masks["b"]["kernel"]))]
    report = oneshot.Report(
        tuple(
            oneshot.LayerReport(name, (1, 1, n), n, k, 0, 0, 0, 0, 0)
            for name, n, k in zip(("a", "b/kernel"), (12, 20), kept, strict=True)
        ),
        (),
        0.0,
    )
    for found in (
        jaxprune.summary(pruned, masks),
        jaxprune.plan(WEIGHTS, 0.5, scope="global"),
        report,
        masks,
    ):
        figure = plots.layers(found)
        left, right = figure.axes
        assert labels(left) == ["a", "b/kernel"]
        np.testing.assert_allclose(counts(left), np.divide(kept, (12, 20)))
        assert counts(right) == kept
        assert [bar.get_width() for bar in right.containers[0]] == [12, 20]
        assert left.lines[0].get_xdata()[0] == sum(kept) / 32
        said = [text.get_text() for text in right.texts]
        assert said == [f"{kept[0]} of 12", f"{kept[1]} of 20"]
        assert_inside(figure)


def test_layers_of_runs_side_by_side():
    uniform = jaxprune.plan(WEIGHTS, 0.5)
    other = jaxprune.plan({"a": WEIGHTS["a"], "c": WEIGHTS["a"]}, 0.75)
    figure = plots.layers(uniform, other, names=["half", "quarter"])
    left, _ = figure.axes
    assert labels(left) == ["a", "b/kernel", "c"]
    half, quarter = left.containers
    assert [bar.get_width() for bar in half] == [0.5, 0.5]
    assert [bar.get_width() for bar in quarter] == [0.25, 0.25]
    middles = [[bar.get_y() + bar.get_height() / 2 for bar in bars] for bars in left.containers]
    np.testing.assert_allclose(middles, [[-0.2, 0.8], [0.2, 2.2]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["half", "quarter"]
    assert_inside(figure)


def test_layers_of_dense_empty_and_unknown_leaves():
    masks = {"a": None, "b": jnp.zeros((0, 4), bool), "c": jnp.zeros((2, 2), bool)}
    left, right = plots.layers(masks).axes
    assert labels(left) == ["b", "c"]
    assert counts(left) == [1, 0]  # none of no weights is pruned
    assert counts(right) == [0, 0]
    shapes = jax.eval_shape(lambda: WEIGHTS)
    left, _ = plots.layers(jaxprune.plan(shapes, 0.5, scope="global")).axes
    assert labels(left) == ["a", "b/kernel"]
    assert counts(left) == []


@pytest.mark.parametrize("leaves", [1, 80])
@pytest.mark.parametrize(
    ("kept", "end", "said"),
    [
        (2, 0.01, "; the axis ends at 1 %"),
        (9, 0.05, "; the axis ends at 5 %"),
        (20, 1, ""),
        (0, 1, ""),
        (200, 1, ""),
    ],
)
def test_densities_are_parts_of_all_weights_unless_all_are_far_below(leaves, kept, end, said):
    masks = {f"w{i}": np.arange(200) < kept for i in range(leaves)}
    figure = plots.layers(masks)
    left, _ = figure.axes
    assert left.get_xlabel() == f"density: weights kept{said}"
    np.testing.assert_allclose(left.get_xticks(), end * np.linspace(0, 1, 6))
    assert left.get_xlim()[1] == pytest.approx(end, rel=0.31)
    assert left.get_xlim()[1] > end
    assert_inside(figure)
    ends = [text.get_window_extent().x1 for text in left.texts]
    assert all(x < left.get_window_extent().x1 for x in ends)


def test_the_line_of_all_weights_leaves_numbers_legible():
    figure = plots.layers({"a": np.arange(100) < 44, "b": np.arange(100) < 52})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    left = figure.axes[0]
    (x, _), _ = left.transData.transform(left.lines[0].get_xydata())
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    box = left.texts[0].get_window_extent()
    assert box.x0 < x < box.x1
    inside = pixels[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)].astype(np.int32)
    assert np.ptp(inside, axis=-1).max() < 40  # black on white: no blue of the line


@pytest.mark.parametrize("number", [3, 80])
def test_layers_of_short_and_long_paths(number):
    masks = {f"params/encoder/layers_{i}/attention/query/kernel": np.eye(4) > 0 for i in range(80)}
    masks = dict(itertools.islice(masks.items(), number))
    figure = plots.layers(masks)
    assert_inside(figure)
    left, right = figure.axes
    assert len(right.texts) == (3 if number == 3 else 0)
    boxes = [label.get_window_extent() for label in left.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("found", "names", "error", "match"),
    [
        ([], (), ValueError, r"nothing to draw: no leaf has a mask"),
        ([{"a": None}], (), ValueError, r"nothing to draw"),
        ([{"a": np.ones((2, 2))}], (), TypeError, r"a is float64; give a Summary, a Plan, a Rep"),
        ([{"a": 3}], (), TypeError, r"a is 3; give a Summary"),
        ([{"a": np.eye(2) > 0}], ["x", "y"], ValueError, r"names=\['x', 'y'\] .* of 1"),
        ([{"a": np.eye(2) > 0}], "x", ValueError, r"names='x' must be a sequence of 1"),
    ],
)
def test_layers_says_what_does_not_fit(found, names, error, match):
    with pytest.raises(error, match=match):
        plots.layers(*found, names=names)


# Masks


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
    figure = plots.mask(jnp.asarray(mask), name="layer/kernel")
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


# Trade-offs

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.98)


def results(methods, seeds=3):
    rng = np.random.default_rng(6)
    return {f"method {i}": {s: rng.normal(size=seeds) for s in LEVELS} for i in range(methods)}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("spread", ["range", "std"])
def test_tradeoff_draws_means_and_error_bars(spread, log):
    found = results(3)
    figure = plots.tradeoff(found, metric="loss", log=log, spread=spread)
    (axes,) = figure.axes
    assert axes.get_ylabel() == "loss"
    for (name, points), bars in zip(found.items(), axes.containers, strict=True):
        values = np.array([points[s] for s in LEVELS])
        line = named(axes)[name]
        np.testing.assert_array_equal(line.get_xdata(), LEVELS)
        np.testing.assert_allclose(line.get_ydata(), values.mean(1))
        _, _, (sticks,) = bars.lines
        low, high = np.array([path[:, 1] for path in sticks.get_segments()]).T
        std = values.std(1, ddof=1)
        ends = {
            "range": (values.min(1), values.max(1)),
            "std": (values.mean(1) - std, values.mean(1) + std),
        }
        np.testing.assert_allclose((low, high), ends[spread])
    assert_inside(figure)


def test_levels_are_as_far_apart_as_the_logarithms_of_their_densities():
    figure = plots.tradeoff(results(1), log=True)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        "50 %",
        "80 %",
        "90 %",
        "95 %",
        "98 %",
    ]
    x, _ = axes.transData.transform([(s, 0) for s in LEVELS]).T
    logs = -np.log(1 - np.array(LEVELS))
    np.testing.assert_allclose(np.diff(x) / np.ptp(x), np.diff(logs) / np.ptp(logs))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("levels", "first", "last"),
    [
        ((0.5, 0.9, 0.95, 0.98, 0.99, 0.995), "50 %", "99.5 %"),
        ([1 - 0.8**i for i in range(1, 13)], None, "93.13 %"),  # rounds that prune a fifth each
        ((0.0, 2 / 3, 0.99875), "0 %", "99.875 %"),
        ((0.0004, 0.05), "0.04 %", "5 %"),
    ],
)
def test_labels_of_near_levels_do_not_touch(levels, first, last, log):
    figure = plots.tradeoff({"a": {s: s for s in levels}}, log=log)
    figure.draw_without_rendering()
    ticks = figure.axes[0].get_xticklabels()
    assert first in (None, ticks[0].get_text())
    assert ticks[-1].get_text() == last
    boxes = [label.get_window_extent() for label in ticks]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("spread", ["range", "std"])
@pytest.mark.parametrize("dense", [None, [0.0, 0.9, 0.95], [0.9, 1.7]])
def test_all_of_each_bar_and_of_the_dense_band_is_within_the_axes(dense, spread):
    found = {0.8: [0.9] * 4 + [0.5], 0.9: [0.8, 0.8, 0.8, 0.81, 0.1], 0.95: [0.5, np.nan]}
    (axes,) = plots.tradeoff({"a": found, "b": {0.9: 0.8}}, dense=dense, spread=spread).axes
    values = [np.array(v) for v in (found[0.8], found[0.9], *([dense] if dense else []))]
    if spread == "std":
        values = [v.mean() + v.std(ddof=1) * np.array([-1, 1]) for v in values]
    low, high = axes.get_ylim()
    assert low < np.concatenate(values).min()
    assert high > np.concatenate(values).max()


@pytest.mark.parametrize("seeds", [[0.1] * 3, [0.7] * 6, [-0.1] * 3])
def test_equal_seeds_have_a_mean_between_the_lowest_and_the_highest(seeds):
    found = np.array(seeds)
    assert found.mean() != found[0]  # of which a float64 mean falls out
    (axes,) = plots.tradeoff({"a": {0.9: seeds}}).axes
    assert named(axes)["a"].get_ydata() == found[0]
    _, below = plots.training([1, 2], [0, 0], {"loss": np.stack([found, found], 1)}).axes
    np.testing.assert_array_equal(below.lines[0].get_ydata(), found[0])


def test_one_seed_has_no_bars_and_one_level_no_line():
    figure = plots.tradeoff({"a": {0.5: 1.0, 0.9: [2.0]}, "2:4": {0.5: 1.5}})
    (axes,) = figure.axes
    assert not axes.containers
    lines = named(axes)
    np.testing.assert_array_equal(lines["a"].get_xydata(), [(0.5, 1), (0.9, 2)])
    assert lines["2:4"].get_linestyle() == "None"
    assert lines["2:4"].get_marker() != lines["a"].get_marker()


def test_methods_of_one_level_stand_side_by_side_in_colours_of_others():
    line = {0.5: 2.0, 0.9: 3.0}
    found = {"a": line, "b": line, "a, 2:4": {0.5: [1.5, 1.6]}, "b, 2:4": {0.5: [1.5, 1.6]}}
    figure = plots.tradeoff(found, like={"a, 2:4": "a", "b, 2:4": "b"})
    (axes,) = figure.axes
    figure.draw_without_rendering()
    lines = named(axes)
    for name in "ab":
        assert lines[f"{name}, 2:4"].get_color() == lines[name].get_color()
        assert lines[f"{name}, 2:4"].get_markerfacecolor() == "white"
        np.testing.assert_array_equal(lines[f"{name}, 2:4"].get_xydata(), [(0.5, 1.55)])
    places = [lines[n].get_transform().transform((0.5, 1.55))[0] for n in ("a, 2:4", "b, 2:4")]
    assert 7 < np.diff(places)[0] * 72 / figure.dpi < 9  # points; a marker is about 5 wide
    assert np.mean(places) == pytest.approx(axes.transData.transform((0.5, 1.55))[0])
    bars = [sticks.get_transform().transform((0.5, 1.5))[0] for _, _, (sticks,) in axes.containers]
    np.testing.assert_allclose(bars, places)
    low, high = axes.get_ylim()
    assert low < 1.5 < 3 < high


@pytest.mark.parametrize(
    ("like", "match"),
    [
        ({"c": "a"}, r"like=.* names 'c', but methods are \['a', 'b'\]"),
        ({"a": "c"}, r"names 'c', but"),
        ({"a": "b", "b": "a"}, r"'b' has no colour of its own"),
    ],
)
def test_like_names_methods_that_have_colours(like, match):
    with pytest.raises(ValueError, match=match):
        plots.tradeoff({"a": {0.5: 1}, "b": {0.5: 2}}, like=like)


def test_the_dense_reference_and_its_band():
    figure = plots.tradeoff(results(1), dense=[1.0, 2.0, 6.0])
    (axes,) = figure.axes
    assert set(named(axes)["dense"].get_ydata()) == {3.0}
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == (1.0, 6.0)


def test_a_seed_that_is_not_finite_is_said_and_not_averaged_away():
    figure = plots.tradeoff({"a": {0.5: [1.0, 2.0], 0.9: [1.0, np.nan]}, "b": {0.9: np.inf}})
    (axes,) = figure.axes
    np.testing.assert_array_equal(named(axes)["a"].get_ydata(), [1.5, np.nan])
    assert figure.get_supxlabel() == "not finite, not drawn: a at 90 %, b at 90 %"
    assert_inside(figure)


@pytest.mark.parametrize("methods", [1, 10])
def test_ten_methods_differ_and_their_legend_fits(methods):
    figure = plots.tradeoff(results(methods), dense=1.0)
    lines = [line for name, line in named(figure.axes[0]).items() if name.startswith("method")]
    looks = {(x.get_color(), x.get_marker(), x.get_linestyle()) for x in lines}
    assert len(looks) == methods
    (legend,) = figure.legends or [figure.axes[0].get_legend()]
    assert len(legend.get_texts()) == methods + 1
    assert bool(figure.legends) == (methods == 10)
    assert_inside(figure)


@pytest.mark.parametrize(
    ("found", "error", "match"),
    [
        ([1, 2], TypeError, r"results=\[1, 2\] is no mapping; give \{method: \{sparsity"),
        ({"a": 0.5}, TypeError, r"results\['a'\]=0.5 is no mapping"),
        ({1: {0.5: 0.5}}, TypeError, r"results has 1 for a method; name methods by strings"),
        ({}, ValueError, r"results is empty"),
        ({"a": {}}, ValueError, r"results is empty"),
        ({"a": {90: 1.0}}, ValueError, r"sparsity=90 for results\['a'\] .* mean 0\.9"),
        ({"a": {0.9: []}}, ValueError, r"results\['a'\]\[0\.9\] is empty"),
        ({"a": {0.9: "x"}}, TypeError, r"results\['a'\]\[0\.9\]='x' holds no numbers"),
    ],
)
def test_tradeoff_says_what_does_not_fit(found, error, match):
    with pytest.raises(error, match=match):
        plots.tradeoff(found)


# All of them

GAINS = analysis.Gains(
    "cpu",
    0.5,
    (analysis.Form("dense", 8, 8, 2.0, 1.0), analysis.Form("compact", 4, 4, 1.0, 2.5)),
    {"dense": 32, "bitmask": 20},
    (),
)
SENSITIVITY = analysis.Sensitivity(("a",), (0.5,), np.ones((1, 1)), 0.5, np.ones((1, 1), int))
DRAW = {
    "training": lambda path=None: plots.training([0, 1], [0, 0.5], path=path),
    "layers": lambda path=None: plots.layers({"a": np.eye(4) > 0}, path=path),
    "mask": lambda path=None: plots.mask(np.eye(4) > 0, path=path),
    "tradeoff": lambda path=None: plots.tradeoff({"a": {0.5: 1.0}}, path=path),
    "sensitivity": lambda path=None: plots.sensitivity(SENSITIVITY, path),
    "gains": lambda path=None: plots.gains(GAINS, path),
}


def test_gains_draws_speeds_and_shares_of_bytes():
    left, right = plots.gains(GAINS).axes
    assert [bar.get_width() for bar in left.patches] == [1.0, 2.5]
    assert [bar.get_width() for bar in right.patches] == [1.0, 20 / 32]
    assert [text.get_text() for text in right.texts] == ["1.000", "0.625"]
    assert GAINS.plot().axes[0].get_title("left") == "cpu"


def test_gains_of_what_was_not_measured_and_of_no_bytes():
    forms = GAINS.forms[0], analysis.Form("compact", 4, 4, np.nan, np.nan)
    figure = plots.gains(dataclasses.replace(GAINS, forms=forms, files={"dense": 0, "bitmask": 0}))
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["1.00", "not measured"]
    assert [bar.get_width() for bar in right.patches] == [0, 0]
    assert left.get_xlim() == right.get_xlim() == (0, 1.2)
    assert_inside(figure)


def test_every_plot_is_tested_here():
    assert set(DRAW) == set(plots.__all__)


@pytest.mark.parametrize("name", DRAW)
def test_saves_by_the_ending_and_leaves_settings_alone(name, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for ending, begin in begins.items():
        DRAW[name](tmp_path / f"one.{ending}")
        DRAW[name](str(tmp_path / f"two.{ending}"))
        one, two = ((tmp_path / f"{n}.{ending}").read_bytes() for n in ("one", "two"))
        assert one.startswith(begin)
        assert one == two  # no dates, no random names: a picture changes when what it shows does
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib_it_says_what_to_install(name, monkeypatch):
    for module in [m for m in sys.modules if m.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needs matplotlib; .*pip install 'jaxprune\[report\]'"):
        DRAW[name]()


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda x: plots.training([0, 1], x), "sparsity"),
        (lambda x: plots.training([0, 1], [0, 0], {"loss": x}), "loss"),
        (lambda x: plots.tradeoff({"a": {0.5: x}}), r"results\['a'\]\[0.5\]"),
        (lambda x: plots.tradeoff({"a": {0.5: 1}}, dense=x), "dense"),
        (lambda x: plots.mask(x > 0), "mask"),
        (lambda x: plots.layers({"a": x > 0}), "masks"),
    ],
)
def test_traced_values_are_refused(draw, what):
    with pytest.raises(TypeError, match=rf"{what} (is|are) traced and cannot be drawn; plot out"):
        jax.jit(draw)(jnp.ones(2))
