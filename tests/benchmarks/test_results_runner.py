"""`python -m benchmarks.results`: what was done is kept, whenever it is stopped."""

import os
import signal
import subprocess
import sys

import pytest

from benchmarks import files, pages, results, studies
from benchmarks.environment import ROOT
from benchmarks.pool import side_by_side
from benchmarks.sections import SECTIONS

PROGRAM = """
import os, pathlib, signal, sys, time
from rich.console import Console
from benchmarks import results

folder = pathlib.Path(sys.argv[1])

def work(unit):
    count = len(list(folder.glob(f"{unit}-*")))
    (folder / f"{unit}-{count}").touch()
    if unit == "b" and count == 0:
        while not results.files.records(folder / "decay.jsonl"):
            time.sleep(0.01)  # until what "a" found is kept
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
        (folder / "outlived").touch()
    key = results.key("decay", True)
    return {"key": key, "unit": unit, "seconds": 0.0, "rows": [{"method": unit, "0.9": [1.0]}]}

if __name__ == "__main__":
    path = folder / "decay.jsonl"
    found = results.done("decay", True, path)
    waiting = [unit for unit in "abc" if unit not in found]
    results.complete(Console(), waiting, work, path, 1)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "program.py").write_text(PROGRAM)
    codes = [
        subprocess.run(
            [sys.executable, tmp_path / "program.py", tmp_path],
            env={**os.environ, "PYTHONPATH": path},
            check=False,
            timeout=50,  # of the worker, too, which has the same output
            stdout=subprocess.PIPE,
        ).returncode
        for _ in range(2)
    ]
    assert codes == [-signal.SIGKILL, 0]
    begun = sorted(path.name for path in tmp_path.glob("*-*"))
    assert begun == ["a-0", "b-0", "b-1", "c-0"]
    assert not (tmp_path / "outlived").exists()
    found = results.done("decay", True, tmp_path / "decay.jsonl")
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"]["rows"] == [{"method": "a", "0.9": [1.0]}]


def test_what_other_code_made_is_not_used(tmp_path):
    path = tmp_path / "decay.jsonl"
    now = {"key": results.key("decay", True), "unit": "a", "rows": []}
    for record in (now, now | {"unit": "b", "key": "of other code"}):
        files.append(path, record)
    assert list(results.done("decay", True, path)) == ["a"]
    assert results.done("decay", False, path) == {}


def cores_of(item):
    """A number's reciprocal, and the cores of the process."""
    return 1 / item, sorted(os.sched_getaffinity(0))


def test_processes_share_the_cores_and_a_failure_is_one_item():
    jobs = min(2, len(os.sched_getaffinity(0)))
    found = {
        item: (result, error) for item, result, error in side_by_side(cores_of, range(4), jobs)
    }
    assert isinstance(found[0][1], ZeroDivisionError)
    assert [found[i][0][0] for i in (1, 2, 3)] == [1, 1 / 2, 1 / 3]
    own = os.sched_getaffinity(0)
    for item in (1, 2, 3):
        assert set(found[item][0][1]) < own if jobs > 1 else set(found[item][0][1]) == own


def test_every_section_has_a_region_and_every_region_a_section():
    assert set(pages.names(ROOT / "docs" / "results.md")) == set(SECTIONS)


def test_sources_of_sections_exist():
    for name, section in SECTIONS.items():
        assert all((ROOT / source).is_file() for source in section.sources), name


def test_units_of_studies_have_methods_by_levels():
    units = SECTIONS["sparse-digits"].units(False, None)
    assert len(units) == 1 + 8 * 3
    assert "RigL, 0.95" in units
    assert len(SECTIONS["digits"].units(False, None)) == 1 + 9 * 2


def test_rows_that_say_the_same_are_one():
    rows = [
        {"method": "a", "how": "x", "0.9": [1.0]},
        {"method": "b", "how": "x", "0.9": [5.0]},
        {"method": "a", "how": "x", "0.95": [2.0]},
        {"method": "a", "how": "x", "0.9": [3.0]},
    ]
    assert studies.merged(rows) == [
        {"method": "a", "how": "x", "0.9": [1.0, 3.0], "0.95": [2.0]},
        {"method": "b", "how": "x", "0.9": [5.0]},
    ]
    assert studies.cells(studies.merged(rows)) == [
        {"method": "a", "how": "x", "90 %": "2.00 (1.00-3.00)", "95 %": "2.00"},
        {"method": "b", "how": "x", "90 %": "5.00", "95 %": ""},
    ]


@pytest.mark.parametrize(
    ("column", "shown"), [("0.0", "dense"), ("0.488", "48.8 %"), ("0.79", "79 %"), ("aim", "aim")]
)
def test_headings(column, shown):
    assert studies.heading(column) == shown


def test_a_section_draws_a_picture_for_each_part(tmp_path):
    rows = [
        {"method": "dense", "how": "", "0.0": [98.0]},
        {"method": "a", "how": "gradual", "0.9": [90.0, 92.0], "0.95": [80.0, 90.0]},
        {"method": "a", "how": "one-shot", "0.9": [50.0, 51.0]},
    ]
    made = results.draw(tmp_path, "digits", rows)
    assert [path.name for path in made.values()] == ["digits-gradual.svg", "digits-one-shot.svg"]
    assert all("</svg>" in path.read_text() for path in made.values())
    assert results.draw(tmp_path, "oneshot-aims", rows) == {}
