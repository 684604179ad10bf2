"""A picture of a mask: what is kept, where."""

import math
import operator

import numpy as np

from jaxprune import _figure
from jaxprune._checks import is_traced
from jaxprune.patterns import NM, Block, Heads


def mask(mask, *, name=None, pattern=None, cells: int = 128, path=None):
    """Draws a mask as a matrix: kept weights dark, pruned ones pale.

    Two axes are rows and columns. Three are cut in two, rows and columns, as near to a square as
    can be. Of four or more, the last two are rows and columns of tiles, and the others lie within
    a tile: a convolution shows its kernel for each pair of channels. Lines part tiles and slices,
    and the groups of N:M, the blocks of `Block` and the heads of `Heads`, where there is room.

    More rows or columns than `cells` are gathered into cells, in whole tiles and groups, whose
    colour is their density.

    Args:
      mask: a bool array of any shape, True = keep.
      name: of the leaf, for the title, which also says shape, density and pattern.
      pattern: the pattern that the mask has, for its title and its lines.
      cells: the most rows and columns that are drawn one by one, at least 1.
      path: file to save to, in the format of its ending; None saves nothing.

    Returns:
      The `matplotlib.figure.Figure`; no state of pyplot is touched.

    Raises:
      ImportError: matplotlib is not installed.
      TypeError: the mask is traced, or not bool.
      ValueError: the mask has no elements, cells is under 1, or its shape does not fit the pattern.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> from jaxprune.analysis import plots
      >>> masks = jaxprune.masks.make({"w": jnp.ones((8, 8))}, 0.5, pattern=jaxprune.NM(2, 4))
      >>> figure = plots.mask(masks["w"], name="w", pattern=jaxprune.NM(2, 4))
      >>> figure.get_suptitle()
      'w: 8x8, 50.00 % kept, 2:4'
    """
    array, cells = _checked(mask, cells)
    if pattern is not None:
        pattern.check(np.shape(mask), name or "the mask")
    rows, columns = _cut(array.shape)
    shape = [math.prod(array.shape[axis] for axis in axes) for axes in (rows, columns)]
    matrix = array.transpose(*rows, *columns).reshape(shape)
    periods = [_periods(array.shape, axes, pattern) for axes in (rows, columns)]
    alike = 1 / 5 < shape[0] / shape[1] < 5  # else weights are no squares
    square = alike and min(shape) > cells  # else only what is too long is gathered
    steps = [
        _step(n, max(shape) if square else n, cells, max(parts))
        for n, parts in zip(shape, periods, strict=True)
    ]
    picture = _densities(matrix, *steps)
    gathered = steps != [1, 1]
    # A long side is 6 inches; a short one has room for its cells, where those need not be squares.
    tall, broad = (max(6 * n / max(shape), 0 if alike else min(0.4 + 0.1 * n, 1.8)) for n in shape)
    kept = f"{100 * np.count_nonzero(array) / array.size:.2f} % kept"
    said = [_times(array.shape), kept, *([] if pattern is None else [str(pattern)])]
    title = ("" if name is None else f"{name}: ") + ", ".join(said)
    below = broad >= 3  # where the legend of the densities is
    width = max(
        broad + (1.5 if gathered and not below else 0.6), _figure.width_of([title], 10) + 0.4
    )
    height = tall + (1.1 if gathered and below else 0.5)
    with _figure.figure("the picture of a mask", width, height, path) as figure:
        axes = figure.subplots()
        most = float(picture.max()) or 1.0
        image = axes.imshow(
            picture,
            cmap=_colors(),
            vmin=0,
            vmax=most if gathered else 1,
            interpolation="nearest",
            extent=(0, shape[1], shape[0], 0),
            aspect="equal" if alike else "auto",
        )
        for n, parts, step, line in zip(
            shape, periods, steps, (axes.axhline, axes.axvline), strict=True
        ):
            for period, thickness in zip(sorted(parts, reverse=True), (1.3, 0.5), strict=False):
                if period > step and n / period <= 48:
                    for at in range(period, n, period):
                        line(at, color="white", linewidth=thickness)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        axes.set(xlabel=_axes_named(columns, array.ndim), ylabel=_axes_named(rows, array.ndim))
        axes.spines[:].set_visible(False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True, nbins=6)
        if gathered:
            flat = {"location": "bottom", "aspect": 40, "shrink": 0.8} if below else {}
            bar = figure.colorbar(image, **flat)
            bar.set_label(f"density of cells of {_times(steps)}")
            bar.outline.set_visible(False)
            bar.ax.locator_params(nbins=5)
            _figure.percent_axis(bar.ax.xaxis if flat else bar.ax.yaxis)
    return figure


