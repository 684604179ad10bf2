"""Pictures of docs/results.md."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks import files


def tradeoff(path, series, *, dense, metric, title):
    """A metric over sparsity, with bars from the lowest seed to the highest.

    Args:
      path: of the picture, an SVG.
      series: method -> {sparsity: a figure for each seed}.
      dense: the same figures of the dense network, or none.
      metric, title: text.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    levels = sorted({level for found in series.values() for level in found})
    for i, (name, found) in enumerate(series.items()):
        x = [-np.log(1 - level) for level in found]
        mean, low, high = (np.array([f(v) for v in found.values()]) for f in (np.mean, min, max))
        style = {"marker": "osD^v"[i % 5], "markersize": 4, "capsize": 2, "linewidth": 1}
        axes.errorbar(x, mean, (mean - low, high - mean), label=name, color=f"C{i % 10}", **style)
    if dense:
        axes.axhline(np.mean(dense), color="0.6", linestyle=":", label="dense")
    axes.set_xticks([-np.log(1 - x) for x in levels], [f"{100 * x:.4g}" for x in levels])
    axes.set(xlabel="sparsity, % (spaced by what is left)", ylabel=metric, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right upper", fontsize="small")
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})  # the same from the same data
    files.write(path, text.getvalue())
