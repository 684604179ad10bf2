"""Scores that were made elsewhere."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprune._sharding import with_auto_axes
from jaxprune._tree import flatten
from jaxprune.scores._criterion import Criterion


@dataclasses.dataclass(frozen=True, eq=False)
class _Given:
    """Equal to itself alone: it holds arrays."""

    values: dict[str, Any]

    def __call__(self, w, *, path):
        if path not in self.values:
            known = ", ".join(list(self.values)[:8])
            raise ValueError(
                f"given: there are no values for {path}, only for {known}; add them, or exempt the "
                f"leaf by Rule({path!r}, dense=True)."
            )
        values = self.values[path]
        try:
            fits = np.broadcast_shapes(values.shape, w.shape) == w.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"given: values of shape {values.shape} for {path} do not broadcast to its shape "
                f"{tuple(w.shape)}; one value for each index of an axis takes axes of length 1 "
                "behind it, values[:, None]."
            )

        def score(values):
            return [jnp.broadcast_to(jnp.asarray(values, jnp.float32), w.shape)]

        return with_auto_axes(score, values, like=[w])[0]


def given(values) -> Criterion:
    """The criterion whose scores are values that you made: statistics, gates, another model's.

    Args:
      values: for each leaf an array that broadcasts to its shape, higher = keep: one value for each
        weight, or [out] for the outputs of a Flax kernel (..., in, out). A dict from paths such as
        "encoder/layer_0/kernel", or a tree like the params.

    Returns:
      A criterion with float32 scores. A NaN ranks lowest.

    Raises:
      TypeError: a value is not an array of numbers.
      ValueError: there are no values; or, when it scores, none for a leaf that is pruned, or they
        do not broadcast to its shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"dense": {"kernel": jnp.ones((2, 3))}}
      >>> hidden = jnp.array([[0.0, 2.0, 1.0], [0.0, 3.0, 0.0]])  # outputs [batch, 3]
      >>> score = jaxprune.scores.given({"dense/kernel": jaxprune.scores.mean_activation(hidden)})
      >>> jaxprune.masks.make(params, 0.6, score=score, pattern=jaxprune.Channel())["dense"]
      {'kernel': Array([[False,  True, False],
             [False,  True, False]], dtype=bool)}
    """
    paths, leaves, _ = flatten(values)
    if not paths:
        raise ValueError(f"given: values={values!r} holds no array; give one for each pruned leaf.")
    for path, leaf in zip(paths, leaves, strict=True):
        kind = getattr(leaf, "dtype", None)
        if kind is None or not (
            jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
        ):
            raise TypeError(
                f"given: values for {path} are {leaf!r}; give an array of real numbers."
            )
    return Criterion(_Given(dict(zip(paths, leaves, strict=True))), needs=("path",))
