"""The site has an entry for each public name; what docstrings become for it."""

import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import jaxprune

DOCS = Path(__file__).parents[1] / "docs"
MODULES = ["jaxprune"]
MODULES += [m.name for m in pkgutil.walk_packages(jaxprune.__path__, "jaxprune.")]
MODULES = [name for name in MODULES if "._" not in name]


def load(name):
    """A file of the site's extension, which needs no Sphinx."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docstrings, public = load("docstrings"), load("public")


def convert(text, entries=()):
    link = {name: f"jaxprune.scores.{name}" for name in entries}.get
    return "\n".join(docstrings.convert(text.splitlines(), link)).strip()


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_a_page_that_shows_all_its_names(module):
    page = DOCS / "api" / f"{module}.md"
    assert page.exists(), f"{module}: write {page.name}, as the pages beside it"
    assert re.search(rf"^\.\. api:: {re.escape(module)}$", page.read_text(), re.M)
    index = (DOCS / "api" / "index.md").read_text()
    assert f"({page.name})" in index, "the table of the index"
    assert re.search(rf"^{re.escape(module)}$", index, re.M), "the toctree of the index"


@pytest.mark.parametrize("module", MODULES)
def test_each_name_has_a_docstring_and_one_entry(module):
    for name in public.names(module):
        full = f"{module}.{name}"
        assert public.doc(full), full
        if name != "__version__":
            entry = public.entry(full)
            assert entry is not None, full
            assert public.value(entry) is public.value(full)


def test_names_without_a_list_are_those_that_a_module_defines():
    assert public.names("jaxprune.axes") == ["check_kind", "normalize", "normalize_all"]
    assert "Rule" in public.names("jaxprune.rules")
    assert "Sequence" not in public.names("jaxprune.rules")


def test_constants_have_their_own_docstrings():
    assert public.doc("jaxprune.scores.magnitude").startswith("The criterion |w|.")
    assert public.doc("jaxprune.scores.Criterion").startswith("A function from a leaf")


def test_names_at_the_top_lead_to_the_subpackage():
    assert public.entry("jaxprune.prune") == "jaxprune.transforms.prune"
    assert public.entry("jaxprune.apply_masks") == "jaxprune.masks.apply"
    assert public.entry("jaxprune.scores._obd.obd") == "jaxprune.scores.obd"
    assert public.entry("jaxprune.scores") == "jaxprune.scores"
    assert public.entry("jaxprune.scores.no_such") is None
    assert public.entry("jaxprune.scores._obd.Squares") is None


def test_backticks_become_links_or_literals():
    assert convert("See `obd`.", ["obd"]) == "See :py:obj:`obd <jaxprune.scores.obd>`."
    assert convert("`obd(None)`s", ["obd"]) == (":py:obj:`obd(None) <jaxprune.scores.obd>`\\ s")
    assert convert("`obd` and `w * g`") == "``obd`` and ``w * g``"
    assert convert("a `span that\n  goes on`.") == "a ``span that goes on``."


def test_what_would_be_markup_is_escaped():
    assert convert("|w| * w**2 of set_ and w_i") == ("\\|w\\| \\* w\\*\\*2 of set\\_ and w_i")
    assert convert("Args:\n  *args: 2 * x\n  **kwargs: y") == (
        "Args:\n  *args: 2 \\* x\n  **kwargs: y"
    )


def test_indented_paragraphs_are_code_outside_of_sections():
    assert convert("One.\n\n    u = w**2\n\nTwo.") == (
        "One.\n\n.. code-block:: text\n\n    u = w**2\n\nTwo."
    )
    assert convert("Args:\n  x: one.\n\n  Two.") == "Args:\n  x: one.\n\n  Two."


def test_sections_keep_their_meaning():
    assert convert("Returns:\n  A `Plan`: print it.") == ":returns:\n  A ``Plan``: print it."
    assert convert("Example:\n  >>> 2**3 * `x`\n\nOne * two.") == (
        "Example:\n  >>> 2**3 * `x`\n\nOne \\* two."
    )
    assert convert("References:\n  Han, arXiv 1506.02626.") == (
        "References:\n  Han, `arXiv 1506.02626 <https://arxiv.org/abs/1506.02626>`__."
    )


def test_arguments_are_not_taken_for_names():
    text = "Keeps.\n\nArgs:\n  keep, block: both.\n  *args: more.\n\nReturns:\n  plan: one."
    assert docstrings.described(text.splitlines()) == {"keep", "block", "args"}
