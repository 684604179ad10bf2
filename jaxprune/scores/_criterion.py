"""What a criterion is: a function of one leaf that says which weights to keep."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_NEEDS = ("path", "pattern", "params", "grad", "memory", "step")


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a criterion remembers of the gradients of a leaf.

    In `prune` every update is remembered, and the memory is part of the optimizer's state; in
    `prune_params` every batch is.

    Attributes:
      init: `init(w) -> memory`, any pytree of arrays, of one structure for all leaves. `w` may be a
        `jax.ShapeDtypeStruct`.
      update: `update(memory, w, grad) -> memory`, of the same shapes and dtypes. Pruned weights
        are exactly 0 in `w`. Elements of `grad` that are not finite arrive as 0.
      resets: whether the memory starts anew after each event.
      window: only so many updates before each event are remembered; None: all. It bounds what an
        expensive update costs.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> mean = scores.Memory(jnp.zeros_like, lambda memory, w, grad: memory + grad, resets=True)
      >>> mean.update(mean.init(jnp.ones(2)), jnp.ones(2), jnp.full(2, 3.0))
      Array([3., 3.], dtype=float32)
    """

    init: Callable[[jax.Array], Any]
    update: Callable[[Any, jax.Array, jax.Array], Any]
    resets: bool = False
    window: int | None = None


def started(memory: Memory, w):
    """What is remembered at first; never the leaf's own buffer, which may be donated beside it."""
    return jax.tree.map(lambda x: jnp.copy(x) if x is w else x, memory.init(w))


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A function from a leaf to its scores, and what it needs to know.

    Any function of one array is a criterion: `score=jnp.abs`. This class says more about it.

    Attributes:
      function: `function(w, **needs) -> scores`, float, the shape of `w`; higher means keep.
      needs: names of what it wants beside the leaf: "path", its path as a string; "pattern", its
        pattern; "params", a dict from path to array of all leaves of the tree; "grad", its
        gradient as it enters the transform; "memory", what `memory` made of its gradients; "step",
        the number of the update, int32, 0 outside of training.
      elementwise: whether the function is so cheap, element by element, that selection should
        compute it again in every pass rather than store its scores.
      memory: what is remembered from gradient to gradient, or None.
      probe: `probe(loss, params, grads, step) -> tree` of what to take in place of gradients,
        where `loss(params)` is a scalar, `grads` its gradient and `step` an int32 number of the
        batch; None takes the gradients themselves.
      signed: whether scores may be below 0, which is what weights that are pruned already score;
        then those rank below all others, and what is pruned stays so.
      compensate: `compensate(w, mask, memory) -> w`, the leaf after it was pruned, with the kept
        weights moved to make up for the others; None leaves them where they are.

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
    memory: Memory | None = None
    probe: Callable[..., Any] | None = None
    signed: bool = False
    compensate: Callable[..., jax.Array] | None = None

    def __post_init__(self):
        if isinstance(self.needs, str):
            raise TypeError(f"a criterion's needs={self.needs!r} must be a tuple of names.")
        strange = [name for name in self.needs if name not in _NEEDS]
        if strange:
            raise ValueError(
                f"a criterion needs {strange[0]!r}, which nobody gives it; needs may hold "
                f"{', '.join(map(repr, _NEEDS))}."
            )
        if ("memory" in self.needs or self.compensate is not None) and self.memory is None:
            raise ValueError(
                "a criterion needs its memory, but memory=None; give scores.Memory(init, update)."
            )

    @property
    def fused(self) -> bool:
        """Whether selection computes the scores itself, from the leaf alone, in every pass."""
        return self.elementwise and not self.needs

    @property
    def needs_grads(self) -> bool:
        """Whether it can give no scores without gradients, or what stands in their place."""
        return "grad" in self.needs or self.memory is not None or self.probe is not None

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
        hash(score)
    except TypeError as error:
        raise TypeError(
            f"score={score!r} cannot be hashed, so that programs compiled for it could not be told "
            "apart; make it a function or a frozen dataclass."
        ) from error
    return score if isinstance(score, Criterion) else Criterion(score)
