"""Accuracy over sparsity: means, bars and labels, against NumPy."""

import itertools

import numpy as np
import pytest
from figures import assert_inside, named

from jaxprune.analysis import plots

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
