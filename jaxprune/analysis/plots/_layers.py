"""How dense each leaf is, and how many weights it has."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxprune import _figure
from jaxprune._checks import is_traced
from jaxprune.analysis._plan import Plan
from jaxprune.analysis._summary import Summary
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._measure import num_kept
from jaxprune.oneshot import Report

_FEW = 60  # so many bars leave room for their numbers
_BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0}  # numbers, over the dotted lines
_ENDS = (0.01, 0.05, 1)  # of the axis: very short bars cannot be compared on one to 100 %


def layers(*found, names: Sequence[str] = (), path=None):
    """Draws bars for each leaf: which part of its weights is kept, and how many those are.

    Several runs stand side by side. A dotted line is the density of all leaves of a run together.
    Up to 60 bars have their numbers beside them. The axis of densities ends at 100 %; where all
    are at most 5 % or 1 %, it ends there, and its label says so.

    Args:
      *found: one or more of: a `Summary`, a `Plan` of `analysis.plan`, a `Report` of
        `oneshot.prune_model`, or a pytree of masks, in which None is dense and not drawn.
      names: of the runs, for the legend; by default their numbers.
      path: file to save to, in the format of its ending; None saves nothing.

    Returns:
      The `matplotlib.figure.Figure`; no state of pyplot is touched. Leaves are those of any of the
      runs; a leaf whose count is not known, as a ranking decides, has no bar.

    Raises:
      ImportError: matplotlib is not installed.
      TypeError: masks are traced or not bool.
      ValueError: nothing to draw, or as many names as there are not runs.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> from jaxprune.analysis import plots
      >>> pruned, masks = jaxprune.prune_params({"a": jnp.ones((4, 4)), "b": jnp.ones((2, 4))}, 0.5)
      >>> figure = plots.layers(jaxprune.summary(pruned, masks))
      >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
      ['a', 'b']
    """
    runs = [_counts(each) for each in found]
    known = [(k / n if n else 1, n) for run in runs for k, n in run.values() if k is not None]
    most, largest = map(max, zip(*known, strict=True)) if known else (0, 0)
    names = names or [str(i) for i in range(1, len(runs) + 1)]
    if len(names) != len(runs) or isinstance(names, str):
        raise ValueError(f"names={names!r} must be a sequence of {len(runs)}, a name for each run.")
    paths = list(dict.fromkeys(name for run in runs for name in run))
    if not paths:
        raise ValueError("nothing to draw: no leaf has a mask; give a Summary, a Plan or masks.")
    few = len(paths) * len(runs) <= _FEW
    size, bar = (9, 0.2) if few else (7, 0.17 / len(runs))  # points; inches of a bar
    height = 0.9 + len(paths) * (bar * len(runs) + (0.1 if few else 0))
    width = 6.5 + _figure.width_of(paths, size)
    with _figure.figure("the plot of layers", width, max(height, 1.6), path) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        thick = 0.8 / len(runs)
        for i, (run, name) in enumerate(zip(runs, names, strict=True)):
            counted = {p: counts for p, counts in run.items() if counts[0] is not None}
            at = np.array([paths.index(p) for p in counted]) + (i - (len(runs) - 1) / 2) * thick
            kept, total = np.array([*counted.values()], np.int64).reshape(-1, 2).T
            shares = np.divide(kept, total, where=total > 0, out=np.ones(len(kept)))
            color = _figure.COLORS[i % len(_figure.COLORS)]
            bars = left.barh(at, shares, thick * 0.9, color=color, label=name)
            everything = right.barh(at, total, thick * 0.9, color=_figure.PALE)
            right.barh(at, kept, thick * 0.9, color=color)
            if few:
                text = {"padding": 3, "fontsize": 7.5, "bbox": _BEHIND}
                left.bar_label(
                    bars, [f"{share:.2%}".replace("%", " %") for share in shares], **text
                )
                labels = [f"{k:,} of {n:,}" for k, n in zip(kept, total, strict=True)]
                right.bar_label(everything, labels, **text)
            if total.sum():
                whole = kept.sum() / total.sum()
                left.axvline(whole, color=color, linewidth=1, linestyle=":", zorder=0)
        left.set_yticks(range(len(paths)), paths, fontsize=size)
        left.set_ylim(len(paths) - 0.45, -0.55)
        end = next(end for end in _ENDS if end >= (most or 1))
        said = "" if end == 1 else f"; the axis ends at {end:.0%}".replace("%", " %")
        room = most + 0.3 * end if few else 0  # for a number
        left.set(xlabel=f"density: weights kept{said}", xlim=(0, max(1.08 * end, room)))
        left.spines["bottom"].set_bounds(0, end)
        right.set(xlabel="weights: kept, of all (pale)", xlim=(0, 1.5 * largest or 1))
        _figure.percent_axis(left.xaxis)
        right.xaxis.set_major_formatter("{x:,.0f}")
        left.set_xticks(np.linspace(0, end, 6))
        right.locator_params(axis="x", nbins=4)
        for axes in (left, right):
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        if len(runs) > 1:
            figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _counts(found) -> dict[str, tuple[int | None, int]]:
    """Path -> (kept, size)."""
    if isinstance(found, Summary):
        return {row.path: (row.kept, row.size) for row in found.rows}
    if isinstance(found, Plan):
        return {leaf.path: (leaf.kept, leaf.size) for leaf in found.prunable}
    if isinstance(found, Report):
        return {layer.name: (layer.kept, layer.size) for layer in found.layers}
    if any(map(is_traced, jax.tree.leaves(found))):
        raise TypeError("masks are traced and cannot be drawn; plot outside of jit and vmap.")
    masks = {path: mask for path, mask in flatten_masks(found).items() if mask is not None}
    for path, mask in masks.items():
        if getattr(mask, "dtype", None) != np.bool_:
            kind = getattr(mask, "dtype", repr(mask))
            raise TypeError(
                f"{path} is {kind}; give a Summary, a Plan, a Report or masks, which are bool."
            )
    return {path: (num_kept(mask), mask.size) for path, mask in masks.items()}
