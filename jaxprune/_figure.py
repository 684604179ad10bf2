"""One look for all figures: matplotlib with a style of its own, global settings left alone."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxprune._table import missing

# Colours that people tell apart who see red and green alike: Okabe and Ito, without yellow.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", "-.", ":")
PALE = "#ececec"  # what is pruned, or all there is
REFERENCE = "#888888"  # dense, and other things to compare with
SHADES = ("#f4f4f4", "#e3eef7", "#e6f3e6")  # of stages
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "savefig.dpi": 120,
    "svg.hashsalt": "jaxprune",  # the same figure is the same file
}


@contextlib.contextmanager
def figure(what: str, width: float, height: float, path=None) -> Iterator[Any]:
    """An empty figure in the style; saved to `path` at the end, where there is one.

    Args:
      what: what is drawn, for the message where matplotlib is missing.
      width, height: in inches.
      path: file to save to, in the format of its ending; None saves nothing.

    Raises:
      ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("matplotlib", what, error) from error
    with matplotlib.rc_context(STYLE):
        new = Figure((width, height), layout="constrained")
        yield new
        if path is not None:
            dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
            ending = "." + str(path).rpartition(".")[2].lower()
            new.savefig(path, metadata=dates.get(ending))


def styles(names) -> dict[str, dict[str, str]]:
    """Name -> color, marker and linestyle, in which no two of 70 are alike."""
    looks = zip(
        itertools.cycle(COLORS),
        itertools.cycle(MARKERS),
        itertools.cycle(itertools.chain(*([line] * len(COLORS) for line in LINES))),
        strict=False,
    )
    keys = ("color", "marker", "linestyle")
    pairs = zip(dict.fromkeys(names), looks, strict=False)
    return {name: dict(zip(keys, look, strict=True)) for name, look in pairs}


def width_of(labels: Sequence[str], size: float) -> float:
    """Inches that the longest label takes: characters are about 0.6 of their size wide."""
    return 0.6 * size / 72 * max(map(len, labels), default=0)


def legend_width(names: Sequence[str]) -> float:
    """Inches that a figure has to be wider for its `legend`."""
    return _columns(names) * (0.6 + width_of(names, 8.5))


def legend(axes, handles) -> None:
    """A legend: inside the axes while it is small, else on the right of the figure."""
    if columns := _columns(handles):
        axes.figure.legend(handles=handles, loc="outside right upper", ncols=columns)
    elif handles:
        axes.legend(handles=handles)


def _columns(entries) -> int:
    return -(-len(entries) // 24) if len(entries) > 6 else 0


def percent_axis(axis) -> None:
    """Fractions, labelled as percentages."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1, symbol=" %"))


def sparsity_axis(axes) -> None:
    """The y axis of a fraction of zeros."""
    axes.set(ylabel="sparsity", ylim=(-0.04, 1.04))
    percent_axis(axes.yaxis)


def schedule(axes, steps, sparsity, events) -> None:
    """A schedule over the steps, and what masks have: its values at events."""
    past = [event for event in events if event <= steps[0]][-1:]
    events = [event for event in events if steps[0] < event <= steps[-1]]
    values = [float(sparsity(event)) for event in [*past, *events]]
    values = values if past else [0.0, *values]
    curve = np.broadcast_to(np.asarray(sparsity(steps)), steps.shape)
    axes.plot(steps, curve, color=REFERENCE, linewidth=1, label="schedule")
    at = [steps[0], *events, steps[-1]]
    axes.step(at, [*values, values[-1]], where="post", color=COLORS[0], label="masks")
    axes.legend(loc="lower right")


def shade(panels, stages) -> None:
    """Stages, which have a name, a begin and an end, as backgrounds; named above the first."""
    for stage, color in zip(stages, itertools.cycle(SHADES), strict=False):
        for axes in panels:
            axes.axvspan(stage.begin, stage.end, color=color, linewidth=0, zorder=0)
        panels[0].annotate(
            stage.name,
            ((stage.begin + stage.end) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
        )
