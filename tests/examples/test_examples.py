"""Each example runs from the repository root, in a process of its own, with few steps."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run(*args):
    """The example's standard output; its warnings are errors, as in the session."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # One device, as a user has; conftest simulates eight.
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    done = subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("flags", "sparsity"), [((), 0.9), (("--pattern", "nm"), 0.5), (("--scope", "global"), 0.9)]
)
def test_gmp_digits_reaches_the_exact_sparsity(tmp_path, flags, sparsity):
    text = run("examples/gmp_digits.py", "--quick", "--out", str(tmp_path), *flags)
    (sparse,) = json.loads((tmp_path / "results.json").read_text())["runs"]["sparse"]
    layers = sparse["layers"].values()
    assert len(layers) == 6
    assert all(layer["nonzero"] == layer["kept"] for layer in layers)
    groups = [layers] if "global" in flags else [[layer] for layer in layers]
    for group in groups:
        kept, size = (sum(layer[key] for layer in group) for key in ("kept", "size"))
        assert kept == round(size * (1 - sparsity))
    assert f"{100 * sparsity:.2f} %" in text
    assert {path.name for path in tmp_path.iterdir()} == {
        "layers.png",
        "results.json",
        "results.md",
        "sparsity.png",
    }


@pytest.mark.parametrize(
    ("example", "flags", "density"),
    [
        ("raw_pytree", (), 0.1),
        ("nnx_digits", (), 0.1),
        ("equinox_digits", (), 0.1),
        ("equinox_digits", ("--pattern", "nm"), 0.5),
    ],
)
def test_other_examples_print_the_density(example, flags, density):
    text = run(f"examples/{example}.py", "--steps", "20", *flags)
    rows = [
        line.replace(",", "").split() for line in text.splitlines() if "x" in line and "%" in line
    ]
    assert len(rows) >= 2
    for *_, size, kept, _, _, nonzero in rows:  # after the size and the count: "90.00", "%"
        assert int(kept) == int(nonzero) == round(int(size) * density)
    assert re.search(r"test accuracy \d+\.\d+%", text)
