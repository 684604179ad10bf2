"""Speed and bytes of each form of a model."""

import math

from jaxprune import _figure


def gains(found, path=None):
    """Draws speed and bytes of each form of a model, dense as 1.

    Args:
      found: the `Gains` that `analysis.gains` gives.
      path: file to save to, in the format of its ending; None saves nothing.

    Returns:
      The `matplotlib.figure.Figure`; no state of pyplot is touched.

    Raises:
      ImportError: matplotlib is not installed.

    Example:
      >>> from jaxprune import analysis
      >>> forms = analysis.Form("dense", 8, 8, 2.0, 1.0), analysis.Form("compact", 4, 4, 1.0, 2.0)
      >>> found = analysis.Gains("cpu", 0.5, forms, {"dense": 32, "compact": 16}, ())
      >>> figure = analysis.plots.gains(found)
      >>> [float(bar.get_width()) for bar in figure.axes[0].patches]
      [1.0, 2.0]
    """
    with _figure.figure("the plot of gains", 8, 3.2, path) as figure:
        left, right = figure.subplots(1, 2)
        dense = found.files["dense"] or 1
        _bars(left, [(f.name, f.speedup) for f in found.forms], "speed, dense = 1", "{:.2f}")
        sizes = [(name, n / dense) for name, n in found.files.items()]
        _bars(right, sizes, "bytes in a file, dense = 1", "{:.3f}")
        left.set_title(found.device, fontsize="small")
        right.set_title(f"{100 * found.sparsity:.2f} % zeros", fontsize="small")
    return figure


def _bars(axes, pairs, label, form):
    names, values = zip(*pairs, strict=True)
    colors = [_figure.REFERENCE, *[_figure.COLORS[0]] * (len(values) - 1)]
    widths = [v if math.isfinite(v) else 0 for v in values]
    bars = axes.barh(names, widths, color=colors, height=0.65)
    labels = [form.format(v) if math.isfinite(v) else "not measured" for v in values]
    axes.bar_label(bars, labels, padding=3, fontsize="small")
    axes.axvline(1, color="0.4", linewidth=0.8, linestyle=":")
    axes.invert_yaxis()
    axes.set(xlabel=label, xlim=(0, 1.2 * max(1, *widths)))
