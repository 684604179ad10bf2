"""SNIP: saliency of a mean gradient."""

import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion, Memory


def _score(w, memory):
    return jnp.abs(w.astype(jnp.float32) * memory)


snip = Criterion(
    _score,
    needs=("memory",),
    memory=Memory(
        lambda w: jnp.zeros_like(w, dtype=jnp.float32),
        lambda memory, w, grad: memory + grad.astype(jnp.float32),
        resets=True,
    ),
)
"""The criterion |w * g| with g summed over batches.

    at initialisation: prune_params(init(key), 0.9, score=scores.snip, scope="global", ...)
    in training:       g is the sum over all updates since the last event

Float32 scores. The paper divides them by their sum over all weights, which changes no ranking. It
is made for freshly initialised params, ranked globally.

Example:
  >>> import jax.numpy as jnp
  >>> import jaxprune
  >>> loss = lambda params, x: jnp.mean((x @ params["kernel"]) ** 2)
  >>> params = {"kernel": jnp.array([[1.0, 4.0], [3.0, 2.0]])}
  >>> batches = [jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])]
  >>> _, masks = jaxprune.prune_params(
  ...     params, 0.5, score=jaxprune.scores.snip, loss=loss, batches=batches
  ... )
  >>> masks["kernel"].tolist()
  [[False, True], [True, False]]

References:
  Lee et al., SNIP: single-shot network pruning based on connection sensitivity, arXiv 1810.02340.
"""
