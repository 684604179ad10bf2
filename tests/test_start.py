"""The loops of docs/start.md, before and after: few lines change, and the zeros are there."""

import difflib
import pathlib
import re
import sys
import types

import jax
import numpy as np
import pytest

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "start.md"
LOOP = re.compile(r"^### (.+?)\n.*?^```diff\n(.*?)^```$", re.M | re.S)
LOOPS = dict(LOOP.findall(PAGE.read_text(encoding="utf-8")))
SPARSITY = 0.9
every_loop = pytest.mark.parametrize("name", LOOPS)


def before_and_after(diff):
    """The two programs of a diff, as lines."""
    lines = diff.splitlines()
    assert all(line[:1] in ("", " ", "+", "-") for line in lines)
    return tuple([line[1:] for line in lines if line[:1] != left_out] for left_out in "+-")


def run(lines, monkeypatch):
    """What the program leaves behind: its names."""
    module = types.ModuleType("a_loop")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile("\n".join(lines), str(PAGE), "exec"), vars(module))
    return vars(module)


def weights(names):
    """The weights of two axes, wherever the loop has them."""
    model = getattr(names.get("state"), "params", names.get("model"))
    if "optimizer" in names:
        model = names["nnx"].state(model, names["nnx"].Param)
    leaves = jax.tree.leaves(names["params"] if model is None else model)
    return [np.asarray(x) for x in leaves if getattr(x, "ndim", 0) == 2]


def test_the_page_has_all_four():
    assert list(LOOPS) == ["Flax linen", "Flax NNX", "Equinox", "Raw pytree"]


@every_loop
def test_fewer_than_ten_lines_change(name):
    before, after = before_and_after(LOOPS[name])
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert 3 <= sum(line[0] == "+" for line in changed) < 10
    assert sum(line[0] == "-" for line in changed) <= 1
    assert not any("jaxprune" in line for line in before)


@every_loop
def test_the_loop_as_it_was_runs_and_is_dense(name, monkeypatch):
    before, _ = before_and_after(LOOPS[name])
    assert all((w != 0).all() for w in weights(run(before, monkeypatch)))


@every_loop
def test_the_pruned_loop_ends_at_the_sparsity_asked_for(name, monkeypatch, capsys):
    _, after = before_and_after(LOOPS[name])
    found = weights(run(after, monkeypatch))
    assert len(found) == 2
    for w in found:
        assert np.count_nonzero(w) == round(w.size * (1 - SPARSITY))
    assert "whole model" in capsys.readouterr().out
