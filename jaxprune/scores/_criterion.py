"""What a criterion is: a function of one leaf that says which weights to keep."""

import dataclasses
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A function from a leaf to its scores, and what it needs to know.

    Any function of one array is a criterion: `score=jnp.abs`. This class says more about it.

    Attributes:
      function: `function(w, **needs) -> scores`, float, the shape of `w`; higher means keep.
      needs: names of what it wants beside the leaf: "path", the leaf's path as a string; "grad",
        the leaf's gradient as it enters the transform.
      elementwise: whether the function is so cheap, element by element, that selection should
        compute it again in every pass rather than store its scores.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> squared = scores.Criterion(jnp.square, elementwise=True)
      >>> squared(jnp.array([1.0, -2.0]))
      Array([1., 4.], dtype=float32)
    """

    function: Callable[..., jax.Array]
    needs: tuple[str, ...] = ()
    elementwise: bool = False

    @property
    def fused(self) -> bool:
        """Whether selection computes the scores itself, from the leaf alone, in every pass."""
        return self.elementwise and not self.needs

    def __call__(self, w: jax.Array, **context) -> jax.Array:
        """The scores of one leaf; of `context` the function gets what it needs."""
        return self.function(w, **{name: context[name] for name in self.needs})


def as_criterion(score) -> Criterion:
    """A criterion as it is, any other function of one leaf wrapped."""
    function = score.function if isinstance(score, Criterion) else score
    if not callable(function):
        raise TypeError(
            f"score={score!r} is not a function; pass one such as jaxprune.scores.magnitude or "
            "jnp.square, which maps a leaf to scores of its shape."
        )
    try:
        hash(function)
    except TypeError as error:
        raise TypeError(
            f"score={score!r} cannot be hashed, so that programs compiled for it could not be told "
            "apart; make it a function or a frozen dataclass."
        ) from error
    return score if isinstance(score, Criterion) else Criterion(score)
