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


def check_scores(scores, name="scores"):
    """Raises unless `scores` is a float array that can be ordered."""
    if str(scores.dtype) not in _FORMATS:
        raise TypeError(
            f"{name} has dtype {scores.dtype}; selection orders float16, bfloat16, float32 and "
            "float64. Cast the scores to float32."
        )


def common_dtype(leaves):
    """The dtype in which the scores of all `leaves` can be compared without loss."""
    dtypes = {str(x.dtype) for x in leaves}
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


def to_keys(scores: jax.Array, dtype) -> jax.Array:
    """Integers that order as `scores` do, with -0.0 equal to 0.0 and NaN below -inf.

    A float's bits without the sign order as its magnitude does, so the key is those bits, negated
    for negative scores. Integers compare exactly also where hardware flushes subnormals to zero.
    Integer `scores` are keys already.

    Args:
      scores: float array, or keys.
      dtype: the float dtype to compare in, from `common_dtype`.
    """
    if jnp.issubdtype(scores.dtype, jnp.integer):
        return scores
    narrow, wide, infinity = _FORMATS[str(dtype)]
    bits = lax.bitcast_convert_type(scores.astype(dtype), narrow).astype(wide)
    magnitude = bits & np.iinfo(narrow).max
    sign = bits >> (np.iinfo(wide).bits - 1)  # -1 or 0
    keys = (magnitude ^ sign) - sign
    return jnp.where(magnitude > infinity, jnp.asarray(-infinity - 1, wide), keys)
