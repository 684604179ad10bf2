"""Saliency averaged over the steps of training."""

import dataclasses

import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion, Memory
from jaxprune.scores._saliency import saliency


@dataclasses.dataclass(frozen=True)
class _Decayed:
    """S <- decay * S + |w g|."""

    decay: float

    def __call__(self, memory, w, grad):
        return self.decay * memory + saliency(w, grad=grad)


def _start(w):
    return jnp.zeros_like(w, dtype=jnp.float32)


def _score(w, memory):
    del w
    return memory


def accumulated_saliency(decay: float = 0.9) -> Criterion:
    """The criterion |w * g|, summed over updates with exponential decay.

        S <- decay * S + |w * g| at every update; the score is S

    A pruned weight is 0, so its score decays; a mask that revives it has to be asked for by a lower
    sparsity.

    Args:
      decay: how much of the sum is left after an update, 0 <= decay < 1; 0 is `scores.saliency`.

    Returns:
      A criterion with float32 scores; its memory is one float32 array per leaf.

    Raises:
      ValueError: decay is out of range.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> score = jaxprune.scores.accumulated_saliency()
      >>> tx = jaxprune.prune(optax.adam(1e-3), sparsity=0.5, score=score)
      >>> params = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]])}
      >>> grads = {"kernel": jnp.array([[8.0, 1.0], [0.0, 3.0]])}
      >>> _, state = tx.update(grads, tx.init(params), params)
      >>> jaxprune.get_masks(state)["kernel"].tolist()
      [[True, False], [False, True]]
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay!r} must be in [0, 1).")
    return Criterion(_score, needs=("memory",), memory=Memory(_start, _Decayed(float(decay))))
