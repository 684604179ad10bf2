"""`python -m benchmarks.results`: what was done is kept, whenever it is stopped."""

import argparse
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from benchmarks import files, pages, pictures, results, studies
from benchmarks.environment import ROOT
from benchmarks.sections import SECTIONS

PROGRAM = """
import argparse, os, pathlib, signal, sys
from rich.console import Console
from benchmarks import results

folder = pathlib.Path(sys.argv[1])

def unit(name):
    def run():
        count = len(list(folder.glob(f"{name}-*")))
        (folder / f"{name}-{count}").touch()
        if name == "b" and count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"method": name, "0.9": [1.0, 2.0]}]
    return run

args = argparse.Namespace(quick=True, out=folder, fresh=False)
units = {name: unit(name) for name in "abc"}
results.complete(Console(), "decay", units, results.done("decay", args), args)
"""


def settings(folder, **more):
    return argparse.Namespace(**{"quick": True, "out": folder, "fresh": False} | more)


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    codes = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        ).returncode
        for _ in range(2)
    ]
    assert codes == [-signal.SIGKILL, 0]
    begun = sorted(path.name for path in tmp_path.glob("*-*"))
    assert begun == ["a-0", "b-0", "b-1", "c-0"]
    found = results.done("decay", settings(tmp_path))
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"]["rows"] == [{"method": "a", "0.9": [1.0, 2.0]}]


def test_what_other_code_made_is_not_used(tmp_path):
    now = {"key": results.key("decay", True), "unit": "a", "rows": []}
    for record in (now, now | {"unit": "b", "key": "of other code"}):
        files.append(tmp_path / "decay.jsonl", record)
    assert list(results.done("decay", settings(tmp_path))) == ["a"]
    assert results.done("decay", settings(tmp_path, quick=False)) == {}
    assert results.done("decay", settings(tmp_path, fresh=True)) == {}


def test_a_unit_that_fails_is_left_out(tmp_path, capsys):
    units = {"bad": lambda: 1 / 0, "good": list}
    found = results.complete(Console(), "decay", units, {}, settings(tmp_path))
    assert list(found) == ["good"]
    assert "ZeroDivisionError" in capsys.readouterr().err


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


def test_a_picture_is_the_same_from_the_same_data(tmp_path):
    rng = np.random.default_rng(0)
    series = {f"method {i}": {s: rng.random(3).tolist() for s in (0.8, 0.98)} for i in range(3)}
    texts = []
    for _ in range(2):
        pictures.tradeoff(tmp_path / "a.svg", series, dense=[1.0], metric="m", title="t")
        texts.append((tmp_path / "a.svg").read_text())
    assert texts[0] == texts[1]
