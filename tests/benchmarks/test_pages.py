"""Tables are put into pages, and nothing else of a page changes."""

import json

import pytest

from benchmarks import files, pages, tables

PAGE = """# Title

Prose with | bars.

<!-- begin one -->

| a | b |
|---|---:|
| x | 1 |

<!-- end one -->

More prose.

<!-- begin two -->
<!-- end two -->
"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_regions_are_read_in_order(page):
    assert pages.names(page) == ["one", "two"]
    assert pages.region(page, "one") == "| a | b |\n|---|---:|\n| x | 1 |"
    assert pages.region(page, "two") == ""


def test_write_changes_nothing_else(page):
    pages.write(page, "two", "\nnew\n\n")
    assert page.read_text() == PAGE.replace("two -->\n<", "two -->\n\nnew\n\n<")
    pages.write(page, "one", "1")
    before, after = PAGE.split("| a | b |")[0], PAGE.split("| x | 1 |")[1]
    assert page.read_text().startswith(before + "1\n\n<!-- end one -->")
    assert page.read_text().endswith(after.replace("two -->\n<", "two -->\n\nnew\n\n<"))
    assert [path.name for path in page.parent.iterdir()] == ["page.md"]


def test_writing_twice_is_writing_once(page):
    pages.write(page, "one", "text")
    once = page.read_text()
    pages.write(page, "one", pages.region(page, "one"))
    assert page.read_text() == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- begin one -->\n",
        "<!-- end one -->\n<!-- begin one -->\n",
        PAGE + PAGE,
        "in a line <!-- begin one -->\n<!-- end one -->\n",
    ],
)
def test_a_page_needs_its_markers_once(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"page.md needs one line '<!-- begin one -->'"):
        pages.write(path, "one", "text")
    assert path.read_text() == text


def test_markdown_sets_figures_on_the_right():
    rows = [
        {"case": "1", "ms": 12.345, "n": 25_500_000, "what": "2:4", "seeds": "1.50 (1.00-2.00)"},
        {"case": "b", "ms": 1234.5, "what": "50 %", "peer": None, "seeds": ""},
    ]
    assert tables.markdown(rows).splitlines() == [
        "| case | ms | n | what | seeds | peer |",
        "|---|---:|---:|---|---:|---:|",
        "| 1 | 12.3 | 25,500,000 | 2:4 | 1.50 (1.00-2.00) |  |",
        "| b | 1,234 |  | 50 % |  |  |",
    ]


def test_spread_is_the_mean_and_the_ends():
    assert tables.spread([1.0, 2.0, 6.0]) == "3.00 (1.00-6.00)"
    assert tables.spread([1.0], digits=3) == "1.000"


def make(**cells):
    return tables.markdown([{"method": name, "90 %": cell} for name, cell in cells.items()])


def test_moved_names_means_that_left_their_range():
    old = make(a="10.00 (9.00-11.00)", b="5.00 (4.90-5.10)", c="3.00", d="1,000", e="")
    new = make(
        a="11.90 (9.00-11.00)", b="4.70 (4.00-5.10)", c="3.70", d="1,300", e="1", f="0.1 (9)"
    )
    assert pages.moved(old, old) == []
    assert sorted(pages.moved(old, new)) == [
        "b, 90 %: 5.00 (4.90-5.10) -> 4.70 (4.00-5.10)",
        "d, 90 %: 1,000 -> 1,300",
    ]
    assert len(pages.moved(old, new, share=0.2)) == 3


def test_moved_sees_rows_of_figures_only():
    old = "| multiple | ms |\n|---:|---:|\n| 1 | 10 |\n| 4 | 20 |"
    new = old.replace("| 10 |", "| 30 |")
    assert pages.cells(old) == {("1", "ms"): "10", ("4", "ms"): "20"}
    assert pages.moved(old, new) == ["1, ms: 10 -> 30"]


def test_rows_and_columns_of_one_name_are_counted():
    text = "| x | ms | ms |\n|---|---:|---:|\n| a | 1 | 2 |\n| a | 3 | |"
    found = {("a", "ms"): "1", ("a", "ms (2)"): "2", ("a (2)", "ms"): "3", ("a (2)", "ms (2)"): ""}
    assert pages.cells(text) == found


def test_moved_names_columns_that_one_table_lacks():
    old = "| x | a | b |\n|---|---:|---:|\n| y | 1 | 2 |"
    assert pages.moved(old, old.replace("| b |", "| c |")) == [
        "column b is gone",
        "column c is new",
    ]
    assert pages.moved("Not measured yet.", old) == []
    assert pages.moved(old, "Not measured yet.") == []


def test_moved_leaves_out_what_one_table_lacks():
    assert pages.moved(make(a="1", b="1"), make(a="2", c="9")) == ["a, 90 %: 1 -> 2"]


def test_cells_of_two_tables_and_of_rows_with_two_names():
    first = "| x | of | ms |\n|---|---|---:|\n| a | b | 1 |\n| a | c | 2 |"
    text = f"{first}\n\n| y | s |\n|---|---:|\n| z | 3 |"
    assert pages.cells(text) == {("a, b", "ms"): "1", ("a, c", "ms"): "2", ("z", "s"): "3"}


def test_records_survive_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "new" / "cells.jsonl"
    assert files.records(path) == []
    files.append(path, {"unit": "a"})
    with open(path, "a") as stream:
        stream.write('{"unit": "b", "val')
    assert files.records(path) == [{"unit": "a"}]
    files.append(path, {"unit": "c"})
    assert files.records(path) == [{"unit": "a"}, {"unit": "c"}]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    files.write(path, json.dumps(1))
    with pytest.raises(UnicodeEncodeError):
        files.write(path, "\ud800")
    assert path.read_text() == "1"
