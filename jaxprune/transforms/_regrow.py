"""What an event drops to grow as much elsewhere."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprune._checks import is_traced
from jaxprune.masks._counts import kept_traced
from jaxprune.masks._room import dense_cost
from jaxprune.scores import Criterion
from jaxprune.select import _wide


@dataclasses.dataclass(frozen=True)
class Regrow:
    """How sparse training moves weights.

    Attributes:
      grow: the criterion that says what grows.
      fraction: step -> the fraction of what is kept that an event exchanges, 0 to 1.
      start: the criterion of the masks to start from.
      fan_in: of neurons that all have as many inputs, what share of them must be salient for a
        neuron to live; None: each has what the ranking gives it.
    """

    grow: Criterion
    fraction: Callable[[int], Any]
    start: Criterion
    fan_in: float | None = None


@dataclasses.dataclass(frozen=True)
class CosineDecay:
    """From `first` at `begin` to 0 at `end`: first / 2 * (1 + cos(pi * x))."""

    first: float
    begin: int
    end: int

    def __call__(self, step):
        """The fraction at a step."""
        x = (step - self.begin) / max(self.end - self.begin, 1)
        return self.first / 2 * (1 + math.cos(math.pi * min(max(x, 0), 1)))


def fraction_of(fraction, events) -> Callable[[int], Any]:
    """A fraction that decays from the first event to 0 at the last, or a schedule as it is."""
    if callable(fraction):
        return fraction
    return CosineDecay(check_fraction(fraction), events.begin, events.end)


def check_fraction(value, step=None) -> float:
    """What share of the kept weights an event exchanges."""
    return _from_0_to_1(value, "fraction", "" if step is None else f" at step {step}")


def check_share(value) -> float:
    """What share of a neuron's inputs must be salient."""
    return _from_0_to_1(value, "min_salient", "")


def _from_0_to_1(value, name, at) -> float:
    if isinstance(value, bool | str) or is_traced(value) or np.ndim(value):
        raise TypeError(f"{name}={value!r}{at} is not a static number; give one such as 0.3.")
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{name}={value!r}{at} must be from 0 to 1, such as 0.3.")
    return float(value)


def stay_table(regrow: Regrow, events, rows, num_keep) -> np.ndarray:
    """For each event how many units of each group stay, limbs [events, groups, 2].

    Args:
      regrow: how weights move.
      events: `schedules.Events`.
      rows: for each event its row in `num_keep`.
      num_keep: limbs [rows, groups, 2].
    """
    kept = (num_keep[..., 0].astype(np.int64) << _wide.BITS) + num_keep[..., 1]
    stay = [
        [n - round(n * check_fraction(regrow.fraction(step), step)) for n in kept[row].tolist()]
        for step, row in zip(events.all().tolist(), rows.tolist(), strict=True)
    ]
    return _wide.constant(stay)


def stay_counts(regrow: Regrow, events, step, setup, sparsity, num_keep):
    """The same for one event, where the sparsity is traced: limbs [groups, 2]."""
    table = [check_fraction(regrow.fraction(i), i) for i in events.all().tolist()]
    fraction = jnp.asarray(table, jnp.float32)[events.index(step)]
    sparsity = jnp.asarray(sparsity)
    beyond = sparsity + (1 - sparsity) * fraction
    members: list[list] = [[] for _ in setup.labels]
    for target in setup.targets:
        members[target.group].append(target)
    stay = jnp.stack([kept_traced(dense_cost(m), beyond) for m in members])
    return _wide.clip(stay, jnp.zeros_like(stay), num_keep)
