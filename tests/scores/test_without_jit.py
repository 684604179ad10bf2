"""Without jit a leaf is scored by few programs for each shape, and by none that was made before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import heard
from draws import put

import jaxprune as jp
from jaxprune import scores, select

BLOCK, CHANNEL = jp.Block((5, 5)), jp.Channel()


def obs(w, damp=1e-3, pattern=None):
    """The scores, and what kept weights move to."""
    score = scores.obs(5, damp=damp)
    memory = score.memory.update(score.memory.init(w), w, jnp.sin(w))
    found = score(w, path="w", pattern=pattern or jp.Unstructured(), memory=memory)
    return found, score.compensate(w, w > 0, memory)


CALLS = {  # and how many programs a new shape may take
    "obs": (obs, 12),
    "obs of blocks": (lambda w: obs(w, pattern=BLOCK), 12),
    "geometric median": (lambda w: scores.geometric_median(w, path="w", pattern=CHANNEL), 1),
    "l1 norm": (scores.l1_norm, 1),
    "l2 norm": (scores.l2_norm, 1),
    "sums of channels": (CHANNEL.sums, 1),
    "sums of blocks": (BLOCK.sums, 3),
    "n of m": (lambda w: select.top_n_of_m(w, 2, 4, axis=0), 1),
}


def draw(*shape):
    return put(np.random.default_rng(0).standard_normal(shape, np.float32))


@pytest.mark.parametrize("name", CALLS)
def test_a_new_shape_takes_few_programs(name):
    call, most = CALLS[name]
    call(draw(44, 29))  # and what all shapes share
    w = draw(52, 37)  # of no other test
    with heard() as compiled:
        call(w)
    assert 0 < len(compiled) <= most
    with heard() as compiled:
        call(w)
    assert not compiled


def test_a_new_damping_takes_none():
    w = draw(16, 9)
    obs(w, damp=0.1)
    with heard() as compiled:
        obs(w, damp=0.2)
    assert not compiled


@pytest.mark.parametrize("name", CALLS)
def test_programs_do_what_operations_do_one_by_one(name):
    call, _ = CALLS[name]
    w = draw(8, 6)
    together = call(w)
    with jax.disable_jit():
        apart = call(w)
    for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
