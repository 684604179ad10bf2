"""Examples of smaller models: sizes in closed form, and the same function as when masked."""

import json
import re

import pytest
from example_runner import run_script

pytestmark = pytest.mark.slow


def run(*args):
    """What the example prints and the figures that it writes, on one device, warnings as errors."""
    *_, out = args
    text = run_script("-W", "error", *map(str, args))
    errors = re.search(r"Verified\(forward=(\S+), gradient=(\S+)\)", text)
    assert all(float(error) < 1e-4 for error in errors.groups())
    return text, json.loads((out / "results.json").read_text())


def weights_of_cnn(stream, hidden, late, late_hidden_1, late_hidden_2):
    """Of the residual network of compact_cnn.py, with biases and norms."""

    def conv(inputs, outputs, side=3):
        return side * side * inputs * outputs + 2 * outputs

    return (
        conv(1, stream)
        + conv(stream, hidden)
        + conv(hidden, stream)
        + conv(stream, late_hidden_1)
        + conv(late_hidden_1, late)
        + conv(stream, late, side=1)
        + conv(late, late_hidden_2)
        + conv(late_hidden_2, late)
        + 10 * late
        + 10
    )


def test_compact_cnn_has_the_planned_size_and_computes_the_same(tmp_path):
    text, found = run("examples/compact_cnn.py", "--quick", "--out", tmp_path)
    assert found["dense"]["parameters"] == weights_of_cnn(48, 48, 96, 96, 96)
    assert found["masked"]["parameters"] == found["dense"]["parameters"]
    kept = re.findall(r"params/(?:stem|block_.)\S+ +\d+ +(\d+)", text)
    stream, hidden, first, late, second = map(int, kept)
    assert found["compact"]["parameters"] == weights_of_cnn(stream, hidden, late, first, second)
    assert found["compact"]["macs"] <= found["dense"]["macs"] / 2
    assert all(0 <= one["accuracy"] <= 1 for one in found.values())
    assert re.search(r"compact is (within|NOT within) 1 point of dense", text)
    assert (tmp_path / "layers.png").exists()


def test_compact_lm_loses_half_of_the_heads_and_hidden_units_and_writes(tmp_path):
    small = ["--steps", "5", "--width", "64", "--layers", "1", "--rounds", "1", "--bytes", "6"]
    text, found = run("examples/compact_lm.py", *small, "--out", tmp_path)
    dense, masked, compact = (found[name] for name in ("dense", "masked", "compact"))
    attention, hidden = 4 * 64 * 32, 128 * 64 + 128 + 128 * 64  # of one of two heads, of 128 units
    assert dense["parameters"] - compact["parameters"] == attention + hidden
    products = 64 * (4 * 64 * 32 + 2 * 64 * 128)  # of 64 positions with weights
    assert dense["macs"] - compact["macs"] == products + 2 * 64 * 64 * 32  # and with each other
    assert compact["bits_per_byte"] == pytest.approx(masked["bits_per_byte"], rel=1e-5)
    assert (tmp_path / "heads.png").exists()
    assert "The compact model writes:\n    def __init__(self, " in text
