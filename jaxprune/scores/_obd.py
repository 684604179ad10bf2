"""Optimal brain damage: what the loss would change by, to second order, from a diagonal."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion, Memory


class Squares(NamedTuple):
    """A running sum of squared gradients.

    Attributes:
      squares: float32, of the leaf's shape.
      number: int32 scalar, how many gradients.
    """

    squares: Any
    number: Any


def _start(w):
    return Squares(jnp.zeros_like(w, dtype=jnp.float32), jnp.zeros((), jnp.int32))


def _add(memory, w, grad):
    del w
    return Squares(memory.squares + jnp.square(grad.astype(jnp.float32)), memory.number + 1)


def _of_fisher(w, memory):
    return _score(w, memory.squares / jnp.maximum(memory.number, 1).astype(jnp.float32))


def _score(w, grad):
    return 0.5 * grad.astype(jnp.float32) * jnp.square(w.astype(jnp.float32))


def obd(diagonal=None) -> Criterion:
    """The criterion 1/2 * h * w**2, with h the diagonal of the Hessian.

    Args:
      diagonal: where h is from. None: the empirical Fisher, the mean of squared gradients, of each
        example in `prune_params(..., per_example=True)`, of each batch otherwise, and in `prune`
        of every update since the last event. `scores.hutchinson(key)` or
        `scores.exact_diagonal`: the Hessian itself.

    Returns:
      A criterion with float32 scores. Estimates of a Hessian's diagonal may be negative, and such
      weights go first; what is pruned already stays so. With a `diagonal`, `prune` needs the loss:
      `tx.update(grads, state, params, value_fn=loss)`, where `loss(params)` is that of the step's
      batch.

    Raises:
      TypeError: `diagonal` is no function.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> from jaxprune import scores
      >>> loss = lambda params, x: jnp.mean((x @ params["kernel"]) ** 2)
      >>> params = {"kernel": jnp.array([[1.0, 4.0], [3.0, 2.0]])}
      >>> batches = [jnp.array([[1.0, 0.5], [1.0, 0.0]])]
      >>> for score in (scores.obd(), scores.obd(scores.exact_diagonal)):
      ...     _, masks = jaxprune.prune_params(params, 0.5, score=score, loss=loss, batches=batches)
      ...     print(masks["kernel"].tolist())
      [[False, True], [False, True]]
      [[False, True], [True, False]]

    References:
      LeCun et al., Optimal brain damage, NeurIPS 1989.
    """
    if diagonal is None:
        return Criterion(_of_fisher, needs=("memory",), memory=Memory(_start, _add, resets=True))
    if not callable(diagonal):
        raise TypeError(
            f"diagonal={diagonal!r} is no function; pass scores.hutchinson(key) or "
            "scores.exact_diagonal, or None for the empirical Fisher."
        )
    return Criterion(_score, needs=("grad",), probe=diagonal, signed=True)
