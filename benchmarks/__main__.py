"""Prints what selection and training steps cost, as ratios within this run.

python -m benchmarks [--rounds N] [--only selection|step|passes] [--out FILE]
"""

import argparse
import json
import os
import pathlib
import platform

import jax
from rich.console import Console

from benchmarks import selection, step
from benchmarks.tables import table

_HEADINGS = {
    "pass_ms": "one pass, ms",
    "ours": "jaxprune",
    "ours_copies": "jaxprune, in copies",
    "temporary": "temporary, x params",
    "compile_s": "compile, s",
    "median_pass": "median, in place",
    "lowest_pass": "lowest",
    "highest_pass": "highest",
    "median_copy": "median, copies",
    "lowest_copy": "lowest",
    "highest_copy": "highest",
    "plain_ms": "plain, ms",
    "between": "between events, x plain",
    "event": "event, x plain",
    "event_less_selection": "event - selection, x plain",
    "plain_compile_s": "compile plain, s",
}
_LABELS = {
    "selection": "Selection, in memory passes (each weight read and written once, in place)",
    "passes": "Selection over 13 sparsities, 50 to 98 %, in passes in place and in copies",
    "step": "Optimizer step on the ResNet-50 tree, donated buffers",
}


def environment():
    """What the figures were measured on."""
    return {
        "device": jax.devices()[0].device_kind,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def main():
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--only", choices=_LABELS)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/benchmarks.json"))
    args = parser.parse_args()
    runs = {
        "selection": lambda: selection.run(args.rounds),
        "passes": lambda: selection.passes(args.rounds),
        "step": lambda: step.run(args.rounds),
    }
    console = Console(width=140)
    results = {"environment": environment()}
    console.print(results["environment"])
    for name in [args.only] if args.only else runs:
        results[name] = runs[name]()
        console.print(table(_LABELS[name], results[name], _HEADINGS))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=2))
    console.print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
