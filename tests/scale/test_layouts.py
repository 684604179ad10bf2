"""However an array is cut, the mask is the same, and lies where its parameter lies."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxprune as jp

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")

# A weight of each costs 7, 2 and 1.
COST = {"matrix/kernel": 7 * 2048, "stack/kernel": 2 * 4096, "split/kernel": 256}
HOW = {
    "leaf": {},
    "global": {"scope": "global"},
    "bounds": {"scope": "global", "min_sparsity": 0.5, "max_sparsity": 0.875},
    "cost": {"scope": "global", "cost": COST},
    "cost and bounds": {"scope": "global", "cost": COST, "max_sparsity": 0.8},
    "nm": {"pattern": jp.NM(2, 4)},
    "block": {"pattern": jp.Block((4, 4)), "scope": "global"},
    "channel": {"pattern": jp.Channel()},
    "heads": {"pattern": jp.Heads(2, axis=-1, parts=2)},
}
LAYOUTS = {  # axes of the mesh, and how matrices and their stacks are cut
    "1 device": ({"x": 1}, P("x", None)),
    "2 by rows": ({"x": 2}, P("x", None)),
    "4 by columns": ({"x": 4}, P(None, "x")),
    "8 by rows": ({"x": 8}, P("x", None)),
    "8 by columns": ({"x": 8}, P(None, "x")),
    "8 by layers": ({"x": 8}, P("x")),
    "4 by 2": ({"x": 4, "y": 2}, P("x", "y")),
    "2 by 4, one axis": ({"x": 2, "y": 4}, P(("x", "y"), None)),
    "8, all have all": ({"x": 8}, P()),
}


def params():
    """A matrix with many ties in bfloat16, a stack of layers, and rows that split groups of 4."""
    rng = np.random.default_rng(0)
    ties = np.round(rng.normal(size=(64, 32)) * 4) / 4
    return {
        "matrix": {"kernel": put(ties, jnp.bfloat16)},
        "stack": {"kernel": put(np.round(rng.normal(size=(8, 16, 32)) * 8) / 8, jnp.float32)},
        "split": {"kernel": put(rng.normal(size=(16, 16)), jnp.float32)},
    }


def spec_of(layout, leaf):
    """Of stacks the layers are cut where the layout says so, and else the matrices in them."""
    _, spec = LAYOUTS[layout]
    if layout == "8 by layers":
        return spec if leaf.ndim == 3 else P(*[None] * leaf.ndim)
    return P(*[None] * (leaf.ndim - len(spec)), *spec) if len(spec) else P(*[None] * leaf.ndim)


def place(tree, layout, kind):
    axes, _ = LAYOUTS[layout]
    devices = jax.devices()[: math.prod(axes.values())]
    mesh = jax.make_mesh(
        tuple(axes.values()), tuple(axes), axis_types=(kind,) * len(axes), devices=devices
    )
    placed = jax.tree.map(
        lambda x: jax.device_put(x, NamedSharding(mesh, spec_of(layout, x))), tree
    )
    return mesh, placed


@functools.cache
def masks_of_one_device(how):
    return jp.masks.make(params(), 0.75, **HOW[how])


KEY_LAYOUTS = ("8 by rows", "4 by 2", "8 by layers")
FEW = ("bounds", "cost", "cost and bounds", "channel", "heads")
CASES = [
    *itertools.product(("global", "block"), LAYOUTS, [AxisType.Auto]),
    *itertools.product(("leaf", "nm"), [*KEY_LAYOUTS, "8 by columns"], [AxisType.Auto]),
    *itertools.product(("global", "nm"), KEY_LAYOUTS, [AxisType.Explicit]),
    *itertools.product(FEW, ["4 by 2"], [AxisType.Auto, AxisType.Explicit]),
    *itertools.product(
        ("bounds", "channel", "heads"), ["8 by rows", "8 by layers"], [AxisType.Auto]
    ),
    *itertools.product(["block"], ["4 by 2", "8 by rows"], [AxisType.Explicit]),
]


@pytest.mark.parametrize(
    ("how", "layout", "kind"), CASES, ids=[f"{a}-{b}, {c.name}" for a, b, c in CASES]
)
def test_the_mask_is_the_same(how, layout, kind):
    whole, expected = params(), masks_of_one_device(how)
    mesh, placed = place(whole, layout, kind)
    with jax.set_mesh(mesh):
        made = jax.jit(lambda p: jp.masks.make(p, 0.75, **HOW[how]))(placed)
    for mask, w, other in zip(*map(jax.tree.leaves, (made, placed, expected)), strict=True):
        np.testing.assert_array_equal(mask, other)
        assert mask.sharding.is_equivalent_to(w.sharding, w.ndim)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize(
    ("how", "layout"), [*itertools.product(["global", "nm"], ["8 by rows", "4 by 2"])]
)
def test_packed_masks_lie_where_params_lie(how, layout, kind):
    """Wherever each device holds rows in eights; else bits lie on all devices, and stay right."""
    whole = params()
    mesh, placed = place(whole, layout, kind)
    with jax.set_mesh(mesh):
        tx = jp.prune(sparsity=0.75, **HOW[how])
        state = tx.init(placed)
        _, state = jax.jit(tx.update)(placed, state, placed)
        bits, masks = state.masks, jp.get_masks(state)
    for name, cut in (("matrix", placed["matrix"]["kernel"]), ("split", placed["split"]["kernel"])):
        rows = cut.sharding.shard_shape(cut.shape)[0]
        lies = bits[name]["kernel"].sharding.is_equivalent_to(cut.sharding, 2)
        assert lies or rows % 8
    expected = masks_of_one_device(how)
    for mask, other in zip(*map(jax.tree.leaves, (masks, expected)), strict=True):
        np.testing.assert_array_equal(mask, other)


@pytest.mark.parametrize("layout", ["8 by rows", "8 by columns", "4 by 2"])
def test_blocks_that_are_cut_tie_as_whole_ones(layout):
    """Each block holds the same weights in another order: the first blocks are kept."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=256).astype(np.float32)
    blocks = np.stack([rng.permutation(weights) for _ in range(16)]).reshape(4, 4, 16, 16)
    whole = {"kernel": put(blocks.transpose(0, 2, 1, 3).reshape(64, 64))}
    _, placed = place(whole, layout, AxisType.Auto)
    mask = jax.jit(lambda p: jp.masks.make(p, 0.5, pattern=jp.Block((16, 16))))(placed)
    np.testing.assert_array_equal(
        mask["kernel"], np.repeat([True, False], 32)[:, None] | np.zeros(64, bool)
    )


@pytest.mark.parametrize("score", [jp.scores.lamp, jp.scores.obs(4)], ids=["lamp", "obs"])
def test_masks_of_stored_scores_lie_where_their_leaves_lie(score):
    """Also where the criterion forgets how a leaf was cut."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P(None, "x"))
    tree = {"kernel": jax.device_put(params()["matrix"]["kernel"].astype(jnp.float32), split)}
    memory = None
    if score.memory is not None:
        memory = {"kernel": score.memory.init(tree["kernel"])}
    made = jp.masks.make(tree, 0.5, score=score, memory=memory)
    assert made["kernel"].sharding.is_equivalent_to(split, 2)
