"""SynFlow: synaptic flow, without data."""

import jax
import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion


def _of_absolute(loss, params, grads, step):
    """The gradient of `loss` at |params|."""
    del grads, step
    return jax.grad(loss)(jax.tree.map(jnp.abs, params))


synflow = Criterion(
    lambda w, grad: jnp.abs(w.astype(jnp.float32) * grad.astype(jnp.float32)),
    needs=("grad",),
    probe=_of_absolute,
)
"""The criterion |w * dR/d|w||, with R the sum of the outputs on an input of ones at params |w|.

No data is needed: `loss(params, batch)` is R, and `batches` holds one input of ones. It has to be
pruned in many rounds of falling density, each scored anew, or layers are lost; use a global scope:

    prune_params(params, 0.99, score=scores.synflow, scope="global", rounds=100,
                 loss=lambda params, x: apply(params, x).sum(), batches=[jnp.ones((1, 784))])

Float32 scores. Leave norms that divide by a standard deviation out of `apply`, or R does not
grow with the weights; deep networks can exceed float32.

Example:
  >>> import jax.numpy as jnp
  >>> import jaxprune
  >>> total = lambda params, x: (x @ params["a"] @ params["b"]).sum()
  >>> params = {"a": jnp.array([[1.0, -2.0], [3.0, 0.5]]), "b": jnp.array([[1.0, 0.1], [0.1, 4.0]])}
  >>> _, masks = jaxprune.prune_params(
  ...     params, 0.5, score=jaxprune.scores.synflow, scope="global", rounds=10,
  ...     loss=total, batches=[jnp.ones((1, 2))],
  ... )
  >>> {name: mask.tolist() for name, mask in masks.items()}
  {'a': [[False, True], [True, False]], 'b': [[True, False], [False, True]]}

References:
  Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow,
  arXiv 2006.05467.
"""
