"""Rows of figures as a table, on the terminal and in a page.

A row is a dict from headings to figures; None and what a row lacks are empty cells. At `NOTES` a
row may have lines that belong under the table, each of them once.
"""

import re

import numpy as np
from rich import box
from rich.table import Table

NOTES = "notes"
FIGURE = re.compile(r"|(?P<mean>-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?)( \((?P<more>[^()]*)\))?")


def table(title, rows):
    """A rich table; a column for each key of any row."""
    caption = "\n".join(notes(rows)) or None
    made = Table(title=title, caption=caption, box=box.SIMPLE_HEAD)
    for name, right in columns(rows).items():
        made.add_column(name, justify="right" if right else "left")
    for row in rows:
        made.add_row(*(shown(row.get(name)) for name in columns(rows)))
    return made


def markdown(rows):
    """The same as a table in Markdown."""
    heads = columns(rows)
    body = [[shown(row.get(name)) for name in heads] for row in rows]
    rule = "|".join("---:" if right else "---" for right in heads.values())
    first, *rest = (f"| {' | '.join(cells)} |" for cells in [list(heads), *body])
    return "\n".join([first, f"|{rule}|", *rest, *(f"\n{line}" for line in notes(rows))])


def notes(rows):
    """The lines under a table."""
    return list(dict.fromkeys(line for row in rows for line in row.get(NOTES, ())))


def columns(rows):
    """Heading -> whether it stands on the right, as columns of figures do but for the first."""
    found = dict.fromkeys(key for row in rows for key in row if key != NOTES)
    right = {name: all(_is_figure(row.get(name)) for row in rows) for name in found}
    return right | dict.fromkeys(list(found)[:1], False)


def shown(value):
    """A cell: floats with three digits, integers with commas."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def spread(values, digits=2):
    """The mean over seeds as a cell, and the lowest and highest where there are several."""
    mean, low, high = np.mean(values), np.min(values), np.max(values)
    several = f" ({low:.{digits}f}-{high:.{digits}f})" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{several}"


def _is_figure(value):
    return not isinstance(value, str) or FIGURE.fullmatch(value) is not None
