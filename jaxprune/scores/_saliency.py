"""Saliency: what the loss would change by, to first order."""

import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion


def _change(w, grad):
    return w.astype(jnp.float32) * grad.astype(jnp.float32)


saliency = Criterion(lambda w, grad: jnp.abs(_change(w, grad)), needs=("grad",))
"""The criterion |w * g|: how much the loss changes, to first order, if the weight becomes 0.

Float32 scores. In `prune` the gradient is that of the event's own step; for more than one batch
see `scores.snip` and `scores.accumulated_saliency`. A leaf without gradient scores 0 throughout.

Example:
  >>> import jax.numpy as jnp
  >>> from jaxprune import scores
  >>> scores.saliency(jnp.array([1.0, -2.0]), grad=jnp.array([3.0, 0.5]))
  Array([3., 1.], dtype=float32)

References:
  Mozer and Smolensky, Skeletonization, NeurIPS 1988; Molchanov et al., arXiv 1611.06440.
"""

squared_saliency = Criterion(lambda w, grad: jnp.square(_change(w, grad)), needs=("grad",))
"""The criterion (w * g)**2.

It ranks single weights as `scores.saliency` does. Blocks, channels and heads have the mean of their
scores, so there it differs: large changes count for more.

Example:
  >>> import jax.numpy as jnp
  >>> from jaxprune import scores
  >>> scores.squared_saliency(jnp.array([1.0, -2.0]), grad=jnp.array([3.0, 0.5]))
  Array([9., 1.], dtype=float32)

References:
  Molchanov et al., Importance estimation for neural network pruning, arXiv 1906.10771.
"""
