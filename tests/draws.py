"""Parameters that NumPy draws: nothing is compiled for a shape."""

import math

import jax
import numpy as np


def put(x, dtype=None):
    """An array of NumPy as one of JAX, cast before: `jnp.asarray` compiles for each shape."""
    return jax.device_put(np.asarray(x, dtype))


def drawn(rng, shapes):
    """Of NumPy: noise for kernels, by their fan-in; vectors with which few units of a relu die."""

    def one(path, leaf):
        if len(leaf.shape) > 1:
            value = rng.standard_normal(leaf.shape) * math.sqrt(1.5 / math.prod(leaf.shape[:-1]))
        else:
            value = rng.uniform(0.3, 1.2, leaf.shape)
            value = -value if "mean" in jax.tree_util.keystr(path) else value
        return value.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, shapes)
