"""The dry run says what the real one does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import NM, Block, Rule, allocate, linear, masks, plan, prune_params

SHAPES = {"a": (8, 4), "b": (4, 12)}
PARAMS = {
    name: {"kernel": np.random.default_rng(i).normal(size=s).astype(np.float32) * 10**i}
    for i, (name, s) in enumerate(SHAPES.items())
}
OPTIONS = {
    "leaf": {},
    "global": {"scope": "global"},
    "bounded": {"scope": "global", "max_sparsity": 0.875},
    "erdos_renyi": {"allocate": allocate.erdos_renyi},
    "mapping": {"allocate": {"a/.*": 0.25}},
    "rules": {"rules": [Rule("a/.*", dense=True), Rule("b/.*", sparsity=0.5)]},
    "cost": {"scope": "global", "cost": {"a/kernel": 320, "b/kernel": 48}},
    "nm": {"pattern": NM(2, 4)},
    "block": {"pattern": Block((2, 2))},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_plan_is_what_happens(name):
    planned = plan(PARAMS, 0.75, **OPTIONS[name])
    _, made = prune_params(PARAMS, 0.75, **OPTIONS[name])
    kept = {k: None if m["kernel"] is None else int(m["kernel"].sum()) for k, m in made.items()}
    assert [leaf.path for leaf in planned.leaves] == ["a/kernel", "b/kernel"]
    for leaf, (key, number) in zip(planned.leaves, kept.items(), strict=True):
        assert leaf.shape == SHAPES[key]
        assert leaf.kept == (leaf.size if number is None else number)
        assert (leaf.dense is None) == (number is not None)


def test_leaves_that_are_no_arrays():
    params = {
        "kernel": np.ones((4, 4), np.float32),
        "flag": True,
        "float": 1.5,
        "function": jnp.sin,
        "int": 3,
        "key": jax.random.key(0),
        "name": "adam",
        "nothing": None,
        "scalar": np.float32(2),
    }
    leaves = {leaf.path: leaf for leaf in plan(params, 0.75).leaves}
    assert "nothing" not in leaves
    assert leaves.pop("kernel").kept == 4
    assert {path: leaf.dense for path, leaf in leaves.items() if path != "function"} == {
        "flag": "not floating: bool",
        "float": "not floating: float",
        "int": "not floating: int",
        "key": f"not floating: {params['key'].dtype}",
        "name": "not floating: str",
        "scalar": "one axis",
    }
    assert leaves["function"].dense.startswith("not floating")
    assert all((leaf.shape, leaf.size, leaf.kept) == ((), 1, 1) for leaf in leaves.values())
    assert jax.tree.leaves(masks.make(params, 0.75))[0].sum() == 4


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [8, 12]),
        ({"rules": [Rule("a/.*", sparsity=0.5)]}, [16, 12]),
        ({"scope": "global"}, [None, None]),
        ({"pattern": Block((2, 2))}, [None, None]),
    ],
    ids=["leaf", "rule", "global", "block"],
)
def test_of_shapes_a_plan_says_what_can_be_known(options, kept):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)
    planned = plan(shapes, 0.75, **options)
    assert [leaf.kept for leaf in planned.leaves] == kept
    assert [leaf.dtype for leaf in planned.leaves] == ["float32"] * 2
    assert ("ranked" in str(planned)) == (None in kept)


def test_the_end_of_a_schedule_counts():
    planned = plan(PARAMS, linear(0.75, begin=0, end=400))
    assert planned.sparsity == 0.75
    assert planned.num_events == 101
    assert [leaf.kept for leaf in planned.prunable] == [8, 12]
    assert "target sparsity 0.75, 101 events" in str(planned)


def test_a_target_of_cost_says_so():
    cost = OPTIONS["cost"]["cost"]
    planned = plan(PARAMS, 0.75, **OPTIONS["cost"])
    a, b = (leaf.kept for leaf in planned.leaves)
    assert 0 <= sum(cost.values()) // 4 - (10 * a + b) < 10
    assert "target sparsity 0.75 of the cost, 1 event" in str(planned)


@pytest.mark.parametrize("params", [{"n": 3, "s": "x"}, {"bias": np.ones(3, np.float32)}])
def test_nothing_to_prune(params):
    with pytest.raises(ValueError, match="nothing is prunable"):
        plan(params, 0.5)


def test_a_traced_sparsity():
    with pytest.raises(TypeError, match="sparsity is traced, but a plan is made on the host"):
        jax.jit(lambda s: plan(PARAMS, s) and s)(0.5)
