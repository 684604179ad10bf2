"""What devices send each other, read off the compiled update: counts, never weights."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxprune as jp
from benchmarks.collectives import collectives
from jaxprune.select._search import PROBES, _sum_each

pytestmark = [
    pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices"),
    pytest.mark.as_users,
]

SHAPES = {"q": (4, 256, 512), "up": (4, 256, 1024), "down": (4, 1024, 256), "out": (512, 256)}
LAYOUTS = {
    "rows": ({"x": 8}, P("x", None)),
    "columns": ({"x": 8}, P(None, "x")),
    "both": ({"x": 4, "y": 2}, P("x", "y")),
}
HOW = {
    "leaf": {},
    "global": {"scope": "global"},
    "bounds": {"scope": "global", "max_sparsity": 0.95},
    "cost": {"scope": "global", "cost": {f"{name}/kernel": 7**i for i, name in enumerate(SHAPES)}},
    "nm": {"pattern": jp.NM(2, 4)},
    "block": {"pattern": jp.Block((4, 4)), "scope": "global"},
}
TURNS = 16  # of a search from a sample: more than weights take
KIB_64 = 64 * 1024


def compiled_update(how, layout, dtype=jnp.float32, kind=AxisType.Auto, scale=1):
    """The program of one update, and the bytes of params on each device."""
    axes, spec = LAYOUTS[layout]
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(kind,) * len(axes))

    def cut(shape):
        whole = [None] * (len(shape) - len(spec)) if len(shape) > 1 else []
        return NamedSharding(mesh, P(*whole, *spec) if len(shape) > 1 else P())

    def describe(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cut(x.shape))

    params = {
        name: {"kernel": jax.ShapeDtypeStruct((*rest, n, m * scale), dtype)}
        for name, (*rest, n, m) in SHAPES.items()
    }
    params = jax.tree.map(describe, params)
    tx = jp.prune(optax.sgd(0.1, 0.9), sparsity=jp.polynomial(0.8, begin=0, end=9), **HOW[how])

    def step(params, state):
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    with jax.set_mesh(mesh):
        state = jax.tree.map(describe, jax.eval_shape(tx.init, params))
        program = jax.jit(step, donate_argnums=(0, 1)).lower(params, state).compile()
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(params))
    return program, size // 8


def bytes_of_an_event(found):
    return sum(one.bytes * (TURNS if one.in_search else 1) for one in found)


def check(program, shard):
    found = collectives(program.as_text())
    assert found, "nothing is sent: then nothing was counted together"
    assert {one.kind for one in found} <= {"all-reduce", "all-gather"}
    largest = {
        kind: max((x.bytes for x in found if x.kind == kind), default=0)
        for kind in ("all-reduce", "all-gather")
    }
    assert largest["all-gather"] <= 8 * 64 * 4  # a count of each device and row
    assert largest["all-reduce"] < shard / 10
    assert bytes_of_an_event(found) <= KIB_64
    assert program.memory_analysis().temp_size_in_bytes <= 0.5 * shard
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", HOW)
def test_an_event_sends_counts(how, layout):
    check(*compiled_update(how, layout))


@pytest.mark.parametrize("how", ["leaf", "nm"])
def test_an_event_sends_counts_where_axes_are_explicit(how):
    check(*compiled_update(how, "both", kind=AxisType.Explicit))


@pytest.mark.parametrize("how", ["leaf", "global", "block"])
def test_an_event_sends_counts_of_bfloat16(how):
    check(
        *compiled_update(how, "rows", dtype=jnp.bfloat16, scale=4)
    )  # beside a sample of fixed size


@pytest.mark.parametrize("how", ["global", "nm"])
def test_a_larger_model_sends_no_more(how):
    sent = [
        bytes_of_an_event(check(*compiled_update(how, "rows", scale=scale))) for scale in (1, 64)
    ]
    assert sent[1] <= 1.01 * sent[0]


@pytest.mark.parametrize("shape", [(80, 8192, 28672), (18432, 256000)])
def test_a_leaf_past_int32_is_not_gathered(shape):
    """Its rows are cut no coarser than devices cut it."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    w = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P("x")))
    with jax.set_mesh(mesh):
        make = jax.jit(lambda w: jp.masks.make({"kernel": w}, 0.8))
        check(make.lower(w).compile(), math.prod(shape) * 4 // 8)


def test_between_events_nothing_is_sent():
    """All collectives lie in the loop that only runs at events."""
    program, _ = compiled_update("global", "rows")
    assert all("/while/body/" in one.name for one in collectives(program.as_text()))


def test_counts_elsewhere_than_on_cpu_are_all_reduced():
    """Of the form of a count that GPU and TPU compile, the devices send PROBES integers."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    count = functools.partial(_sum_each, axes=(0, 1))

    @jax.jit
    def run(w):
        return jnp.stack(count(*[(w > p).astype(jnp.int32) for p in range(PROBES)]))

    w = jax.ShapeDtypeStruct((64, 8), jnp.float32, sharding=NamedSharding(mesh, P("x")))
    found = collectives(run.lower(w).compile().as_text())
    assert {one.kind for one in found} == {"all-reduce"}
    assert sum(one.bytes for one in found) == 4 * PROBES


def test_what_collectives_reads():
    line = (
        "  %ar = (f32[3,4]{1,0}, pred[5]{0}, bf16[]) all-reduce-start(%a, %b), "
        'metadata={op_name="jit(f)/while/body/cond/add"}'
    )
    (one,) = collectives(f"ENTRY %main\n{line}\n  %x = f32[2] add(%a, %b)")
    assert (one.kind, one.bytes, one.in_search) == ("all-reduce", 48 + 5 + 2, True)
    assert one.shapes == (("f32", (3, 4)), ("pred", (5,)), ("bf16", ()))
    assert np.prod(one.shapes[0][1]) == 12
