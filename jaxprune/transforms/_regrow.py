"""What an event drops to grow as much elsewhere."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._checks import is_traced
from jaxprune.scores import Criterion
from jaxprune.select import _wide


@dataclasses.dataclass(frozen=True)
class Regrow:
    """How sparse training moves weights.

    Attributes:
      grow: the criterion that says what grows.
      fractions: of what is kept, how much each event exchanges, 0 to 1.
      start: the criterion of the masks to start from.
      fan_in: of neurons that all have as many inputs, what share of them must be salient for a
        neuron to live; None: each has what the ranking gives it.
    """

    grow: Criterion
    fractions: tuple[float, ...]
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


def fractions_of(fraction, events) -> tuple[float, ...]:
    """At each event: a number decays from the first to 0 at the last, a schedule is as it is."""
    if not callable(fraction):
        fraction = CosineDecay(check_fraction(fraction), events.begin, events.end)
    with jax.ensure_compile_time_eval():
        return tuple(check_fraction(fraction(step), step) for step in events.all().tolist())


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


def stay_table(regrow: Regrow, rows, num_keep) -> np.ndarray:
    """For each event how many units of each group stay, limbs [events, groups, 2].

    Args:
      regrow: how weights move.
      rows: for each event its row in `num_keep`.
      num_keep: limbs [rows, groups, 2].
    """
    kept = _wide.to_int64(num_keep)
    stay = [
        [n - round(n * fraction) for n in kept[row].tolist()]
        for row, fraction in zip(rows.tolist(), regrow.fractions, strict=True)
    ]
    return _wide.constant(stay)


_BITS = 15  # of a fraction whose counts are known at run time only


def stay_counts(regrow: Regrow, index, num_keep):
    """The same for the event with a number, where counts are traced: limbs [groups, 2].

    In integers, to the precision of the fraction: num_keep - round(num_keep * fraction).
    """
    table = [round(fraction * (1 << _BITS)) for fraction in regrow.fractions]
    factor = jnp.asarray(table, jnp.int32)[index]
    high, low = num_keep[..., 0], num_keep[..., 1]
    first = low * factor  # below 2**31
    middle = (high & 0xFFFF) * factor + (first >> _wide.BITS)
    last = (high >> _wide.BITS) * factor + (middle >> _wide.BITS)
    half = (first >> (_BITS - 1)) & 1
    dropped_low = ((middle & 0xFFFF) << 1) + ((first & 0xFFFF) >> _BITS) + half
    dropped = _wide.carry(jnp.stack([last << 1, dropped_low], axis=-1))
    return _wide.subtract(num_keep, dropped)
