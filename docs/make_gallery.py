"""Runs the examples and writes what they print, and their plots, to the pages of the gallery.

    make gallery                                     # all of them
    make gallery ARGS="raw_pytree nnx_digits"        # some

A page names its command in a block between two marks, and what that printed stands between two
others; all else on a page is written by hand. Pictures that a page shows are copied from where the
example left them.
"""

import argparse
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs/gallery"
COMMAND = re.compile(r"^```sh\npython (examples/\S+\.py[^\n]*)\n```$", re.M)
OUTPUT = re.compile(r"(?<=<!-- output -->\n)```text\n.*?^```\n(?=<!-- end -->)", re.M | re.S)
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+\.png)\)")


def run(command):
    """What a command prints, as on a terminal of 100 columns; bars go to this terminal."""
    env = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, *shlex.split(command)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def filled(text, printed):
    """The text of a page with what its command printed in the place for it."""
    block = "```text\n" + printed.strip("\n") + "\n```\n"
    text, found = OUTPUT.subn(lambda _: block, text)
    if found != 1:
        raise ValueError(f"the page has {found} places for output; give it one.")
    return text


def write(page):
    """Runs the command of a page and puts its output and its pictures in place."""
    text = page.read_text(encoding="utf-8")
    (command,) = COMMAND.findall(text)
    text = filled(text, run(command))
    for picture in PICTURE.findall(text):
        made = ROOT / "out" / page.stem / picture.removeprefix(f"{page.stem}-")
        shutil.copyfile(made, page.parent / picture)
    page.write_text(text, encoding="utf-8")


def main():
    """Runs the examples that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "index")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; by default all")
    names = parser.parse_args().names or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no page for {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names:
        (ROOT / "out" / name).mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        print(f"{name} ...", file=sys.stderr)
        write(PAGES / f"{name}.md")
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