def _checked(mask, cells) -> tuple[np.ndarray, int]:
    if is_traced(mask):
        raise TypeError("mask is traced and cannot be drawn; plot outside of jit and vmap.")
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"mask is {array.dtype}; a mask is a bool array, True = keep.")
    if not array.size:
        raise ValueError(f"mask has shape {array.shape} and no elements; there is nothing to draw.")
    whole = hasattr(cells, "__index__") and not isinstance(cells, bool | np.bool_)
    if not whole or operator.index(cells) < 1:
        raise ValueError(f"cells={cells!r} must be a whole number from 1.")
    return array if array.ndim else array[None], operator.index(cells)


def _cut(shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that are rows and those that are columns, outermost first."""
    axes = tuple(range(len(shape)))
    if len(shape) == 1:
        return (), axes
    if len(shape) <= 3:
        at = _squarest(shape, range(1, len(shape)))
        return axes[:at], axes[at:]
    at = _squarest(shape[:-2], range(len(shape) - 1))
    return (axes[-2], *axes[:at]), (axes[-1], *axes[at:-2])


def _squarest(shape, cuts) -> int:
    """Where to cut a shape in two so that both parts have about as many elements."""
    return min(cuts, key=lambda at: abs(math.log(math.prod(shape[:at]) / math.prod(shape[at:]))))


def _periods(shape, axes, pattern) -> set[int]:
    """Lengths of what repeats along rows or columns: slices of the outermost axis, and groups."""
    if not axes:
        return {1}
    inner = {axis: math.prod(shape[a] for a in axes[i + 1 :]) for i, axis in enumerate(axes)}
    lengths = {}
    if isinstance(pattern, NM):
        lengths = {pattern.axis: pattern.m}
    if isinstance(pattern, Block):
        lengths = dict(zip(pattern.axes, pattern.shape, strict=True))
    if isinstance(pattern, Heads):
        axis = pattern.axis if isinstance(pattern.axis, int) else pattern.axis[-1]
        lengths = {axis: shape[axis] // (pattern.parts * pattern.num_heads)}
    groups = {axis % len(shape): length for axis, length in lengths.items()}
    found = {inner[axis] * length for axis, length in groups.items() if axis in inner}
    return found | {inner[axes[0]]}


def _step(n, longest, cells, period) -> int:
    """How many rows are one cell: 1, or whole periods where these are shorter than the side."""
    least = -(-longest // cells)
    if least == 1 or period >= n:
        return min(least, n)
    return -(-least // period) * period


def _densities(matrix, *steps) -> np.ndarray:
    """Which part of each cell is kept; the last cells may be smaller."""
    starts, across = (np.arange(0, n, step) for n, step in zip(matrix.shape, steps, strict=True))
    lengths, widths = (
        np.diff([*at, n]) for at, n in zip((starts, across), matrix.shape, strict=True)
    )
    # A row of cells at a time: numbers of all weights would take many times the mask's memory.
    rows = (matrix[at : at + steps[0]] for at in starts)
    kept = [np.add.reduceat(np.count_nonzero(row, axis=0), across) for row in rows]
    return np.stack(kept) / np.multiply.outer(lengths, widths)


def _colors():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("mask", [_figure.PALE, _figure.COLORS[0]])


def _times(lengths) -> str:
    return "x".join(map(str, lengths))


def _axes_named(axes, ndim) -> str:
    """Which axes of the array run along a side."""
    if not axes or ndim <= 2:
        return ""
    return f"ax{'e' if len(axes) > 1 else 'i'}s {', '.join(map(str, axes))}"
