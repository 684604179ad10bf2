"""Bars of leaves: densities, counts and what is written beside them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import assert_inside
from matplotlib.backends.backend_agg import FigureCanvasAgg

import jaxprune
from jaxprune import oneshot
from jaxprune.analysis import plots

WEIGHTS = {"a": jnp.arange(12.0).reshape(3, 4), "b": {"kernel": jnp.arange(20.0).reshape(4, 5)}}


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
