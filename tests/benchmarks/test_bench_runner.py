"""`python -m benchmarks`: tables are measured once and put into pages; a failure stops no other."""

import argparse
import dataclasses
import json
import subprocess
import sys

import processes
import pytest

from benchmarks import __main__ as runner
from benchmarks import environment, pages, scale
from benchmarks.parts import PARTS

DOCS = environment.ROOT / "docs"


def bench(out, *args):
    """What the command prints and its exit code."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(out), *args]
    env = {**processes.environment(), "COLUMNS": "500"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr, done.returncode


def test_every_part_has_a_region_and_every_region_a_part():
    of_page = {}
    for name, part in PARTS.items():
        of_page.setdefault(part.page, set()).add(name)
    for page, names in of_page.items():
        assert set(pages.names(DOCS / page)) == names, page


@pytest.mark.parametrize("name", PARTS)
def test_the_table_of_a_region_has_the_columns_that_its_part_gives(name):
    part = PARTS[name]
    text = pages.region(DOCS / part.page, name)
    if "Not measured yet" in text:
        assert "|" not in text
        return
    head = next(line for line in text.splitlines() if line.startswith("|"))
    assert head == f"| {part.columns} |"
    assert pages.cells(text)


def test_rows_of_a_part_are_in_its_columns():
    part = PARTS["paper"]
    assert list(part.rows(quick=True)[0]) == part.headings
    fewer = dataclasses.replace(part, columns="turns | model")
    assert list(fewer.rows(quick=True)[0]) == ["turns", "model"]
    with pytest.raises(ValueError, match=r"paper.rows gives no column \['nothing'\]"):
        dataclasses.replace(part, columns="model | nothing").rows(quick=True)


def test_pages_on_scale_have_the_rows_of_their_part():
    patterns = {(name, str(pattern)) for name, pattern in scale.CASES}
    for region in ("scale", "scale-tpu"):
        lines = pages.region(DOCS / "scale.md", region).splitlines()
        rows = [line.split(" | ") for line in lines if line.startswith("| ")][1:]
        assert {(row[0][2:], row[3]) for row in rows} == patterns


@pytest.mark.slow
def test_a_table_is_measured_once_and_written(tmp_path):
    printed, code = bench(tmp_path, "--only", "paper")
    assert code == 0, printed
    assert "as measured before" not in printed
    found = json.loads((tmp_path / "paper.json").read_text())
    text = pages.region(tmp_path / "docs" / "scale.md", "paper")
    assert text.startswith("`python -m benchmarks --only paper --rounds 1`. ")
    assert len(pages.cells(text)) == len(found["rows"]) * (len(found["rows"][0]) - 2)

    # What was measured is used again; a table that another program left unfinished is not.
    printed, code = bench(tmp_path, "--only", "paper")
    assert code == 0
    assert "as measured before" in printed
    (tmp_path / "paper.json").write_text(json.dumps(found | {"key": "of other code"}))
    assert "as measured before" not in bench(tmp_path, "--only", "paper")[0]


@pytest.mark.slow
def test_a_part_that_fails_is_named_and_the_others_are_made(tmp_path):
    (tmp_path / "scale.json").mkdir(parents=True)  # so it cannot be kept
    printed, code = bench(tmp_path, "--only", "scale", "paper", "--fresh")
    assert code == 1
    assert "scale FAILED: exit code 1" in printed
    assert "IsADirectoryError" in printed
    assert "paper FAILED" not in printed
    assert (tmp_path / "paper.json").exists()


def test_a_peer_that_cannot_be_imported_has_no_version(tmp_path, monkeypatch):
    (tmp_path / "peer_of_another_time.py").write_text("import os\nos.no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = environment.environment(("peer_of_another_time", "numpy"))
    assert found["peers"]["peer_of_another_time"] is None
    assert "so without figures: peer_of_another_time." in environment.sentence(found)
    assert "numpy" not in environment.sentence(found).partition("Not importable")[2]


def test_the_fingerprint_changes_with_settings_and_sources():
    same = [environment.fingerprint(["Makefile"], {"steps": 1}) for _ in range(2)]
    assert same[0] == same[1]
    assert environment.fingerprint(["Makefile"], {"steps": 2}) != same[0]
    assert environment.fingerprint(["pyproject.toml"], {"steps": 1}) != same[0]


def test_the_fingerprint_changes_with_every_version(monkeypatch):
    versions = environment.versions()
    assert {"Python", "jax", "jaxlib", "optax", "numpy", "flax", "scikit-learn"} <= set(versions)
    found = {environment.fingerprint([], {})}
    for name in versions:
        monkeypatch.setattr(environment, "versions", lambda name=name: versions | {name: "0"})
        found.add(environment.fingerprint([], {}))
    assert len(found) == 1 + len(versions)


def test_the_key_of_a_table_changes_with_peers_and_the_machine(monkeypatch):
    args = argparse.Namespace(rounds=None, quick=True)
    before = {name: runner.key(name, args) for name in ("selection", "step")}
    monkeypatch.setattr(runner, "peer_version", lambda name: "of another time")
    assert runner.key("selection", args) != before["selection"]
    assert runner.key("step", args) == before["step"]
    monkeypatch.setattr(runner, "machine", lambda: {"processor": "another", "cores": 2})
    assert runner.key("step", args) != before["step"]


def test_others_are_not_this_process():
    others = environment.Others()
    assert others.cores() is None or others.cores() >= 0
