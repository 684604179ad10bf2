"""Trains and prunes what docs/results.md shows, and writes its tables and pictures.

python -m benchmarks.results [--only NAME ...] [--list] [--fresh] [--quick] [--jobs 2] [--out DIR]

The work is cut into units of a minute or so, such as a method with all seeds and levels. What a
unit found is a line of a file in --out, on the disk as soon as it is done: a run that was killed
goes on where it was. Lines know the code, the settings and the versions that they were made by, and
others are not used again; --fresh uses none. Figures of two machines are not put into one table.
--jobs processes work side by side, each on its share of the cores; what is timed has all of them,
and no other process of this command beside it. --quick is a smoke test: one seed, one level, few
steps, on a copy of the page in --out. --list names the units, and how long those took that are
done.
"""

import argparse
import functools
import math
import os
import pathlib
import shutil
import sys
import time
import traceback

import jax
from rich.console import Console

from benchmarks import files, pages
from benchmarks.environment import ROOT, environment, fingerprint, machine, sentence
from benchmarks.pool import side_by_side
from benchmarks.sections import SECTIONS
from benchmarks.studies import merged
from benchmarks.tables import markdown, table
from jaxprune.analysis import plots

COMMON = ("benchmarks/sections.py",)


def main():
    args = parse()
    console = Console()
    page = place(args.out, args.quick)
    failed = []
    keys = {name: key(name, args.quick) for name in args.only or SECTIONS}
    for name, now in keys.items():
        console.rule(name)
        path = args.out / f"{name}.jsonl"
        if args.fresh:
            path.unlink(missing_ok=True)
        units, found = units_of(name, args.quick, args.out), done(now, path)
        if args.list:
            show(console, name, units, found)
            continue
        waiting = [unit for unit in units if unit not in found]
        console.print(f"{len(units)} units, {len(waiting)} to do")
        if waiting:
            jobs = 1 if SECTIONS[name].timed else min(args.jobs, len(waiting))
            work = functools.partial(do, name, args.quick, args.out)
            current = functools.partial(key, name, args.quick)
            found |= complete(console, side_by_side(work, waiting, jobs), path, now, current)
        missing = [f"{name}: {unit}" for unit in units if unit not in found]
        failed += missing
        if not missing:
            try:
                put(console, page, name, [found[unit] for unit in units])
            except ValueError as error:
                failed.append(f"{name}: {error}")
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
    parser.add_argument("--jobs", type=int, default=2, help="processes, which share the cores")
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
    """Changes with what the figures of a section depend on; those of times, with the machine."""
    section = SECTIONS[name]
    settings = [name, quick] + ([machine()] if section.timed else [])
    return fingerprint([*section.sources, *COMMON], settings)


def done(now, path):
    """Unit -> its record, of those in a file whose key is that of now."""
    return {one["unit"]: one for one in files.records(path) if one["key"] == now}


def complete(console, finished, path, now, current):
    """Keeps what units of work find; unit -> its record, without those that fail.

    Args:
      console: for progress.
      finished: (unit, record, error), as `side_by_side` yields them.
      path: of the file of records.
      now: the key of the code, from before any of it was imported to do the work.
      current: gives the key as it is; once it is another, nothing more is kept.
    """
    found = {}
    for unit, record, error in finished:
        if error:
            traceback.print_exception(error)
            continue
        if current() != now:
            console.print("Its code or machine changed while it ran; the rest is not kept.")
            break
        found[unit] = record | {"key": now, "environment": environment()}
        files.append(path, found[unit])
        progress = f"{len(found)} done, {unit}: {record['seconds']:.0f} s"
        console.print(progress, highlight=False, markup=False)
    return found


def do(name, quick, out, unit):
    """The record of a unit, done in this process."""
    run = units_of(name, quick, out)[unit]
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    rows = run()
    jax.clear_caches()  # programs of other units are of no use, and there is a limit to them
    return {
        "unit": unit,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": sum(os.times()[:4]) - cpu,
        "ended": time.time(),
        "rows": rows,
    }


@functools.cache
def units_of(name, quick, out):
    """The units of a section; what they share, such as trained networks, is made once."""
    return SECTIONS[name].units(quick, out)


def show(console, name, units, found):
    """Lists the units of a section and their times."""
    rows = [
        {"unit": unit} | {k: found[unit][k] if unit in found else None for k in TIMES}
        for unit in units
    ]
    total = {k: sum(row[k] or 0.0 for row in rows) for k in TIMES}
    console.print(table(name, [*rows, {"unit": "in all"} | total]))


PASSING = ("date", "threads")  # threads are those of the process that hands units out
TIMES = ("seconds", "cpu_seconds")


def put(console, page, name, records):
    """Writes a section's table and pictures, and names cells that text may have wrong.

    Raises:
      ValueError: the records are of more than one machine.
    """
    rows = merged(row for record in records for row in record["rows"])
    where = sentence(together([record["environment"] for record in records]))
    text = f"`python -m benchmarks.results --only {name}`, {spent(records)}. {where}"
    text += f"\n\n{markdown(SECTIONS[name].rows(rows))}"
    for title, path in draw(page.parent, name, rows).items():
        text += f"\n\n![{title}]({path.relative_to(page.parent)})"
    moved = pages.moved(pages.region(page, name), text)
    pages.write(page, name, text)
    console.print(table(name, SECTIONS[name].rows(rows)))
    if moved:
        console.print("Moved by more than the range of the seeds; read the text of the page again:")
        console.print("\n".join(f"  {line}" for line in moved), markup=False, highlight=False)


def together(environments):
    """One environment, whose date is a span.

    Raises:
      ValueError: they differ in more than the date.
    """
    machines = [{k: v for k, v in one.items() if k not in PASSING} for one in environments]
    if any(one != machines[0] for one in machines):
        raise ValueError("its units were done on machines that differ; do all on one, by --fresh")
    dates = sorted({one["date"] for one in environments})
    return machines[0] | {"date": " to ".join(dict.fromkeys((dates[0], dates[-1])))}


def spent(records):
    """Minutes of cores, and of the clock: while one unit or more was at work."""
    cpu = sum(record["cpu_seconds"] for record in records)
    wall, until = 0.0, -math.inf
    for begin, end in sorted((one["ended"] - one["seconds"], one["ended"]) for one in records):
        wall += max(0.0, end - max(begin, until))
        until = max(until, end)
    return f"{_minutes(cpu)} of a core in {_minutes(wall)}"


def _minutes(seconds):
    whole = round(seconds / 60)
    return f"{whole} minute{'' if whole == 1 else 's'}"


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
        path.parent.mkdir(exist_ok=True)
        options = {"metric": section.metric, "dense": dense or None, "log": True, "path": path}
        plots.tradeoff(series, **options)
        made[f"{section.metric} over sparsity: {title}"] = path
    return made


if __name__ == "__main__":
    main()
