"""Magnitude: small weights matter least."""

import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion

magnitude = Criterion(jnp.abs, elementwise=True)
"""The criterion |w|.

Float scores in the dtype of the leaf: a NaN weight has a NaN score, which ranks lowest; an
infinite one ranks highest.

Example:
  >>> import jax.numpy as jnp
  >>> from jaxprune import scores
  >>> scores.magnitude(jnp.array([1.0, -2.0]))
  Array([1., 2.], dtype=float32)

References:
  Han et al., Learning both weights and connections, arXiv 1506.02626.
"""
