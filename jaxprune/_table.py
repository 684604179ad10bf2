"""Optional packages for reports: tables as plain text, by rich; bars, by tqdm."""

import io
from collections.abc import Sequence


def missing(module: str, what: str, error: ImportError) -> ImportError:
    """The error for an optional package that is not installed."""
    return ImportError(
        f"{what} needs {module}; install it with: pip install 'jaxprune[report]'",
        name=error.name,
    )


def tqdm(what: str):
    """The class of tqdm's bars; an ImportError that names `what` where it is not installed."""
    try:
        from tqdm import tqdm as bar
    except ImportError as error:
        raise missing("tqdm", what, error) from error
    return bar


def render(
    what: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int = 1,
    footer: Sequence[Sequence[str]] = (),
) -> str:
    """A table as lines of text, as wide as it needs to be.

    Args:
      what: what is shown, for the message when rich is missing.
      columns: headings.
      rows: cells.
      left: how many columns, from the left, are aligned left; the others hold numbers.
      footer: rows below a rule.

    Raises:
      ImportError: rich is not installed.
    """
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError as error:
        raise missing("rich", what, error) from error
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    if footer:
        table.add_section()
        for row in footer:
            table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None).print(table)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "\n".join(line for line in lines if line)


def percent(value: float) -> str:
    """A fraction as a percentage, with as many digits as tell 99.99 % from 100 %."""
    return f"{100 * value:.2f} %"
