"""Parameters that NumPy draws: nothing is compiled for a shape."""

import math

import jax
import jax.numpy as jnp


def drawn(rng, shapes):
    """Noise for kernels, by their fan-in; vectors such that few units of a relu are dead."""

    def one(path, leaf):
        if len(leaf.shape) > 1:
            value = rng.standard_normal(leaf.shape) * math.sqrt(1.5 / math.prod(leaf.shape[:-1]))
        else:
            value = rng.uniform(0.3, 1.2, leaf.shape)
            value = -value if "mean" in jax.tree_util.keystr(path) else value
        return jnp.asarray(value.astype(leaf.dtype))  # cast by NumPy: no program for each shape

    return jax.tree_util.tree_map_with_path(one, shapes)
