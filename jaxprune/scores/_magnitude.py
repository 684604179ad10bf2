"""Magnitude: small weights matter least."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune.scores._criterion import Criterion


@functools.partial(jax.jit, inline=True)  # one program, without jit too
def _absolute(w):
    """|w| by its sign bit.

    XLA's CPU code for `abs` of bfloat16 goes by way of float32, and may store what it converted.
    """
    if not jnp.issubdtype(w.dtype, jnp.floating):
        return jnp.abs(w)
    bits = jnp.dtype(f"int{8 * w.dtype.itemsize}")
    unsigned = lax.bitcast_convert_type(w, bits) & np.iinfo(bits).max
    return lax.bitcast_convert_type(unsigned, w.dtype)


magnitude = Criterion(_absolute, elementwise=True)
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
