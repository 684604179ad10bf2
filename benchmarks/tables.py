"""Rows of figures as a table."""

from rich import box
from rich.table import Table


def table(title, rows, headings=None):
    """A rich table of dicts; a column for each key of any of them."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    made = Table(title=title, box=box.SIMPLE_HEAD)
    for column in columns:
        text = isinstance(rows[0].get(column), str)
        made.add_column((headings or {}).get(column, column), justify="left" if text else "right")
    for row in rows:
        made.add_row(*(_cell(row.get(column)) for column in columns))
    return made


def _cell(value):
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
