"""Every example has its page in the gallery, and every page shows what it names."""

import re
import runpy

import pytest
from example_runner import ROOT

GALLERY = ROOT / "docs/gallery"
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
MOST_BYTES = 70_000


@pytest.fixture(scope="module")
def script():
    """Functions and patterns of the script that fills the pages."""
    return runpy.run_path(str(ROOT / "docs/make_gallery.py"))


def page(name):
    return (GALLERY / f"{name}.md").read_text(encoding="utf-8")


def test_every_example_has_a_page_and_every_page_an_example():
    assert sorted(path.stem for path in GALLERY.glob("*.md")) == sorted([*EXAMPLES, "index"])


def test_the_index_lists_every_page():
    index = page("index")
    toctree = re.search(r"^```\{toctree\}\n(.*?)^```$", index, re.M | re.S)[1]
    listed = [line for line in toctree.splitlines() if line and not line.startswith(":")]
    assert sorted(listed) == EXAMPLES
    for name in EXAMPLES:
        assert f"]({name}.md)" in index


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_page_has_its_command_its_output_and_its_source(name, script):
    text = page(name)
    (command,) = script["COMMAND"].findall(text)
    assert command.split()[0] == f"examples/{name}.py"
    (output,) = script["OUTPUT"].findall(text)
    assert len(output.splitlines()) > 3, "run: make gallery"
    assert f"(../../examples/{name}.py)" in text


@pytest.mark.parametrize("name", [*EXAMPLES, "index"])
def test_pictures_exist_and_are_small(name, script):
    pictures = script["PICTURE"].findall(page(name))
    assert pictures
    for picture in pictures:
        content = (GALLERY / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) <= MOST_BYTES, picture


def test_every_picture_is_shown():
    shown = "".join(map(page, EXAMPLES))
    for picture in GALLERY.glob("*.png"):
        assert f"({picture.name})" in shown, picture


def test_output_takes_its_place_and_all_else_stays(script):
    text = "a\n<!-- output -->\n```text\nold\n```\n<!-- end -->\nb\n```text\nkept\n```\n"
    new = script["filled"](text, r"\1 new")
    assert new == text.replace("old", r"\1 new")
    assert script["filled"](new, "old") == text
    with pytest.raises(ValueError, match="has 0 places for output; give it one"):
        script["filled"]("no place", "new")
