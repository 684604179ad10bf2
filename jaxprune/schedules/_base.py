"""What every schedule is: a span of steps, and a value for each step."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._checks import check_step

MAX_STEP = 2**31 - 1


def check_int32_step(value, name: str, *, minimum: int = 0) -> int:
    """A static step that a step counter on a device, an int32, can reach."""
    number = check_step(value, name, minimum=minimum)
    if number > MAX_STEP:
        raise ValueError(
            f"{name}={number} is beyond {MAX_STEP}, the last step that an int32 counter reaches; "
            f"give a smaller {name}."
        )
    return number


def as_steps(step, *, traced: bool = False) -> tuple[Any, Any]:
    """(jnp or np, the step as its array): jnp where the step, or what meets it, is jax's."""
    xp: Any = jnp if traced or isinstance(step, jax.Array) else np
    array = xp.asarray(step)
    if jnp.issubdtype(array.dtype, jnp.integer):
        # A narrow counter cannot be compared with a step that it cannot reach.
        wide = np.dtype(np.int32 if xp is jnp else np.int64)
    elif jnp.issubdtype(array.dtype, jnp.floating):
        wide = np.dtype(np.float32 if xp is jnp else np.float64)
    else:
        raise TypeError(f"step={step!r} is not a number; give the number of the step.")
    return xp, array if array.dtype.itemsize >= wide.itemsize else array.astype(wide)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(abc.ABC):
    """Step -> sparsity: 0 before `begin`, settled from `end` on.

    A schedule is a frozen dataclass, hashable when its fields are static, and callable like an
    optax schedule. A schedule of one's own is a subclass that defines `value`.

    Args:
      begin: first step with a value, 0 <= begin <= end.
      end: first step with the last value, end < 2**31.
      at: steps at which masks are recomputed, when the schedule itself knows them.

    Raises:
      ValueError: begin > end, or a step outside [0, 2**31).
      TypeError: a step that is traced or no whole number.

    Example:
      >>> import dataclasses
      >>> from jaxprune import schedules
      >>> @dataclasses.dataclass(frozen=True, kw_only=True)
      ... class Half(schedules.Schedule):
      ...     def value(self, step, xp):
      ...         return xp.where(step < self.end, 0.25, 0.5)
      >>> half = Half(begin=10, end=20)
      >>> half(9), half(10), half(20)
      (0.0, 0.25, 0.5)
    """

    begin: int
    end: int
    at: tuple[int, ...] | None = None

    def __post_init__(self):
        begin = check_int32_step(self.begin, "begin")
        end = check_int32_step(self.end, "end")
        if begin > end:
            raise ValueError(f"begin={begin} comes after end={end}; a schedule needs begin <= end.")
        object.__setattr__(self, "begin", begin)
        object.__setattr__(self, "end", end)

    @abc.abstractmethod
    def value(self, step, xp):
        """The sparsity at steps from `begin` on; `xp` is numpy or jax.numpy."""

    def __call__(self, step):
        """The sparsity at a step.

        Args:
          step: a number or an array of any shape, of Python, NumPy or JAX.

        Returns:
          For steps of Python and NumPy: float64, a float for a scalar. For steps of JAX, and
          where a field of the schedule is traced: a float32 array.
        """
        traced = any(isinstance(field, jax.Array) for field in vars(self).values())
        xp, step = as_steps(step, traced=traced)
        value = xp.where(step < self.begin, 0.0, self.value(step, xp))
        if xp is jnp:
            return value.astype(jnp.float32)
        return value if value.ndim else float(value)
