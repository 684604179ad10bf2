"""Trains and prunes what docs/results.md shows, and writes its tables and pictures.

python -m benchmarks.results [--only NAME ...] [--list] [--fresh] [--quick] [--out DIR]

The work is cut into units of a minute or so, such as a method with all seeds and levels. What a
unit found is a line of a file in --out, on the disk before the next unit begins: a run that was
killed goes on where it was. Lines know the code, the settings and the versions that they were
made by, and others are not used again; --fresh uses none. --quick is a smoke test: one seed, one
level, few steps, on a copy of the page in --out. --list names the units, and how long those took
that are done.
"""

import argparse
import os
import pathlib
import shutil
import sys
import time
import traceback

import jax
from rich.console import Console

from benchmarks import files, pages, pictures
from benchmarks.environment import ROOT, environment, fingerprint, sentence
from benchmarks.sections import SECTIONS
from benchmarks.studies import merged
from benchmarks.tables import markdown, table

COMMON = ("benchmarks/sections.py",)


def main():
    args = parse()
    console = Console()
    page = place(args.out, args.quick)
    failed = []
    for name in args.only or SECTIONS:
        console.rule(name)
        units = SECTIONS[name].units(args.quick, args.out)
        found = done(name, args)
        if args.list:
            show(console, name, units, found)
            continue
        found = complete(console, name, units, found, args)
        missing = [f"{name}: {unit}" for unit in units if unit not in found]
        failed += missing
        if not missing:
            put(console, page, name, [found[unit] for unit in units])
    for unit in failed:
        console.print(f"FAILED: {unit}", style="red", markup=False)
    sys.exit(bool(failed))


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name the units, and do none")
    parser.add_argument("--fresh", action="store_true", help="use nothing that was done before")
    parser.add_argument("--quick", action="store_true", help="a smoke test, on a copy of the page")
    parser.add_argument("--out", type=pathlib.Path, help="out/results, or out/quick/results")
    args = parser.parse_args()
    args.out = (
        args.out or pathlib.Path("out/quick/results" if args.quick else "out/results")
    ).resolve()
    return args


def place(out, quick):
    """The page: of the repository, or a copy."""
    page = ROOT / "docs" / "results.md"
    if not quick:
        return page
    out.mkdir(parents=True, exist_ok=True)
    return pathlib.Path(shutil.copy(page, out))


def key(name, quick):
    """Changes with what the figures of a section depend on."""
    return fingerprint([*SECTIONS[name].sources, *COMMON], [name, quick])


def done(name, args):
    """Unit -> its record, of those that were done before by the same code."""
    now, kept = key(name, args.quick), files.records(args.out / f"{name}.jsonl")
    return {} if args.fresh else {one["unit"]: one for one in kept if one["key"] == now}


def complete(console, name, units, found, args):
    """Does the units that are not done; a unit that fails is left out."""
    now, found = key(name, args.quick), dict(found)
    for i, (unit, run) in enumerate(units.items(), 1):
        progress = f"{i} of {len(units)}, {unit}"
        if unit in found:
            console.print(f"{progress}: done before")
            continue
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        try:
            rows = run()
        except Exception:  # named at the end; the other units are still worth having
            traceback.print_exc()
            continue
        record = {"key": now, "unit": unit, "seconds": time.perf_counter() - wall}
        record |= {"cpu_seconds": sum(os.times()[:4]) - cpu, "rows": rows}
        files.append(args.out / f"{name}.jsonl", record)
        found[unit] = record
        console.print(f"{progress}: {record['seconds']:.0f} s")
        jax.clear_caches()  # programs of other units are of no use, and there is a limit to them
    return found


def show(console, name, units, found):
    """Lists the units of a section and their times."""
    rows = [
        {"unit": unit} | {k: found[unit][k] if unit in found else None for k in TIMES}
        for unit in units
    ]
    total = {k: sum(row[k] or 0.0 for row in rows) for k in TIMES}
    console.print(table(name, [*rows, {"unit": "in all"} | total]))


TIMES = ("seconds", "cpu_seconds")


def put(console, page, name, records):
    """Writes a section's table and pictures, and names cells that text may have wrong."""
    rows = merged(row for record in records for row in record["rows"])
    minutes = sum(record["seconds"] for record in records) / 60
    text = f"`python -m benchmarks.results --only {name}`, {minutes:.0f} minutes. "
    text += f"{sentence(environment())}\n\n{markdown(SECTIONS[name].rows(rows))}"
    for title, path in draw(page.parent, name, rows).items():
        text += f"\n\n![{title}]({path.relative_to(page.parent)})"
    moved = pages.moved(pages.region(page, name), text)
    pages.write(page, name, text)
    console.print(table(name, SECTIONS[name].rows(rows)))
    if moved:
        console.print("Moved by more than the range of the seeds; read the text of the page again:")
        console.print("\n".join(f"  {line}" for line in moved), markup=False, highlight=False)


def draw(folder, name, rows):
    """Title -> path of the pictures of a section, drawn now."""
    section, made = SECTIONS[name], {}
    if section.metric is None:
        return made
    dense = next((row["0.0"] for row in rows if "0.0" in row), [])
    rows = [row for row in rows if "0.0" not in row]
    for part in dict.fromkeys(row[section.split] if section.split else "" for row in rows):
        own = [row for row in rows if not section.split or row[section.split] == part]
        series = {
            row["method"]: {float(k): v for k, v in row.items() if isinstance(v, list)}
            for row in own
        }
        title = ", ".join(filter(None, (name, part)))
        path = folder / "results" / f"{'-'.join(filter(None, (name, part)))}.svg"
        pictures.tradeoff(path, series, dense=dense, metric=section.metric, title=title)
        made[f"{section.metric} over sparsity: {title}"] = path
    return made


if __name__ == "__main__":
    main()
