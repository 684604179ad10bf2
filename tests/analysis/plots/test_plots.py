"""All plots: files, what to install, and traced values; and that of gains."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import assert_inside

from jaxprune import analysis
from jaxprune.analysis import plots

GAINS = analysis.Gains(
    "cpu",
    0.5,
    (analysis.Form("dense", 8, 8, 2.0, 1.0), analysis.Form("compact", 4, 4, 1.0, 2.5)),
    {"dense": 32, "bitmask": 20},
    (),
)
SENSITIVITY = analysis.Sensitivity(("a",), (0.5,), np.ones((1, 1)), 0.5, np.ones((1, 1), int))
DRAW = {
    "training": lambda path=None: plots.training([0, 1], [0, 0.5], path=path),
    "layers": lambda path=None: plots.layers({"a": np.eye(4) > 0}, path=path),
    "mask": lambda path=None: plots.mask(np.eye(4) > 0, path=path),
    "tradeoff": lambda path=None: plots.tradeoff({"a": {0.5: 1.0}}, path=path),
    "sensitivity": lambda path=None: plots.sensitivity(SENSITIVITY, path),
    "gains": lambda path=None: plots.gains(GAINS, path),
}


def test_gains_draws_speeds_and_shares_of_bytes():
    left, right = plots.gains(GAINS).axes
    assert [bar.get_width() for bar in left.patches] == [1.0, 2.5]
    assert [bar.get_width() for bar in right.patches] == [1.0, 20 / 32]
    assert [text.get_text() for text in right.texts] == ["1.000", "0.625"]
    assert GAINS.plot().axes[0].get_title("left") == "cpu"


def test_gains_of_what_was_not_measured_and_of_no_bytes():
    forms = GAINS.forms[0], analysis.Form("compact", 4, 4, np.nan, np.nan)
    figure = plots.gains(dataclasses.replace(GAINS, forms=forms, files={"dense": 0, "bitmask": 0}))
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["1.00", "not measured"]
    assert [bar.get_width() for bar in right.patches] == [0, 0]
    assert left.get_xlim() == right.get_xlim() == (0, 1.2)
    assert_inside(figure)


def test_every_plot_is_tested_here():
    assert set(DRAW) == set(plots.__all__)


@pytest.mark.parametrize("name", DRAW)
def test_saves_by_the_ending_and_leaves_settings_alone(name, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for ending, begin in begins.items():
        DRAW[name](tmp_path / f"one.{ending}")
        DRAW[name](str(tmp_path / f"two.{ending}"))
        one, two = ((tmp_path / f"{n}.{ending}").read_bytes() for n in ("one", "two"))
        assert one.startswith(begin)
        assert one == two  # no dates, no random names: a picture changes when what it shows does
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib_it_says_what_to_install(name, monkeypatch):
    for module in [m for m in sys.modules if m.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needs matplotlib; .*pip install 'jaxprune\[report\]'"):
        DRAW[name]()


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda x: plots.training([0, 1], x), "sparsity"),
        (lambda x: plots.training([0, 1], [0, 0], {"loss": x}), "loss"),
        (lambda x: plots.tradeoff({"a": {0.5: x}}), r"results\['a'\]\[0.5\]"),
        (lambda x: plots.tradeoff({"a": {0.5: 1}}, dense=x), "dense"),
        (lambda x: plots.mask(x > 0), "mask"),
        (lambda x: plots.layers({"a": x > 0}), "masks"),
    ],
)
def test_traced_values_are_refused(draw, what):
    with pytest.raises(TypeError, match=rf"{what} (is|are) traced and cannot be drawn; plot out"):
        jax.jit(draw)(jnp.ones(2))
