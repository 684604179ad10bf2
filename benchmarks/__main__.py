"""Measures what jaxprune costs, beside its peers, and writes the tables of docs/benchmarks.md.

python -m benchmarks [--only NAME ...] [--rounds N] [--fresh] [--quick] [--out DIR]

Each table is measured in a process of its own, so that none warms or disturbs another, and kept in
--out with what it was measured on. A table that is there, of the same code and settings, is not
measured again: a run that was stopped goes on where it was. --fresh measures all anew. A table that
fails is named at the end, and the others are still made. --quick is a smoke test with small arrays;
it works on copies of the pages, in --out.

Tables that take long or need special set-ups are made only when they are named: see
benchmarks/parts.py, which also says which page a table stands in.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time

from rich.console import Console

from benchmarks import files, pages
from benchmarks.environment import (
    ROOT,
    Others,
    environment,
    fingerprint,
    machine,
    peer_version,
    sentence,
    take_cores,
)
from benchmarks.parts import PARTS
from benchmarks.tables import markdown, table


def main():
    args = parse()
    if args.child:
        measure(args.only[0], args)
        return
    docs = place(args.out, args.quick)
    console = Console()
    failed = {}
    for name in args.only or [name for name, part in PARTS.items() if not part.named]:
        console.rule(name)
        if found := done(name, args):
            console.print("as measured before")
        else:
            found, why = run(name, args)
        if found:
            console.print(f"{found['seconds']:.0f} s. {sentence(found['environment'])}")
            try:
                put(docs / PARTS[name].page, name, found, args.rounds, console)
            except ValueError as error:
                failed[name] = str(error)
        else:
            failed[name] = why
    for name, why in failed.items():
        console.print(f"{name} FAILED: {why}", style="red", markup=False)
    console.print(f"tables are in {docs}, figures in {args.out}")
    sys.exit(bool(failed))


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, help="of calls that a median is of")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--quick", action="store_true", help="a smoke test, on copies of the pages")
    parser.add_argument("--out", type=pathlib.Path, help="out/bench, or out/quick/bench")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out = args.out or pathlib.Path("out/quick/bench" if args.quick else "out/bench")
    if args.quick:
        args.rounds = args.rounds or 1
    return args


def place(out, quick):
    """The folder of the pages: of the repository, or copies of them."""
    docs = ROOT / "docs"
    if not quick:
        return docs
    copies = out / "docs"
    copies.mkdir(parents=True, exist_ok=True)
    for page in docs.glob("*.md"):
        shutil.copy(page, copies)
    return copies


def key(name, args):
    """Changes with what the figures of a part depend on."""
    part = PARTS[name]
    sources = [str(p.relative_to(ROOT)) for p in sorted((ROOT / "benchmarks").glob("*.py"))]
    peers = {peer: peer_version(peer) for peer in part.peers}
    settings = [name, args.rounds or part.rounds, args.quick, peers, machine()]
    return fingerprint(sources, settings)


def done(name, args):
    """What was measured before, of the same code and settings, or None."""
    path = args.out / f"{name}.json"
    if args.fresh or not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if found["key"] == key(name, args) else None


def run(name, args):
    """(what a process of its own measured, None), or (None, why it failed)."""
    command = [sys.executable, "-m", "benchmarks", "--child", "--only", name]
    command += ["--out", str(args.out)] + (["--quick"] if args.quick else [])
    command += ["--rounds", str(args.rounds)] if args.rounds else []
    before = key(name, args)
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        return None, f"exit code {code}; what it printed stands above"
    found = json.loads((args.out / f"{name}.json").read_text(encoding="utf-8"))
    return (found, None) if found["key"] == before else (None, "its code changed while it ran")


def measure(name, args):
    """Measures a part in this process, and keeps it."""
    part, before = PARTS[name], key(name, args)
    take_cores(part.peers)
    start, others = time.perf_counter(), Others()
    rows = part.rows(args.rounds, args.quick)
    seconds, used = time.perf_counter() - start, others.cores()
    where = environment(part.peers) | {"others": used}
    found = {"key": before, "seconds": seconds, "environment": where, "rows": rows}
    files.write(args.out / f"{name}.json", json.dumps(found, indent=1))
    Console(width=180).print(table(part.title, rows))


def put(page, name, found, rounds, console):
    """Writes a table into its page, and names the figures that text beside it may have wrong."""
    command = f"python -m benchmarks --only {name}" + (f" --rounds {rounds}" if rounds else "")
    text = f"`{command}`. {sentence(found['environment'])}"
    text += f"\n\n{markdown(found['rows'])}"
    moved = pages.moved(pages.region(page, name), text)
    pages.write(page, name, text)
    if moved:
        console.print(
            f"Moved by more than a quarter, or renamed; read the text of {page.name} again:"
        )
        console.print("\n".join(f"  {line}" for line in moved), markup=False, highlight=False)


if __name__ == "__main__":
    main()
