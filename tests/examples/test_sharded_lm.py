"""The sharded language model: run to its end, interrupted and resumed, and on other devices."""

import json
import shutil

import pytest
from example_runner import run_script

CHECKPOINT = 3  # of 8 steps: before the last event, which is step 6

pytestmark = pytest.mark.slow


def run(out, *args):
    """What the example prints, where every warning is an error."""
    small = f"--steps 8 --width 32 --layers 1 --checkpoint-every {CHECKPOINT} --out {out}"
    return run_script(
        "-W", "error", "examples/sharded_lm.py", *small.split(), *args, num_devices=None
    )


def results(out):
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupts: its folder, and what it prints."""
    out = tmp_path_factory.mktemp("whole")
    return out, run(out, "--devices", "2")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that stops two steps after its last checkpoint."""
    out = tmp_path_factory.mktemp("interrupted")
    run(out, "--devices", "2", "--stop-after", str(CHECKPOINT + 2))
    assert [path.name for path in out.iterdir()] == ["checkpoints"]
    assert [path.name for path in (out / "checkpoints").iterdir()] == [str(CHECKPOINT)]
    return out


def assert_exact(found):
    size = sum(found["size"].values())
    assert sum(found["kept"].values()) == round(size * (1 - 0.8))
    assert found["sparsity"] == pytest.approx(0.8, abs=1 / size)


def test_it_learns_and_reaches_the_exact_sparsity(whole):
    out, text = whole
    found = results(out)
    assert_exact(found)
    assert not any("embed" in path or "position" in path for path in found["kept"])
    assert len(found["kept"]) == 6  # query, key, value, out, up, down
    assert found["bits_per_byte"]["end"] < found["bits_per_byte"]["start"] < 10
    assert "80.00 %" in text
    assert {path.name for path in out.iterdir()} == {"checkpoints", "results.json", "training.png"}


def test_a_resumed_run_is_the_same_to_the_bit(whole, interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    run(tmp_path, "--devices", "2", "--resume")
    found, expected = results(tmp_path), results(whole[0])
    assert (found["resumed_at"], expected["resumed_at"]) == (CHECKPOINT, 0)
    for part in ("digest", "kept", "history"):
        assert found[part] == expected[part]


def test_it_resumes_on_another_number_of_devices(whole, interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    run(tmp_path, "--devices", "4", "--resume")
    found, expected = results(tmp_path), results(whole[0])
    assert (found["resumed_at"], expected["resumed_at"]) == (CHECKPOINT, 0)
    assert_exact(found)
    # Sums over 4 devices round differently than over 2, so a few weights may change places.
    assert found["kept"] == pytest.approx(expected["kept"], abs=5)
    assert found["history"]["loss"] == pytest.approx(expected["history"]["loss"], rel=1e-3)
