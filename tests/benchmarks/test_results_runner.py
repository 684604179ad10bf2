"""`python -m benchmarks.results`: what was done is kept, whenever it is stopped."""

import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import processes
import pytest
from rich.console import Console

from benchmarks import (
    criteria,
    files,
    oneshot_aims,
    pages,
    results,
    sections,
    sparse_training,
    studies,
)
from benchmarks.environment import ROOT
from benchmarks.pool import side_by_side
from benchmarks.sections import SECTIONS
from jaxprune import oneshot

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
    return {"unit": unit, "seconds": 0.0, "rows": [{"method": unit, "0.9": [1.0]}]}

if __name__ == "__main__":
    path = folder / "decay.jsonl"
    now = results.key("decay", True)
    found = results.done(now, path)
    waiting = [unit for unit in "abc" if unit not in found]
    results.complete(Console(), results.side_by_side(work, waiting, 1), path, now, lambda: now)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    codes = [
        subprocess.run(
            [sys.executable, tmp_path / "program.py", tmp_path],
            env=processes.environment(),
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
    found = results.done(results.key("decay", True), tmp_path / "decay.jsonl")
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"]["rows"] == [{"method": "a", "0.9": [1.0]}]


def test_what_other_code_made_is_not_used(tmp_path):
    path = tmp_path / "decay.jsonl"
    now = results.key("decay", True)
    record = {"key": now, "unit": "a", "rows": []}
    for one in (record, record | {"unit": "b", "key": "of other code"}):
        files.append(path, one)
    assert list(results.done(now, path)) == ["a"]
    assert results.done(results.key("decay", False), path) == {}


def test_code_that_changes_while_it_runs_keeps_no_more(tmp_path):
    path, console = tmp_path / "decay.jsonl", Console(quiet=True)
    keys = iter(["old", "old", "new", "old"])
    finished = [(unit, {"unit": unit, "seconds": 0.0, "rows": []}, None) for unit in "abcd"]
    found = results.complete(console, iter(finished), path, "old", lambda: next(keys))
    assert list(found) == ["a", "b"] == list(results.done("old", path))
    assert results.done("new", path) == {}


def test_a_record_knows_what_it_was_done_on(tmp_path):
    path, console = tmp_path / "decay.jsonl", Console(quiet=True)
    record = {"unit": "a", "seconds": 0.0, "rows": []}
    results.complete(console, [("a", record, None)], path, "now", lambda: "now")
    kept = results.done("now", path)["a"]["environment"]
    assert kept["processor"]
    assert kept["versions"]["scikit-learn"]


HERE = {"processor": "A", "cores": 2, "versions": {"jax": "1"}, "device": None, "peers": {}}


def of(date, **other):
    return HERE | {"date": date} | other


def test_environments_are_a_span_of_dates():
    days = [of("2026-11-22"), of("2026-11-20", threads={"XLA": 2}), of("2026-11-21")]
    assert results.together(days) == of("2026-11-20 to 2026-11-22")
    assert results.together(days[:1]) == of("2026-11-22")


@pytest.mark.parametrize(
    "other", [{"processor": "B"}, {"cores": 4}, {"versions": {"jax": "2"}}, {"device": "GPU"}]
)
def test_figures_of_two_machines_make_no_table(other):
    with pytest.raises(ValueError, match=r"on machines that differ; do all on one, by --fresh"):
        results.together([of("2026-11-20"), of("2026-11-20", **other)])


def test_minutes_of_the_clock_are_counted_once():
    def record(begin, end, cpu):
        return {"ended": end, "seconds": end - begin, "cpu_seconds": cpu}

    # Two side by side, one within another, and one after a pause.
    records = [record(0, 600, 500), record(60, 120, 60), record(300, 900, 640)]
    records.append(record(90_000, 90_300, 300))
    assert results.spent(records) == "25 minutes of a core in 20 minutes"


def test_what_is_timed_has_no_neighbour_and_is_of_one_machine(monkeypatch):
    timed = {name for name, section in SECTIONS.items() if section.timed}
    assert timed == {"oneshot-lm", "oneshot-encoder", "compact-cnn", "compact-lm"}
    before = {name: results.key(name, True) for name in ("compact-cnn", "decay")}
    monkeypatch.setattr(results, "machine", lambda: {"processor": "another", "cores": 2})
    after = {name: results.key(name, True) for name in before}
    assert after["compact-cnn"] != before["compact-cnn"]
    assert after["decay"] == before["decay"]


EXAMPLE = """
import json, pathlib, sys
import jaxprune
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
run = {"bits_per_byte": 2.5, "seconds": 3.0}
found = {"dense": jaxprune.DENSE, "runs": {"Wanda": {"50 %": run, "2:4": run}}}
(out / "results.json").write_text(json.dumps(found))
"""


def test_an_example_runs_with_this_package_and_dense_has_a_column(tmp_path, monkeypatch):
    for folder, dense in (("here", 2.0), ("installed", 9.0)):
        (tmp_path / folder / "jaxprune").mkdir(parents=True)
        (tmp_path / folder / "jaxprune" / "__init__.py").write_text(f"DENSE = {dense}\n")
    (tmp_path / "here" / "examples").mkdir()
    (tmp_path / "here" / "examples" / "oneshot_lm.py").write_text(EXAMPLE)
    monkeypatch.setattr(sections, "ROOT", tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    (run,) = SECTIONS["oneshot-lm"].units(False, tmp_path / "out").values()
    assert run() == [
        {"method": "dense", "dense": "2.000"},
        {"method": "Wanda", "50 %": "2.500", "2:4": "2.500", "s": "6"},
    ]


class Tiny:
    """Eight by four weights, whose metric says which of them are left."""

    rate, steps, width = 0.0, 24, 8

    def init(self, key):
        return {"kernel": 1 + jax.random.uniform(key, (8, 4))}

    def sample(self, key):
        return jax.random.normal(key, (4, self.width))

    def logits(self, params, x):
        return x @ params["kernel"]

    def loss(self, params, batch):
        return (self.logits(params, batch[:, :8]) ** 2).mean()

    def evaluate(self, params):
        return (2.0 ** jnp.arange(32) * (params["kernel"].ravel() != 0)).sum()


def test_each_seed_draws_its_own_order():
    dense = {"kernel": 1 + jnp.ones((3, 8, 4))}
    for values, kept in (
        criteria.prune_at_once(Tiny(), dense, "random", 1, [0.5]),
        criteria.prune_gradually(Tiny(), dense, "random", 12, [0.5]),
    ):
        assert kept.tolist() == [[16, 16, 16]]
        assert len(set(values[0].tolist())) == 3


def test_levels_are_rows_and_seeds_are_columns():
    dense = {"kernel": 1 + jnp.ones((3, 8, 4))}
    for name in ("random", "magnitude, ERK"):  # which is solved on the host
        values, kept = criteria.prune_gradually(Tiny(), dense, name, 12, [0.25, 0.5])
        assert kept.tolist() == [[24] * 3, [16] * 3]
        assert values.shape == (2, 3)


def test_ac_dc_gives_a_row_for_its_dense_model():
    units = sparse_training.sparse_units(Tiny(), studies.Size(seeds=2, levels=(0.5,)))
    sparse, dense = units["AC/DC, 0.5"]()
    assert (sparse["method"], dense["method"]) == ("AC/DC", "AC/DC, its dense model")
    assert len(sparse["0.5"]) == len(dense["0.5"]) == 2
    (static,) = units["static, 0.5"]()
    assert max(static["0.5"]) < 2.0**32
    assert units["dense"]() == [{"method": "dense", "0.0": [2.0**32] * 2}]  # as float32 rounds it


def test_each_seed_has_batches_of_its_own():
    batches = criteria.calibration(Tiny(), 3, 2)
    assert [len(of_seed) for of_seed in batches] == [2, 2, 2]
    assert len({float(batch[0, 0]) for of_seed in batches for batch in of_seed}) == 6


def test_dense_is_no_aim(monkeypatch):
    monkeypatch.setattr(oneshot_aims, "METHODS", {})
    found = studies.gather(oneshot_aims.units(Tiny(), oneshot_aims.QUICK))
    assert list(studies.cells(found)[0]) == ["method", "sparsity", "dense"]


def test_a_method_has_a_figure_for_each_aim_and_seed(monkeypatch):
    methods = {"magnitude": oneshot.magnitude(), "SparseGPT": oneshot.sparsegpt()}
    monkeypatch.setattr(oneshot_aims, "METHODS", methods)
    monkeypatch.setattr(Tiny, "width", 9)  # of which targets are the last
    units = oneshot_aims.units(Tiny(), studies.Size(seeds=2, levels=(0.5,)), steps=2)
    (plain,), (moved,) = units["magnitude"](), units["SparseGPT"]()
    assert list(plain) == ["method", "sparsity", next(iter(oneshot_aims.AIMS))]
    assert list(moved) == ["method", "sparsity", *oneshot_aims.AIMS]
    assert {len(x) for row in (plain, moved) for x in row.values() if isinstance(x, list)} == {2}


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
