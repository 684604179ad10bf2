"""Peers are measured where they work; where one fails, the table is made without it."""

import sys

import jax
import numpy as np
import pytest

from benchmarks import environment, peers, selection, tables

OLD = """
import types

class MagnitudePruning:
    def __init__(self, **options):
        del options

    def instant_sparsify(self, tree, grads):
        raise AttributeError("no such name | in jax\\nand more")

class RandomPruning(MagnitudePruning):
    pass

class SaliencyPruning(MagnitudePruning):
    pass

class GlobalMagnitudePruning(MagnitudePruning):
    pass
"""


@pytest.fixture
def old_peer(tmp_path, monkeypatch):
    """A JaxPruner that can be imported and fails at its first call."""
    folder = tmp_path / "jaxpruner"
    folder.mkdir()
    (folder / "__init__.py").write_text(OLD)
    (folder / "sparsity_types.py").write_text("")
    for name in [name for name in sys.modules if name.partition(".")[0] == "jaxpruner"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("jaxpruner", "jaxpruner.sparsity_types"):
        sys.modules.pop(name, None)


def test_a_peer_that_fails_when_called_leaves_its_column_empty_and_says_why(old_peer):
    def cases(side, stages):
        del side, stages
        for name in ("a", "b"):
            yield name, {"kernel": jax.numpy.ones((4, 4))}, {"sparsity": 0.5}, "local"

    rows = list(selection.measured(cases, 1, True))
    assert all(row["JaxPruner"] is None and row["NumPy"] > 0 for row in rows)
    why = "JaxPruner can be imported, but fails where its cell is empty: AttributeError: no such"
    lines = tables.markdown(rows).splitlines()
    assert [line for line in lines if not line.startswith("|")] == ["", f"{why} name | in jax."]
    assert tables.NOTES not in lines[0]
    assert tables.table("title", rows).caption == f"{why} name | in jax."


def test_a_peer_that_does_not_know_a_kind_is_left_out_without_a_word(old_peer):
    kernels = [np.ones((4, 4), np.float32)]
    assert list(peers.functions("lamp", kernels, 0.5)[0]) == ["NumPy"]
    assert peers.functions("lamp", kernels, 0.5)[1] == []


def test_all_functions_of_a_peer_are_tried():
    def fails():
        raise ValueError

    made, failed = peers.tried(
        {"a": lambda: {"x": int, "y": fails}, "b": lambda: {"x": int}, "c": lambda: None}
    )
    assert made == {"b": {"x": int}}
    assert failed == ["a can be imported, but fails where its cell is empty: ValueError."]


def test_threads_are_counted_and_said():
    jax.block_until_ready(jax.jit(lambda x: x @ x)(np.ones((64, 64), np.float32)))
    found = environment.environment()
    cores = found["cores"]
    assert found["threads"].get("XLA", cores) >= cores  # more for devices that are simulated
    line = environment.sentence(found | {"threads": {"XLA": 3, "torch": 2}})
    assert "3 threads of XLA, 2 threads of torch, " in line


def test_torch_has_a_thread_for_each_core():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        environment.take_cores(())
        assert torch.get_num_threads() == before + 1
        environment.take_cores(("torch",))
        found = environment.environment(("torch",))
        assert found["threads"]["torch"] == found["cores"]
    finally:
        torch.set_num_threads(before)
