"""A metric against sparsity: methods x levels x seeds."""

import math
from collections.abc import Mapping

import numpy as np

from jaxprune import _figure
from jaxprune._checks import check_sparsity
from jaxprune.analysis.plots._values import check_spread, host, mean_and_spread


def tradeoff(
    results,
    *,
    metric="test accuracy",
    dense=None,
    like: Mapping[str, str] | None = None,
    log=False,
    spread="range",
    path=None,
):
    """Draws a metric against sparsity, a line for each method, with error bars over seeds.

    Points are means over seeds. Where a seed is not finite there is no point, and a note says
    so. A method with one level is a marker without a line. Bars of methods at one level stand
    side by side, and so do markers without lines.

    Args:
      results: method -> {sparsity: a value, or the values of seeds}; lower or higher is better.
      metric: what the values are, for the label.
      dense: a value, or those of seeds: a dotted line, with its spread as a band.
      like: method -> the method whose colour it has, as {"wanda, 2:4": "wanda"}; its markers are
        hollow.
      log: spaces sparsities by the logarithm of the density, so that 80, 90, 95 and 98 % stand
        about as far from each other.
      spread: what bars show: "range", the lowest to the highest seed, or "std", one standard
        deviation (ddof=1) to each side of the mean.
      path: file to save to, in the format of its ending; None saves nothing.

    Returns:
      The `matplotlib.figure.Figure`; no state of pyplot is touched. Its axes can be changed, such
      as to `figure.axes[0].set_yscale("log")` for perplexities.

    Raises:
      ImportError: matplotlib is not installed.
      TypeError: results is no mapping of mappings, a method's name is no string, or values are
        traced or no numbers.
      ValueError: no results, a sparsity not in [0, 1), an unknown spread, or a name in `like` that
        is no method.

    Example:
      >>> from jaxprune.analysis import plots
      >>> found = {"magnitude": {0.8: [0.97, 0.98], 0.9: [0.95, 0.96]}, "random": {0.8: 0.9}}
      >>> figure = plots.tradeoff(found, dense=0.98, log=True)
      >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
      ['80 %', '90 %']
    """
    check_spread(spread)
    methods = {name: _checked(name, levels) for name, levels in _items(results, "results")}
    levels = sorted({level for points in methods.values() for level in points})
    if not levels:
        raise ValueError("results is empty; give {method: {sparsity: values of seeds}}.")
    looks = _looks(methods, like or {})
    asides = _asides(methods)
    place = _log_density if log else np.asarray
    entries = [*methods, *(["dense"] if dense is not None else [])]
    width = 6.5 + _figure.legend_width(entries)
    with _figure.figure("the plot of a tradeoff", width, 4, path) as figure:
        axes, unknown = figure.subplots(), []
        if dense is not None:
            mean, low, high = mean_and_spread(np.atleast_1d(host(dense, "dense")), spread)
            axes.axhline(mean, color=_figure.REFERENCE, linestyle=":", label="dense", zorder=1)
            axes.axhspan(low, high, color=_figure.REFERENCE, alpha=0.15, linewidth=0, zorder=0)
        if log:
            axes.set_xscale("function", functions=(_log_density, lambda x: 1 - 10.0**-x))
        for i, (name, points) in enumerate(methods.items()):
            at = np.array([*points])
            found = [mean_and_spread(values, spread) for values in points.values()]
            mean, low, high = np.reshape(found, (-1, 3)).T
            unknown += [f"{name} at {_percent(level)}" for level in at[np.isnan(mean)]]
            look = looks[name] | ({"linestyle": "none"} if len(at) == 1 else {})
            moved = _moved(axes, asides.get(name, 0))
            axes.plot(at, mean, label=name, transform=moved, **look)
            if any(len(values) > 1 for values in points.values()):
                if len(at) > 1 and len(methods) <= 6:
                    moved = _moved(axes, 3 * (i - (len(methods) - 1) / 2))
                bars = {"elinewidth": 1, "capsize": 2, "linestyle": "none", "zorder": 1.5}
                ends = mean - low, high - mean
                axes.errorbar(at, mean, ends, transform=moved, color=look["color"], **bars)
            # What is moved is not among what the limits are taken from.
            axes.update_datalim(np.column_stack([np.tile(at, 2), [*low, *high]]))
        axes.grid(axis="y")
        axes.set(xlabel="sparsity", ylabel=metric)
        _ticks(axes, levels, place)
        _figure.legend(axes, axes.get_legend_handles_labels()[0])
        if unknown:
            note = f"not finite, not drawn: {', '.join(unknown)}"
            figure.supxlabel(note, x=0.01, ha="left", fontsize=7.5, wrap=True)
    return figure


