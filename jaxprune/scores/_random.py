"""Random scores: the control that every criterion has to beat."""

import dataclasses
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune._checks import check_key, is_traced, key_data
from jaxprune.scores._criterion import Criterion


@dataclasses.dataclass(frozen=True, eq=False)
class _Random:
    """Equal where the keys are, so that equal criteria share compiled programs."""

    key: Any
    each_event: bool

    def __call__(self, w, *, path, step=None):
        own = jax.random.fold_in(self.key, zlib.crc32(path.encode()))
        own = jax.random.fold_in(own, step) if self.each_event else own
        return jax.random.uniform(own, w.shape, jnp.float32)

    def _identity(self):
        if is_traced(self.key):
            return id(self)
        with jax.ensure_compile_time_eval():  # also while some program is being traced
            return str(self.key.dtype), key_data(self.key).tobytes(), self.each_event

    def __eq__(self, other):
        return isinstance(other, _Random) and self._identity() == other._identity()

    def __hash__(self):
        return hash(self._identity())


def random(key: jax.Array, *, each_event: bool = False) -> Criterion:
    """The criterion that ranks weights at random.

    Each leaf has its own stream, from `key` and its path. The scores are the same at every event,
    so a gradual schedule prunes more and more of the same order and revives nothing.

    Args:
      key: a PRNG key. There is no default: equal keys give equal masks.
      each_event: whether each event draws anew, from `key` and its step, as random growth does.

    Returns:
      A criterion with float32 scores in [0, 1).

    Raises:
      TypeError: `key` is not a key.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxprune
      >>> w = {"kernel": jnp.ones((2, 4))}
      >>> score = jaxprune.scores.random(jax.random.key(0))
      >>> masks = jaxprune.masks.make(w, 0.5, score=score)
      >>> int(masks["kernel"].sum())
      4
    """
    check_key(key)
    return Criterion(_Random(key, each_event), needs=("path", "step") if each_event else ("path",))
