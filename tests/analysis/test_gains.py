"""What is measured is what is run, and what is said of a pattern is so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprune
from jaxprune import analysis, compact, export

NAMES = ["a", "b"]


def apply(params, x):
    for name in NAMES:
        x = jax.nn.relu(x @ params[name]["kernel"])
    return x


@pytest.fixture(scope="module")
def params():
    keys = jax.random.split(jax.random.key(0), len(NAMES))
    return {
        n: {"kernel": jax.random.normal(k, (256, 256)) / 16}
        for n, k in zip(NAMES, keys, strict=True)
    }


X = np.ones((4, 256), np.float32)


def measured(params, masks=None, **options):
    options = {"formats": ["bitmask"], "rounds": 2} | options
    return analysis.gains(apply, params, X, masks=masks, **options)


def test_zeros_that_lie_anywhere(params):
    pruned, masks = jaxprune.prune_params(params, 0.9)
    found = measured(pruned, masks, formats=["dense", "bitmask", "csr"])
    dense, masked, finalized, products = found.forms
    assert [f.name for f in found.forms] == ["dense", "masked", "finalized", "bcsr, products alone"]
    assert dense.speedup == 1
    assert dense.weights == masked.weights == finalized.weights == 2 * 256**2
    assert dense.macs == finalized.macs == 4 * 2 * 256**2
    kept = sum(int(m["kernel"].sum()) for m in masks.values())
    assert (products.weights, products.macs) == (kept, 4 * kept)
    assert all(f.milliseconds > 0 and f.speedup > 0 for f in found.forms)
    assert found.sparsity == pytest.approx(1 - kept / (2 * 256**2))
    assert dict(found.files) == export.sizes(pruned, masks, formats=["dense", "bitmask", "csr"])
    assert any("lie anywhere" in line for line in found.advice)
    assert found["masked"] is masked
    with pytest.raises(KeyError, match="'blocks' was not measured; dense, masked"):
        found["blocks"]


def test_blocks_are_run_as_blocks(params):
    pruned, masks = jaxprune.prune_params(params, 0.9, pattern=jaxprune.Block((64, 64)))
    found = measured(pruned, masks)
    blocks = found["blocks"]
    stored = jaxprune.sparse.to_blocks(pruned, masks, block=(64, 64))
    numbers = sum(x.size for x in jax.tree.leaves(stored) if x.dtype == jnp.float32)
    assert blocks.weights == numbers
    assert blocks.macs == 4 * numbers
    assert any("blocks of 32x32 zeros" in line for line in found.advice)


def test_a_plan_is_run_cut(params):
    plan = compact.plan(compact.trace_groups(apply, params, X), params, sparsity=0.5)
    found = measured(params, plan.masks(), plan=plan, formats=["bitmask", "bitmask zstd"])
    small = plan.cut(params)
    assert found["compact"].weights == sum(x.size for x in jax.tree.leaves(small))
    assert found["compact"].macs == plan.macs[1]
    assert found.files["compact"] == 4 * found["compact"].weights
    assert found.files["compact zstd"] < found.files["compact"] * 1.01
    assert any("removed by the plan" in line for line in found.advice)


def test_channels_without_a_plan_are_pointed_out(params):
    pruned = jax.tree.map(lambda w: w.at[:, :64].set(0), params)
    found = measured(pruned)
    assert [f.name for f in found.forms] == ["dense"]
    assert any("128 of 1,024 rows and columns" in line for line in found.advice)


def test_two_of_four_is_said_to_gain_bytes_alone(params):
    pruned, masks = jaxprune.prune_params(params, 0.5, pattern=jaxprune.NM(2, 4))
    assert any(line.startswith("2:4 holds") for line in measured(pruned, masks).advice)


def test_nothing_is_pruned(params):
    found = measured(params)
    assert found.advice == ("No matrix is pruned: there is nothing to gain.",)
    assert found.sparsity == 0


def test_it_prints_and_draws(params, tmp_path):
    found = measured(*jaxprune.prune_params(params, 0.9))
    text = str(found)
    assert "90.00 % zeros" in text
    assert "bcsr, products alone" in text
    assert "1.00 x" in text
    figure = found.plot(tmp_path / "gains.png")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "speed, dense = 1",
        "bytes in a file, dense = 1",
    ]
    assert (tmp_path / "gains.png").stat().st_size


@pytest.mark.parametrize("rounds", [0, True, 2.0])
def test_rounds_are_counted(params, rounds):
    with pytest.raises(ValueError, match=f"rounds={rounds!r} must be a whole number"):
        measured(params, rounds=rounds)
