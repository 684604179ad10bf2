"""The documentation runs, and shows what it prints; its links lead somewhere.

Pages run in an empty working directory. Relative links lead to files that exist, and their
fragments to headings.
"""

import pathlib
import re

import pages
import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("*.md"))]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name(page):
    return str(page.relative_to(ROOT))


def prose(page):
    """The page without its blocks, so that code is not taken for links or headings."""
    return pages.FENCE.sub("", page.read_text(encoding="utf-8"))


def anchor(heading):
    """The fragment that a heading gets: lower case, punctuation left out, blanks as hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [p for p in PAGES if list(pages.blocks(p))], ids=name)
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.run(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{name(page)}: {link}"
        if DOCS in page.parents and target.suffix == ".md":
            assert DOCS in target.parents, f"{name(page)}: {link} leads out of the site"
        if fragment:
            headings = re.findall(r"^#+ +(.*?) *$", prose(target), re.M)
            assert fragment in map(anchor, headings), f"{name(page)}: {link}"
