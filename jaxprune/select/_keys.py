"""Scores as ordered integers: the comparison that every selection counts with."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# dtype -> (integer of the same width, integer to compute in, bit pattern of +inf).
_FORMATS = {
    "float16": (jnp.int16, jnp.int32, 0x7C00),
    "bfloat16": (jnp.int16, jnp.int32, 0x7F80),
    "float32": (jnp.int32, jnp.int32, 0x7F800000),
    "float64": (jnp.int64, jnp.int64, 0x7FF0000000000000),
}


def can_order(dtype) -> bool:
    """Whether scores of `dtype` can be ordered as they are."""
    return str(dtype) in _FORMATS


def check_dtype(dtype, name: str):
    """Raises unless scores of `dtype` can be ordered."""
    if not can_order(dtype):
        raise TypeError(
            f"{name} has dtype {dtype}; selection orders float16, bfloat16, float32 and "
            "float64. Cast the scores to float32."
        )


def common_dtype(dtypes):
    """The dtype in which scores of all `dtypes` can be compared without loss."""
    dtypes = {str(dtype) for dtype in dtypes}
    if len(dtypes) == 1:
        return jnp.dtype(dtypes.pop())
    return jnp.dtype("float64" if "float64" in dtypes else "float32")


def key_dtype(dtype):
    """The integer dtype of the keys of scores of `dtype`."""
    return jnp.dtype(_FORMATS[str(dtype)][1])


def key_range(dtype):
    """(lowest, above): the key of NaN, the lowest; and one more than the key of +inf."""
    infinity = _FORMATS[str(dtype)][2]
    return -infinity - 1, infinity + 1


def to_keys(scores: jax.Array) -> jax.Array:
    """Integers that order as `scores` do, with -0.0 equal to 0.0 and NaN below -inf.

    A float's bits without the sign order as its magnitude does, so the key is those bits, negated
    for negative scores. Integers compare exactly also where hardware flushes subnormals to zero.
    """
    narrow, wide, infinity = _FORMATS[str(scores.dtype)]
    bits = lax.bitcast_convert_type(scores, narrow).astype(wide)
    magnitude = bits & np.iinfo(narrow).max
    sign = bits >> (np.iinfo(wide).bits - 1)  # -1 or 0
    keys = (magnitude ^ sign) - sign
    return jnp.where(magnitude > infinity, jnp.asarray(-infinity - 1, wide), keys)
