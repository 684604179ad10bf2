"""The documentation runs, and shows what it prints.

The ```python blocks of a page run in order, in one namespace and in an empty working directory. A
```text block with nothing but blank lines between it and a ```python block is what that block
prints, apart from blanks at the ends of lines; any other ```text block is prose. Relative links
lead to files that exist, and their fragments to headings.
"""

import contextlib
import io
import pathlib
import re
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("*.md"))]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name(page):
    return str(page.relative_to(ROOT))


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


def prose(page):
    """The page without its blocks, so that code is not taken for links or headings."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchor(heading):
    """The fragment that a heading gets: lower case, punctuation left out, blanks as hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [p for p in PAGES if list(blocks(p))], ids=name)
def test_page_runs(page, tmp_path, monkeypatch):
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where classes look for themselves
    monkeypatch.chdir(tmp_path)
    for line, code, shown in blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, str(page), "exec"), vars(module))
        if shown is not None:
            assert lines(printed.getvalue()) == lines(shown), f"{name(page)}, block at {line + 1}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link}"
        if fragment:
            headings = re.findall(r"^#+ +(.*?) *$", prose(target), re.M)
            assert fragment in map(anchor, headings), f"{name(page)}: {link}"
