"""What a plot is given, as float64 arrays on the host; and the mean and spread of seeds."""

import jax
import numpy as np

from jaxprune._checks import is_traced


def host(value, name: str) -> np.ndarray:
    """Numbers as a float64 array."""
    if any(map(is_traced, jax.tree.leaves(value))):
        raise TypeError(f"{name} is traced and cannot be drawn; plot outside of jit and vmap.")
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}={value!r} holds no numbers, or as many for one seed as not for another."
        ) from error


def check_spread(spread: str) -> None:
    """One of the two kinds of a spread."""
    if spread not in ("range", "std"):
        raise ValueError(
            f"spread={spread!r} is unknown; give 'range', the lowest and the highest of all seeds, "
            "or 'std', one standard deviation to each side."
        )


def mean_and_spread(values: np.ndarray, spread: str):
    """(mean, low, high) over axis 0, the seeds; NaN where a seed is not finite."""
    values = np.where(np.isfinite(values), values, np.nan)
    mean = values.mean(0)
    if spread == "range":
        low, high = values.min(0), values.max(0)
        return np.clip(mean, low, high), low, high  # rounding can put it outside
    std = values.std(0, ddof=1) if len(values) > 1 else np.zeros_like(mean)
    return mean, mean - std, mean + std
