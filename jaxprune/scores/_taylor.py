"""Taylor: what the loss would change if a whole unit became zero."""

import jax.numpy as jnp

from jaxprune._sharding import with_auto_axes
from jaxprune.scores._criterion import Criterion


def _taylor(w, *, grad, pattern):
    def score(w, grad):
        change = jnp.asarray(w, jnp.float32) * jnp.asarray(grad, jnp.float32)
        return [pattern.expand(jnp.square(pattern.sums(change)), w.shape)]

    return with_auto_axes(score, w, grad, like=[w])[0]


taylor = Criterion(_taylor, needs=("grad", "pattern"))
"""The criterion (sum over the unit of w * dL/dw)**2: what the loss would change, squared.

    score of each weight of a unit = (sum over the unit of w * g)**2

This is the change to first order, if all of the unit became zero. The sum is inside the square:
weights whose changes cancel do not make a unit matter, and units of different leaves compare by
what removing all of their weights does. Where each weight is a unit, as under `Unstructured` and
`NM`, the score is (w * g)**2.

Float32 scores, the same on however many devices; a NaN in a unit makes its score NaN, which ranks
lowest. The gradient is that of one batch, unless you pass averaged ones to `masks.make`. With
gradients of 0, at a minimum of the loss, all scores are 0 and ties decide.

Example:
  >>> import jax.numpy as jnp
  >>> import jaxprune
  >>> w, grad = jnp.array([[2.0, 1.0], [2.0, 1.0]]), jnp.array([[1.0, 1.0], [-1.0, 1.0]])
  >>> jaxprune.scores.taylor(w, grad=grad, pattern=jaxprune.Channel())
  Array([[0., 4.],
         [0., 4.]], dtype=float32)

References:
  Molchanov et al., Importance estimation for neural network pruning, arXiv 1906.10771.
"""
