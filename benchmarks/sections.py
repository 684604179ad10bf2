"""The tables of docs/results.md: units of work that make them, and how they are shown."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

from benchmarks import criteria, oneshot_aims, sparse_training
from benchmarks.environment import ROOT
from benchmarks.studies import cells
from benchmarks.tasks import Digits, Text


@dataclasses.dataclass(frozen=True)
class Section:
    """One table, in the region of its name.

    Attributes:
      units: from (quick, a folder for files) to names and functions that give rows, as `studies`
        describes them.
      sources: files that its figures depend on, beside the package.
      metric: what is measured, for a picture of it over sparsity; None: no picture.
      split: the column whose values get a picture each.
      digits: behind the point.
      timed: its figures are times, too: it has all cores, and no neighbour.
    """

    units: Callable[[bool, pathlib.Path], dict[str, Callable[[], list]]]
    sources: tuple[str, ...]
    metric: str | None = None
    split: str | None = None
    digits: int = 2
    timed: bool = False

    def rows(self, found):
        """Rows for the table."""
        return cells(found, digits=self.digits)


def _study(module, task, units="units", **options):
    """A section of one of the modules beside this one."""

    def made(quick, folder):
        del folder
        return getattr(module, units)(task(), module.QUICK if quick else module.FULL)

    names = (module.__name__.rpartition(".")[2], "tasks", "studies")
    sources = tuple(f"benchmarks/{name}.py" for name in names)
    return Section(made, sources, **options)


def _example(name, read, quick):
    """A section that one of the examples makes, in a process of its own."""

    def made(is_quick, folder):
        def run():
            out = folder / name
            command = [sys.executable, f"examples/{name}.py", "--out", str(out)]
            # Of this repository, and not of a package that is installed.
            path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
            env = {**os.environ, "PYTHONPATH": path}
            subprocess.run(command + (quick if is_quick else []), cwd=ROOT, check=True, env=env)
            return read(json.loads((out / "results.json").read_text(encoding="utf-8")))

        return {name: run}

    sources = tuple(f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("*.py")))
    return Section(made, sources, timed=True)


# How pages write what the examples call their methods.
_NAMES = {
    "wanda": "Wanda",
    "sparsegpt": "SparseGPT",
    "sparsegpt, refit": "SparseGPT, refitted",
    "alps": "ALPS",
}


def _lm(found):
    rows = [{"method": "dense", "dense": f"{found['dense']:.3f}"}]
    for name, columns in found["runs"].items():
        row = {column: f"{run['bits_per_byte']:.3f}" for column, run in columns.items()}
        seconds = sum(run["seconds"] for run in columns.values())
        rows.append({"method": _NAMES.get(name, name)} | row | {"s": f"{seconds:.0f}"})
    return rows


def _encoder(found):
    return [
        {
            "method": _NAMES.get(name, name),
            "cosine": f"{run['cosine']:.4f}",
            "s": f"{run['seconds']:.0f}",
        }
        for name, run in found["runs"].items()
    ]


def _compact(label, metric):
    """Rows of an example that compares dense, masked and compact networks."""
    lines = {
        label: metric,
        "parameters": lambda run: f"{run['parameters']:,}",
        "multiply-adds": lambda run: f"{run['macs']:,}",
        "time of a batch, ms": lambda run: f"{run['milliseconds']:.1f}",
    }

    def read(found):
        return [
            {"": label} | {network: text(run) for network, run in found.items()}
            for label, text in lines.items()
        ]

    return read


_FEW = ["--steps", "10", "--width", "32"]
SECTIONS = {
    "digits": _study(criteria, Digits, metric=Digits.unit, split="how"),
    "text": _study(criteria, Text, metric=Text.unit, split="how"),
    "sparse-digits": _study(sparse_training, Digits, "sparse_units", metric=Digits.unit),
    "sparse-text": _study(sparse_training, Text, "sparse_units", metric=Text.unit),
    "lottery": _study(sparse_training, Digits, "lottery_units", metric=Digits.unit),
    "decay": _study(sparse_training, Digits, "decay_units", metric=Digits.unit),
    "oneshot-lm": _example("oneshot_lm", _lm, [*_FEW, "--methods", "magnitude"]),
    "oneshot-encoder": _example("oneshot_encoder", _encoder, [*_FEW, "--methods", "magnitude"]),
    "oneshot-aims": _study(oneshot_aims, Text, digits=3),
    "compact-cnn": _example(
        "compact_cnn",
        _compact("test accuracy, %", lambda run: f"{100 * run['accuracy']:.2f}"),
        ["--quick"],
    ),
    "compact-lm": _example(
        "compact_lm",
        _compact("bits per byte", lambda run: f"{run['bits_per_byte']:.3f}"),
        [*_FEW, "--width", "64", "--rounds", "1", "--bytes", "8"],  # of two heads, so one can go
    ),
}
