"""The size of the gradient: which weights would change most if they were there."""

import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion

gradient = Criterion(lambda w, grad: jnp.abs(grad).astype(jnp.float32), needs=("grad",))
"""The criterion |g|, by which `transforms.rigl` grows weights.

Float32 scores. A weight of 0 has a gradient too, so this ranks weights that are not there, which
`scores.saliency` cannot.

Example:
  >>> import jax.numpy as jnp
  >>> from jaxprune import scores
  >>> scores.gradient(jnp.zeros(2), grad=jnp.array([3.0, -0.5]))
  Array([3. , 0.5], dtype=float32)

References:
  Evci et al., Rigging the lottery, arXiv 1911.11134.
"""
