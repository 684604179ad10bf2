"""Movement: weights that training moves away from 0 matter, however small they are."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.scores._criterion import Criterion, Memory


class Moved(NamedTuple):
    """What movement remembers of a leaf.

    Attributes:
      moved: float32, the scores.
      weight: the weight, or of a pruned one the value that it had.
    """

    moved: Any
    weight: Any


def _start(w):
    return Moved(jnp.zeros_like(w, dtype=jnp.float32), jnp.zeros_like(w))


def _step(memory, w, grad):
    """The weights to multiply gradients with, and -w * g."""
    weight = jnp.where(w != 0, w, memory.weight)
    return weight, -weight.astype(jnp.float32) * grad.astype(jnp.float32)


def _update(memory, w, grad):
    weight, step = _step(memory, w, grad)
    return Moved(memory.moved + step, weight)


def _score(w, memory):
    del w
    return memory.moved


movement = Criterion(_score, needs=("memory",), memory=Memory(_start, _update))
"""The criterion S <- S - w * g, summed over all updates: high where weights move away from 0.

Gradients of pruned weights count too, times the value that the weight had when it was pruned (the
straight-through estimate), so that a weight can come back; it then starts from 0. The paper ranks
each matrix by itself, `scope="leaf"`. It is made for fine-tuning: magnitudes are those of another
task, so what moves says more than what is large.

Float32 scores; the memory is a float32 array and a copy of the leaf.

Example:
  >>> import jax.numpy as jnp
  >>> from jaxprune import scores
  >>> w, g = jnp.array([1.0, -2.0]), jnp.array([3.0, 0.5])
  >>> memory = scores.movement.memory.update(scores.movement.memory.init(w), w, g)
  >>> scores.movement(w, memory=memory)
  Array([-3.,  1.], dtype=float32)

References:
  Sanh et al., Movement pruning, arXiv 2005.07683.
"""


@dataclasses.dataclass(frozen=True)
class _Penalised:
    """S <- S - rate * (w g + penalty * sigmoid'(S))."""

    rate: float
    penalty: float

    def __call__(self, memory, w, grad):
        weight, step = _step(memory, w, grad)
        soft = jax.nn.sigmoid(memory.moved)
        pull = self.penalty * soft * (1 - soft)
        return Moved(memory.moved + self.rate * (step - pull), weight)


def soft_movement(learning_rate: float = 1.0, penalty: float = 0.0) -> Criterion:
    """The criterion S of movement whose sigmoid an L1 penalty pulls down.

        S <- S - learning_rate * (w * g + penalty * sigmoid(S) * (1 - sigmoid(S)))

    It is ranked globally, `scope="global"`. In the paper the threshold on sigmoid(S) is fixed, and
    the penalty leads to some sparsity, which has to be found by trial. Here the sparsity is asked
    for, and the threshold is whatever keeps that many; the penalty pulls most at scores about 0,
    so that weights which do not move go first.

    Args:
      learning_rate: of the scores, above 0.
      penalty: of sum(sigmoid(S)), the expected number of weights kept, at least 0.

    Returns:
      A criterion with float32 scores S; they begin at 0. sigmoid(S) has the same order, and would
      make scores above 17 equal.

    Raises:
      ValueError: a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> score = scores.soft_movement()
      >>> w, g = jnp.array([1.0, -2.0]), jnp.array([3.0, 0.5])
      >>> score(w, memory=score.memory.update(score.memory.init(w), w, g))
      Array([-3.,  1.], dtype=float32)

    References:
      Sanh et al., Movement pruning, arXiv 2005.07683.
    """
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate={learning_rate!r} must be above 0 and finite.")
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"penalty={penalty!r} must be at least 0 and finite.")
    update = _Penalised(float(learning_rate), float(penalty))
    return Criterion(_score, needs=("memory",), memory=Memory(_start, update))
