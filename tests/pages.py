"""Pages of Markdown as programs: `python tests/pages.py README.md` runs one as its reader does.

The ```python blocks of a page run in order, in one namespace. A ```text block with nothing but
blank lines between it and a ```python block is what that block prints, apart from blanks at the
ends of lines; any other ```text block is prose.
"""

import contextlib
import io
import pathlib
import re
import sys
import types

import jaxprune

FENCE = re.compile(r"^```([\w{}-]*)[^\n`]*\n(.*?)^```$", re.M | re.S)


def blocks(page):
    """(line, code, what it prints or None) of each block of Python."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    for block, after in zip(found, [*found, None][1:], strict=True):
        if block[1] == "python":
            shown = after and after[1] == "text" and not text[block.end() : after.start()].strip()
            yield text.count("\n", 0, block.start(2)), block[2], after[2] if shown else None


def lines(text):
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def run(page):
    """Runs the blocks of a page in this directory; what they print is what the page shows."""
    module = types.ModuleType(f"page_{page.stem}")
    sys.modules[module.__name__] = module  # where classes look for themselves
    try:
        for line, code, shown in blocks(page):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * line + code, str(page), "exec"), vars(module))
            if shown is not None:
                assert lines(printed.getvalue()) == lines(shown), f"{page}, block at {line + 1}"
    finally:
        del sys.modules[module.__name__]


if __name__ == "__main__":
    print(f"jaxprune {jaxprune.__version__} from {pathlib.Path(jaxprune.__file__).parent}")
    for each in map(pathlib.Path, sys.argv[1:]):
        run(each.resolve())
        print(f"{each.name} prints what it shows")
