"""Published networks have the parameters that their papers, or those who ported them, count."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import networks, transformers

IMAGE = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
TEXT = jax.ShapeDtypeStruct((1, 16), jnp.int32)


@pytest.mark.parametrize(("name", "published"), networks.PUBLISHED.items())
def test_a_convolutional_network_has_the_published_count(name, published):
    assert networks.count(getattr(networks, name)(), IMAGE) == published


@pytest.mark.parametrize(("name", "published"), transformers.PUBLISHED.items())
def test_a_transformer_has_the_published_count(name, published):
    module = getattr(transformers, name)()
    assert networks.count(module, IMAGE if name == "vit_b16" else TEXT) == published
