"""What studies have in common: units of work, and rows of figures of several seeds.

A unit is a function without arguments that gives rows. In a row strings say which row it is, and
lists hold a figure for each seed; rows of different units that say the same are one row.
"""

import dataclasses

import jax
from jax import lax

from benchmarks.tables import spread


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of a study is done.

    Attributes:
      seeds: how many.
      levels: sparsities.
      shorter: what the steps of each training are divided by.
    """

    seeds: int
    levels: tuple[float, ...] = ()
    shorter: int = 1


def each(run, *args):
    """What `run` gives for each entry of arrays, one after the other in one program.

    On two cores of a CPU networks that are trained side by side, by vmap, took as long, and their
    program twice as long to compile.
    """
    return jax.jit(lambda args: lax.map(lambda own: run(*own), args))(args)


def each_at(run, levels, *args):
    """The same at each level, which is the last argument of `run`: [levels, entries]."""

    @jax.jit
    def every(levels, args):
        at = lambda level: lax.map(lambda own: run(*own, level), args)  # noqa: E731
        return lax.map(at, levels)

    return every(levels, args)


def gather(units):
    """The rows of all units, done one after the other."""
    return merged(row for unit in units.values() for row in unit())


def merged(rows):
    """Rows that say the same as one, with all their figures, in the order they first came in."""
    found = {}
    for row in rows:
        own = found.setdefault(tuple(x for x in row.values() if isinstance(x, str)), {})
        for name, value in row.items():
            own[name] = own.get(name, []) + value if isinstance(value, list) else value
    return list(found.values())


def cells(rows, columns=None, digits=2):
    """Rows for a table: the mean over seeds, and the lowest and highest of them.

    Args:
      rows: as units give them.
      columns: those with figures, in order; by default all. A sparsity becomes a percentage, and
        0.0 is the dense network.
      digits: behind the point.
    """
    if columns is None:
        columns = dict.fromkeys(k for row in rows for k, x in row.items() if isinstance(x, list))
    texts = dict.fromkeys(k for row in rows for k, x in row.items() if isinstance(x, str))
    return [
        {name: row.get(name, "") for name in texts}
        | {heading(k): spread(row[k], digits) if k in row else "" for k in columns}
        for row in rows
    ]


def heading(column):
    """ "0.95" -> "95 %", and "0.0" -> "dense"; what is no sparsity stays."""
    try:
        sparsity = float(column)
    except ValueError:
        return column
    return f"{100 * sparsity:.4g} %" if sparsity else "dense"
