"""Sparsity and metrics over the steps of a run."""

from collections.abc import Mapping

import numpy as np

from jaxprune import _figure
from jaxprune.analysis.plots._values import check_spread, host, mean_and_spread
from jaxprune.schedules import resolve_events


def training(steps, sparsity, metrics=None, *, when=None, stages=(), spread="range", path=None):
    """Draws sparsity over the steps, and a panel below for each metric.

    A series is an array of a value per step, or of shape [seeds, steps]: then a line is the mean
    over seeds, with a band. A tuple of two arrays, (steps, values), has steps of its own. A
    mapping name -> series gives several lines, of runs or of leaves; a name has the same colour
    in all panels. Values that are not finite leave a gap; a value between two gaps is a point.

    Args:
      steps: ascending steps [T]; a step may come twice.
      sparsity: a series, a mapping of them, or a schedule: drawn with what masks have, its values
        at the events.
      metrics: name -> series or mapping of them.
      when: the events of a schedule, as in `prune`.
      stages: those of a `recipes.Recipe`, drawn as backgrounds.
      spread: what a band shows: "range", the lowest to the highest seed, or "std", one standard
        deviation (ddof=1) to each side of the mean.
      path: file to save to, in the format of its ending; None saves nothing.

    Returns:
      The `matplotlib.figure.Figure`; no state of pyplot is touched.

    Raises:
      ImportError: matplotlib is not installed.
      TypeError: values are traced, or no numbers.
      ValueError: no steps, steps that do not ascend, a series of another length, an unknown
        spread, or events that the schedule does not give.

    Example:
      >>> import jaxprune
      >>> from jaxprune.analysis import plots
      >>> figure = plots.training(
      ...     [0, 50, 100],
      ...     jaxprune.linear(0.9, begin=0, end=50),
      ...     {"accuracy": {"dense": [0.1, 0.8, 0.9], "90 %": [[0.1, 0.7, 0.9], [0.1, 0.8, 0.8]]}},
      ... )
      >>> [axes.get_ylabel() for axes in figure.axes]
      ['sparsity', 'accuracy']
    """
    check_spread(spread)
    steps = host(steps, "steps")
    if steps.ndim != 1 or not steps.size:
        raise ValueError(f"steps has shape {steps.shape}; give one step or more, as [T].")
    _check_ascending(steps, "steps")
    panels = {name: _lines(name, series, steps) for name, series in (metrics or {}).items()}
    scheduled = callable(sparsity)
    top = {} if scheduled else _lines("sparsity", sparsity, steps)
    looks = _figure.styles([name for lines in (top, *panels.values()) for name in lines if name])
    height = 1.9 + 2.1 * len(panels)
    width = 7 + _figure.legend_width([*looks])
    with _figure.figure("the plot of a training", width, height, path) as figure:
        axes = figure.subplots(1 + len(panels), sharex=True, squeeze=False)[:, 0]
        if scheduled:
            events = resolve_events(when, sparsity).all()
            even = np.linspace(steps[0], steps[-1], 1000).astype(int)
            _figure.schedule(axes[0], np.unique([*even, *steps.astype(int)]), sparsity, events)
        _figure.sparsity_axis(axes[0])
        handles = _draw(axes[0], top, looks, spread, drawstyle="steps-post")
        for below, (name, lines) in zip(axes[1:], panels.items(), strict=True):
            handles = _draw(below, lines, looks, spread) | handles
            below.set_ylabel(name)
        for panel in axes:
            panel.grid(axis="y")
        if handles:
            first = next(panel for panel in axes if {*panel.lines} & {*handles.values()})
            _figure.legend(first, [handles[name] for name in looks])
        _figure.shade(axes, stages)
        axes[-1].set_xlabel("step")
        own = [at for lines in (top, *panels.values()) for at, _ in lines.values()]
        every = np.concatenate([steps, *own])
        if every.min() < every.max():
            axes[-1].set_xlim(every.min(), every.max())
        figure.align_ylabels()
    return figure


def _lines(panel, series, steps):
    """Name -> (steps [T], values [seeds, T]); a line that stands alone has the name ""."""
    found = {}
    for name, one in (series if isinstance(series, Mapping) else {"": series}).items():
        what = f"{panel} of {name}" if name else panel
        pair = isinstance(one, tuple) and len(one) == 2 and all(map(np.iterable, one))
        at, values = one if pair else (steps, one)
        at, values = host(at, f"the steps of {what}"), host(values, what)
        if at.ndim != 1 or values.ndim not in (1, 2) or values.shape[-1] != len(at):
            raise ValueError(
                f"{what} has shape {values.shape} at steps of shape {at.shape}; give a value per "
                "step, [T] or [seeds, T], or a tuple (steps, values)."
            )
        _check_ascending(at, f"the steps of {what}")
        found[str(name)] = at, np.atleast_2d(values)
    return found


def _check_ascending(steps, name):
    if not np.isfinite(steps).all():
        raise ValueError(f"{name} must be finite; leave out those that are not.")
    if (falls := np.flatnonzero(np.diff(steps) < 0)).size:
        before, after = steps[falls[0] : falls[0] + 2]
        raise ValueError(f"{name} must ascend, but {after:g} follows {before:g}; sort by the step.")


def _draw(axes, lines, looks, spread, drawstyle="default"):
    """Name -> line, of those that have a name."""
    handles = {}
    for name, (at, values) in lines.items():
        look = looks[name] if name else {"color": _figure.COLORS[0]}
        look = {key: value for key, value in look.items() if key != "marker"}
        mean, low, high = mean_and_spread(values, spread)
        (handles[name],) = axes.plot(at, mean, drawstyle=drawstyle, label=name, **look)
        alone = _alone(np.isfinite(mean))
        if alone.any():
            handles[name].set(marker="o", markevery=np.flatnonzero(alone).tolist())
            axes.vlines(at[alone], low[alone], high[alone], color=look["color"], linewidth=1)
        if len(values) > 1:
            step = "post" if drawstyle == "steps-post" else None
            band = {"color": look["color"], "alpha": 0.2, "linewidth": 0}
            axes.fill_between(at, low, high, step=step, **band)
    return {name: line for name, line in handles.items() if name}


def _alone(there):
    """Which values have no neighbour that a line could join them to."""
    padded = np.pad(there, 1)
    return there & ~padded[:-2] & ~padded[2:]
