"""Sparsity and metrics over steps: lines, bands and stages, against NumPy."""

import numpy as np
import pytest
from figures import assert_inside, named
from matplotlib.backends.backend_agg import FigureCanvasAgg

import jaxprune
from jaxprune.analysis import plots

STEPS = np.arange(0, 100, 10)
SEEDS = np.random.default_rng(0).normal(size=(4, 10))


def band(axes):
    """(step -> low, step -> high) of the one band."""
    (area,) = axes.collections
    corners = area.get_paths()[0].vertices
    edges = [{x: pick(y for at, y in corners if at == x) for x in STEPS} for pick in (min, max)]
    return [[edge[x] for x in STEPS] for edge in edges]


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
