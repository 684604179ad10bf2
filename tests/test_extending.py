"""The files and lines of docs/extending.md, put into a copy of the project, pass its tables."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGE, re.M | re.S)
DIFFS = re.findall(r"^```diff\n\+\+\+ (\S+)\n(.*?)^```$", PAGE, re.M | re.S)
NAMES = ["column_share", "column share", "diagonals", "square_root", "sine"]
TABLES = [
    "tests/scores/test_criterion_contract.py",
    "tests/scores/test_column_share.py",
    "tests/patterns/test_pattern_contract.py",
    "tests/allocate/test_allocate.py",
    "tests/schedules/test_schedules.py",
    "tests/test_architecture.py",
    "tests/test_doctests.py",
]


def sides(diff):
    """What a diff finds and what it leaves, as text."""
    lines = [line or " " for line in diff.splitlines()]
    return ("".join(f"{x[1:]}\n" for x in lines if x[0] != left_out) for left_out in "+-")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project with what the page adds."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("jaxprune", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, text in FILES:
        assert not (copy / path).exists(), path
        (copy / path).write_text(text, encoding="utf-8")
    for path, diff in DIFFS:
        text = (copy / path).read_text(encoding="utf-8")
        before, after = sides(diff)
        assert text.count(before) == 1, f"{path} has not once:\n{before}"
        (copy / path).write_text(text.replace(before, after), encoding="utf-8")
    return copy


def test_each_is_one_file_of_about_a_page():
    files = [text for path, text in FILES if path.startswith("jaxprune/")]
    assert len(files) == 4
    assert max(text.count("\n") for text in files) <= 75


def run(project, *command):
    """What a command prints in the copy; it ends well."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_list_of_what_is_public_gets_their_lines(project):
    listed = project / "tests" / "public_api.txt"
    before = set(listed.read_text().splitlines())
    run(project, "tests/test_public_api.py")
    new = set(listed.read_text().splitlines()) - before
    names = {"column_share", "Diagonals", "square_root", "sine"}
    assert before < before | new
    assert {re.split(r"[.(]", line)[2] for line in new} == names


@pytest.mark.slow
def test_the_tables_pass(project):
    chosen = " or ".join(f"({name})".replace(" ", " and ") for name in NAMES)
    said = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TABLES, "-k", chosen)
    assert int(re.search(r"(\d+) passed", said)[1]) > 50, said