def _moved(axes, aside):
    """Where data are drawn, so many points to the side: data stay what they are."""
    from matplotlib.transforms import ScaledTranslation

    return axes.transData + ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)


def _asides(methods) -> dict[str, float]:
    """Points to the side, for methods of one level where there are several."""
    alone: dict[float, list[str]] = {}
    for name, points in methods.items():
        if len(points) == 1:
            alone.setdefault(next(iter(points)), []).append(name)
    middles = {level: (len(names) - 1) / 2 for level, names in alone.items()}
    step = min(8, 60 / (2 * max(middles.values(), default=0) + 1))
    return {
        name: step * (i - middles[level])
        for level, names in alone.items()
        for i, name in enumerate(names)
    }


def _looks(methods, like):
    if unknown := [name for pair in like.items() for name in pair if name not in methods]:
        raise ValueError(f"like={like!r} names {unknown[0]!r}, but methods are {[*methods]}.")
    looks = _figure.styles([name for name in methods if name not in like])
    markers = _figure.styles(methods)
    for name, other in like.items():
        if other in like:
            raise ValueError(
                f"like={like!r}: {other!r} has no colour of its own; name one that has."
            )
        color = looks[other]["color"]
        looks[name] = markers[name] | {"color": color, "markerfacecolor": "white"}
    return looks


def _items(value, name):
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}={value!r} is no mapping; give {{method: {{sparsity: values}}}}.")
    return value.items()


def _checked(name, levels) -> dict[float, np.ndarray]:
    """Sparsity -> the values of seeds, ascending."""
    found = {}
    if not isinstance(name, str):
        raise TypeError(f"results has {name!r} for a method; name methods by strings.")
    for level, values in _items(levels, f"results[{name!r}]"):
        sparsity = check_sparsity(level, "sparsity", where=f"results[{name!r}]")
        found[sparsity] = np.ravel(host(values, f"results[{name!r}][{level!r}]"))
        if not found[sparsity].size:
            raise ValueError(f"results[{name!r}][{level!r}] is empty; give the value of a seed.")
    return dict(sorted(found.items()))


def _log_density(sparsity):
    return -np.log10(np.maximum(1 - np.asarray(sparsity), 1e-12))


def _percent(sparsity) -> str:
    """With three digits of zeros or of the density, of what is less: 93.13 %, 99.875 %, 0.04 %."""
    less = 100 * min(sparsity or 1, 1 - sparsity)
    return f"{round(100 * sparsity, 2 - math.floor(math.log10(less))):.10g} %"


def _ticks(axes, levels, place):
    """A tick at each level that has room for its label, from the sparsest down."""
    x = place(levels)
    span = x[-1] - x[0]
    room = span * (_figure.width_of([*map(_percent, levels)], 9) + 0.1) / 5.2  # inches of the axis
    shown: list[int] = []
    for i in reversed(range(len(levels))):
        if not shown or x[shown[-1]] - x[i] >= room:
            shown.append(i)
    ticks = [levels[i] for i in reversed(shown)]
    axes.set_xticks(ticks, map(_percent, ticks))
    axes.minorticks_off()
    aside = 0.06 * span or 0.05
    ends = x[0] - aside, x[-1] + aside
    axes.set_xlim([1 - 10**-end for end in ends] if place is _log_density else ends)
