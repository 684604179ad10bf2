"""Checks of arguments: what is wrong, where, and what to write instead."""

import math
import operator

import jax
import jax.numpy as jnp
import numpy as np


def is_traced(value) -> bool:
    """Whether `value` is known only when the compiled program runs."""
    return isinstance(value, jax.core.Tracer)


def check_sparsity(value, name: str, *, where: str = ""):
    """A fraction of zeros in [0, 1): as a Python float, or as it is where it is traced."""
    at = f" for {where}" if where else ""
    if value is None or isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError(
            f"{name}={value!r}{at} is not a number; give a fraction of zeros such as 0.9."
        )
    if is_traced(value):
        if value.ndim:
            raise TypeError(f"{name}{at} must be a scalar, not of shape {value.shape}.")
        return value
    try:
        number = decimal(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}={value!r}{at} is not a number; give a fraction of zeros such as 0.9."
        ) from error
    if not 0 <= number < 1 or math.isnan(number):
        hint = f" Did you mean {number / 100:g}?" if 2 <= number < 100 else ""
        raise ValueError(
            f"{name}={value!r}{at} must be a fraction of zeros, 0 <= {name} < 1.{hint}"
        )
    return number


def decimal(value) -> float:
    """A number as a Python float; a float32 as the shortest decimal that denotes it.

    float32(0.9) is 0.89999998; who writes 0.9 into a float32 schedule asks for 0.9.
    """
    if isinstance(value, int | float) and not isinstance(value, np.floating):
        return float(value)
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "fiuV":
        raise TypeError(f"expected a scalar number, not {array.dtype}{list(array.shape)}")
    return float(str(array[()]))


def check_step(value, name: str, *, minimum: int = 0) -> int:
    """A whole number known at build time."""
    if is_traced(value):
        raise TypeError(
            f"{name} is traced, but which steps are events must be known when the program is "
            f"built; pass {name} as a Python int."
        )
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is not a step; give a whole number.")
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}={value!r} is not a whole number of steps.") from error
    if number < minimum:
        raise ValueError(f"{name}={number} must be at least {minimum}.")
    return number


def check_key(key):
    """A PRNG key, typed or raw."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if (not typed and dtype != jnp.uint32) or len(shape) != (0 if typed else 1):
        raise TypeError(f"key={key!r} is not a PRNG key; pass jax.random.key(seed).")


def key_data(key) -> np.ndarray:
    """The uint32 words of a PRNG key, typed or raw."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if typed else key)
