"""Squares: what L2 norms are made of."""

import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion


def _squared(w):
    return jnp.square(jnp.asarray(w, jnp.float32))


squared = Criterion(_squared, elementwise=True)
"""The criterion w**2, which ranks channels, heads and blocks by their L2 norm.

A pattern takes the mean of the scores of a unit. The mean of w**2 ranks units of one size as the
root of its sum does, which is their L2 norm; `magnitude` ranks them by their L1 norm in the same
way. Weights by themselves it ranks as `magnitude` does, which then is the better choice: squares of
weights under 1e-19 are 0.

Float32 scores: a NaN weight has a NaN score, which ranks lowest; an infinite one ranks highest.

Example:
  >>> import jax.numpy as jnp
  >>> import jaxprune
  >>> w = {"kernel": jnp.array([[3.0, 5.0], [3.0, 0.0]])}  # L1: 6 and 5; L2: 4.2 and 5
  >>> score = jaxprune.scores.squared
  >>> jaxprune.masks.make(w, 0.5, score=score, pattern=jaxprune.Channel())["kernel"]
  Array([[False,  True],
         [False,  True]], dtype=bool)

References:
  Li et al., Pruning filters for efficient ConvNets, arXiv 1608.08710, which compares the two norms.
"""
