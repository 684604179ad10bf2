"""Each example runs from the repository root, in a process of its own, with few steps."""

import json
import re

import pytest
from example_runner import run_script

pytestmark = pytest.mark.slow


def test_gmp_digits_reaches_the_exact_sparsity(tmp_path):
    text = run_script("examples/gmp_digits.py", "--quick", "--out", str(tmp_path))
    (sparse,) = json.loads((tmp_path / "results.json").read_text())["runs"]["sparse"]
    layers = sparse["layers"].values()
    assert len(layers) == 6
    assert all(layer["nonzero"] == layer["kept"] for layer in layers)
    assert all(layer["kept"] == round(layer["size"] * (1 - 0.9)) for layer in layers)
    assert "90.00 %" in text
    assert {path.name for path in tmp_path.iterdir()} == {
        "layers.png",
        "results.json",
        "results.md",
        "sparsity.png",
    }


@pytest.mark.parametrize("example", ["raw_pytree", "nnx_digits", "equinox_digits"])
def test_other_examples_print_the_exact_density(example, tmp_path):
    plot = tmp_path / "plot.png"
    text = run_script(f"examples/{example}.py", "--steps", "20", "--out", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")
    rows = [
        line.replace(",", "").split() for line in text.splitlines() if "x" in line and "%" in line
    ]
    assert len(rows) >= 2
    for *_, size, kept, _, _, nonzero in rows:  # after the size and the count: "90.00", "%"
        assert int(kept) == int(nonzero) == round(int(size) * (1 - 0.9))
    assert re.search(r"test accuracy \d+\.\d+%", text)


def test_lottery_digits_beats_or_not_and_says_so(tmp_path):
    """12 rounds are for the user; here two, and again, when all of them are there already."""
    first = run_script("examples/lottery_digits.py", "--quick", "--out", str(tmp_path))
    again = run_script("examples/lottery_digits.py", "--quick", "--out", str(tmp_path))
    last = r"with 64\.0 % of the weights: ticket \S+ %, random masks \S+ %, random init \S+ %"
    assert re.search(last, first)
    assert re.search(last, first)[0] == re.search(last, again)[0]
    assert {path.name for path in tmp_path.iterdir()} == {
        "rounds_40_2",
        "tickets.md",
        "tickets.png",
    }


def test_rigl_digits_has_the_exact_number_of_weights(tmp_path):
    plot = tmp_path / "mask.png"
    text = run_script("examples/rigl_digits.py", "--quick", "--out", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")
    prunable = re.search(r"prunable +([\d,]+) +([\d,]+)", text)
    size, kept = (int(x.replace(",", "")) for x in prunable.groups())
    assert kept == round(size * (1 - 0.95))
    for name in ("dense", "static", "SET", "RigL"):
        assert re.search(rf"^{name} +\d+\.\d+ %", text, re.M)


def test_ac_dc_gives_a_dense_and_a_sparse_network(tmp_path):
    plot = tmp_path / "training.png"
    text = run_script("examples/ac_dc_digits.py", "--quick", "--out", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert re.search(r"dense, before the last compression: \d+\.\d+ %", text)
    assert re.search(r"with 10\.0 % of the weights: \d+\.\d+ %", text)
