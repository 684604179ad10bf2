"""A heat map of what pruning each leaf alone costs."""

import numpy as np

from jaxprune import _figure

_FEW = 24  # so many leaves leave room for numbers in the cells


def sensitivity(found, path=None):
    """Draws a heat map: a row per leaf, a column per sparsity, the metric as colour.

    White is the dense metric. Colours are full at the 95th percentile of what differs from it, so
    that one leaf that breaks hides no other. Cells of up to 24 leaves show numbers; what is not
    finite is grey and always named.

    Args:
      found: the `Sensitivity` that `analysis.sensitivity` gives.
      path: file to save to, in the format of its ending; None saves nothing.

    Returns:
      The `matplotlib.figure.Figure`; no state of pyplot is touched.

    Raises:
      ImportError: matplotlib is not installed.

    Example:
      >>> import numpy as np
      >>> from jaxprune import analysis
      >>> found = analysis.Sensitivity(
      ...     ("w",), (0.5, 0.9), np.array([[2.0, 3.0]]), 1.5, np.array([[50, 10]])
      ... )
      >>> figure = analysis.plots.sensitivity(found)
      >>> figure.axes[0].get_xlabel()
      'sparsity of this leaf alone'
    """
    few = len(found.paths) <= _FEW
    size, height = (9, 0.3) if few else (7, 0.17)  # points; inches per row
    width = 2 + 0.6 * len(found.sparsities) + _figure.width_of(found.paths, size)
    height = 1 + height * max(len(found.paths), 8)
    with _figure.figure("the plot of a sensitivity", width, height, path) as figure:
        axes = figure.subplots()
        low, high, extend = _limits(found)
        image = axes.imshow(
            np.ma.masked_invalid(found.values), aspect="auto", cmap="RdBu_r", vmin=low, vmax=high
        )
        axes.set_facecolor("0.75")
        labels = [f"{100 * sparsity:.6g} %" for sparsity in found.sparsities]
        axes.set_xticks(range(len(labels)), labels)
        axes.set_yticks(range(len(found.paths)), found.paths, fontsize=size)
        axes.set_xlabel("sparsity of this leaf alone")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for (row, column), value in np.ndenumerate(found.values):
            if few or not np.isfinite(value):
                dark = abs(value - (low + high) / 2) > 0.35 * (high - low) and np.isfinite(value)
                text = axes.text(column, row, f"{value:#.4g}", size=size - 1, ha="center")
                text.set(va="center", color="white" if dark else "black")
        bar = figure.colorbar(image, extend=extend, extendfrac=0.02, aspect=20 if few else 50)
        bar.set_label(f"metric (dense: {found.dense:.4g})")
        bar.outline.set_visible(False)
    return figure


def _limits(found) -> tuple[float, float, str]:
    """The metric at the ends of the colours, even about the dense one, and what lies beyond."""
    finite = found.values[np.isfinite(found.values)]
    middle = found.dense
    if not np.isfinite(middle):
        middle = float(np.median(finite)) if finite.size else 0.0
    away = np.abs(finite - middle)
    most = float(np.quantile(away, 0.95) or away.max() or 1) if away.size else 1.0
    low, high = middle - most, middle + most
    sides = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    beyond = bool((finite < low).any()), bool((finite > high).any())
    return low, high, sides.get(beyond, "both")
