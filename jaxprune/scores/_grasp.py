"""GraSP: keep what the gradient needs to flow."""

import jax
import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion


def hessian_gradient(loss, params, grads, step):
    """H g, of the Hessian of `loss` at `params` and the gradient: one Hessian-vector product."""
    del step
    return jax.jvp(jax.grad(loss), (params,), (grads,))[1]


grasp = Criterion(
    lambda w, grad: w.astype(jnp.float32) * grad.astype(jnp.float32),
    needs=("grad",),
    probe=hessian_gradient,
    signed=True,
)
"""The criterion w * (H g): weights whose removal would reduce the norm of the gradient are kept.

    removing w changes |g|**2 by -2 * w * (H g), to first order; the highest changes go first

It is made for freshly initialised params, ranked globally. Over several batches g is the gradient
of all of them. The paper divides logits by a temperature of 200; do so in your loss.

Float32 scores of either sign; what is pruned already stays so. In `prune` it needs the loss:
`tx.update(grads, state, params, value_fn=loss)`, where `loss(params)` is that of the step's batch.

Example:
  >>> import jax.numpy as jnp
  >>> import jaxprune
  >>> loss = lambda params, x: jnp.mean((x @ params["kernel"]) ** 2)
  >>> params = {"kernel": jnp.array([[1.0, 4.0], [3.0, 2.0]])}
  >>> _, masks = jaxprune.prune_params(
  ...     params, 0.5, score=jaxprune.scores.grasp, loss=loss, batches=[jnp.array([[1.0, 0.5]])]
  ... )
  >>> masks["kernel"].tolist()
  [[False, True], [False, True]]

References:
  Wang et al., Picking winning tickets before training by preserving gradient flow, arXiv
  2002.07376.
"""
