"""The helper that other tests count compilations by does hear them."""

import jax
import jax.numpy as jnp
from compilations import heard


def test_a_program_is_heard_once_and_only_meanwhile():
    x, double, more = jnp.ones(3), jax.jit(lambda x: 2 * x + 1.5), jax.jit(lambda x: 3 * x + 2.5)
    with heard() as compiled:
        double(x)
        assert len(compiled) == 1
        double(x)
        assert len(compiled) == 1
    more(x)
    assert len(compiled) == 1
