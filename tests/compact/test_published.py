"""Published networks: groups and counts of another library, multiply-adds, time of a trace."""

import functools
import time

import cut_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import networks, transformers
from jaxprune import analysis, compact

IMAGE = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
TEXT = jax.ShapeDtypeStruct((1, 16), jnp.int32)


def shapes(module, *inputs):
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)


@functools.cache
def traced(name):
    module = getattr(networks, name)()
    return compact.trace_groups(module.apply, shapes(module, IMAGE), IMAGE)


@pytest.mark.parametrize(
    ("name", "groups", "left"),
    [
        ("resnet18", 12, 3_055_880),
        ("resnet50", 37, 6_917_640),
        ("densenet121", 120, 2_274_728),
        ("mobilenet_v2", 25, 1_221_768),
    ],
)
def test_half_of_all_channels(name, groups, left):
    """As many groups as Torch-Pruning finds, and the parameters that it leaves."""
    found = traced(name)
    assert len(found) == groups
    assert not any(group.flags or group.ordered for group in found)
    before, after = oracle.halves(found).parameters
    assert before == networks.PUBLISHED[name]
    assert after == left


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_multiply_adds_of_the_cut_network(name):
    """Counted in its own program, by the counter for dense networks."""
    found = traced(name)
    plan = oracle.halves(found)
    variables = shapes(getattr(networks, name)(), IMAGE)
    small = jax.eval_shape(
        plan.cut, jax.tree.map(lambda x: jnp.broadcast_to(np.float32(1), x.shape), variables)
    )
    assert plan.macs == (
        sum(analysis.macs(found.apply, variables, IMAGE).values()),
        sum(analysis.macs(plan.apply, small, IMAGE).values()),
    )


def test_transformers_are_cut_in_their_heads_and_layers():
    """And the stream: its norms take mean squares, to which zeros add nothing, over all units."""
    module = transformers.GPT2(vocabulary=50, context=16, width=24, heads=3, depth=2)
    found = compact.trace_groups(module.apply, shapes(module, TEXT), TEXT)
    assert not any(g.flags for g in found)
    assert sorted(g.size for g in found) == sorted([24] + [3, 8, 8, 96] * 2)
    module = transformers.Llama(50, width=24, heads=4, kv_heads=2, hidden=40, depth=2)
    found = compact.trace_groups(module.apply, shapes(module, TEXT), TEXT)
    assert not any(g.flags for g in found)
    assert sorted(g.size for g in found) == sorted([24] + [2, 2, 3, 6, 40] * 2)


def test_a_trace_of_resnet50_takes_less_than_a_second():
    """Of this process, the best of three; work of others on the machine does not count."""
    module = networks.resnet50()
    variables = shapes(module, IMAGE)
    traced("resnet18")

    def once():
        start = time.process_time()
        compact.trace_groups(module.apply, variables, IMAGE)
        return time.process_time() - start

    assert min(once() for _ in range(3)) < 1.0
