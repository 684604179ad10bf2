"""A heat map of what pruning each leaf alone costs."""

import numpy as np

from jaxprune import _figure

_FEW = 24  # so many leaves leave room for numbers in the cells
_FULL = 3  # colours are full at so many times the usual change


def sensitivity(found, path=None):
    """Draws a heat map: a row per leaf, a column per sparsity, the metric as colour.

    White is the dense metric, orange lies above it and violet below: whether that is better or
    worse, the metric decides. A leaf's largest change is how far any of its values is from dense;
    colours are full at three times the median of those of leaves that change, so that leaves that
    break, up to half of them, hide no other. The scale ends where the values do, if before.

    Cells of up to 24 leaves show numbers; what is not finite is grey and always named.

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
        middle, most = _scale(found)
        low, high, extend = _limits(found.values, middle, most)
        image = axes.imshow(
            np.ma.masked_invalid(found.values),
            aspect="auto",
            cmap=_colors((low - middle) / most, (high - middle) / most),
            vmin=low,
            vmax=high,
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
                dark = np.isfinite(value) and abs(value - middle) > 0.7 * most
                text = axes.text(column, row, f"{value:#.4g}", size=size - 1, ha="center")
                text.set(va="center", color="white" if dark else "black")
        bar = figure.colorbar(image, extend=extend, extendfrac=0.02, aspect=20 if few else 50)
        bar.set_label(f"metric (dense: {found.dense:.4g})")
        bar.outline.set_visible(False)
    return figure


def _scale(found) -> tuple[float, float]:
    """The metric in the middle of the colours, and how far from it they are full."""
    finite = np.isfinite(found.values)
    middle = found.dense
    if not np.isfinite(middle):
        middle = float(np.median(found.values[finite])) if finite.any() else 0.0
    away = np.abs(np.where(finite, found.values, middle) - middle).max(1, initial=0.0)
    changed = np.sort(away[away > 0])
    if not changed.size:
        return middle, 1.0
    usual = changed[(len(changed) - 1) // 2]  # the lower of two: one of two leaves may break
    return middle, float(min(changed[-1], _FULL * usual))


def _limits(values, middle, most) -> tuple[float, float, str]:
    """The metric at the ends of the colours, and on which sides values lie beyond them."""
    finite = values[np.isfinite(values)]
    lowest, highest = min([middle, *finite]), max([middle, *finite])
    low, high = max(lowest, middle - most), min(highest, middle + most)
    if low == high:  # all is dense, and a scale needs a length
        low, high = middle - most, middle + most
    sides = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    return low, high, sides.get((lowest < low, highest > high), "both")


def _colors(first, last):
    """Of those from -1 to 1, as far from white as they are from dense, the ones between two."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    shades = matplotlib.colormaps["PuOr_r"](np.linspace((first + 1) / 2, (last + 1) / 2, 257))
    return ListedColormap(shades)
