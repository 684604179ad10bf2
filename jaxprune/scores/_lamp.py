"""LAMP: magnitudes that compare between layers."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune._sharding import with_auto_axes
from jaxprune.scores._criterion import Criterion


@jax.jit
def _lamp(w):
    return with_auto_axes(lambda x: [_scores(x)], w, like=[w])[0]


def _scores(w):
    x = w.astype(jnp.float32).reshape(-1)
    bits = jnp.where(jnp.isnan(x), 0, lax.bitcast_convert_type(x, jnp.int32) & 0x7FFFFFFF)
    # The largest first, of equal ones the earlier: then what is above a weight stands before it.
    keys, order = lax.sort((-bits, lax.iota(jnp.int32, x.size)), num_keys=2, is_stable=False)
    descending = lax.bitcast_convert_type(-keys, jnp.float32)
    finite = jnp.isfinite(descending)
    squares = jnp.where(finite, jnp.square(descending * _scale(-keys, finite)), 0)
    sums = jnp.cumsum(squares)
    ratios = jnp.where(finite, squares / jnp.where(sums > 0, sums, 1), descending)
    scores = (
        jnp.zeros_like(x)
        .at[order]
        .set(_strict(ratios, keys), unique_indices=True, mode="promise_in_bounds")
    )
    return jnp.where(jnp.isnan(x), jnp.nan, scores).reshape(w.shape)


def _scale(bits, finite):
    """A power of two that brings the largest finite number into [2, 4), so that squares fit."""
    exponent = jnp.max(jnp.where(finite, bits, 0), initial=1 << 23) >> 23
    return lax.bitcast_convert_type((255 - exponent) << 23, jnp.float32)


def _strict(ratios, keys):
    """The ratios, lowered by single bits where rounding hid that a weight is below the one before.

    Exact ratios of neighbouring float32 weights are more than a bit apart, so little is to do.
    """
    number = jnp.cumsum(keys != jnp.roll(keys, 1), dtype=jnp.int32)  # of different weights so far
    bits = lax.cummin(lax.bitcast_convert_type(ratios, jnp.int32) + number) - number
    return lax.bitcast_convert_type(jnp.maximum(bits, 0), jnp.float32)


lamp = Criterion(_lamp)
"""Layer-adaptive magnitude: w**2 over the sum of all squares of its leaf that are not below it.

    score_u = w_u**2 / sum_{v >= u} w_v**2, weights of the leaf ascending in magnitude

Made to be ranked with `scope="global"`: within a leaf it is the order of magnitudes, and the
largest weight of every leaf has score 1, so that none is emptied before all have one weight left.

Scores are float32, in [0, 1]; weights are taken as float32. Of equal weights the earlier counts as
the larger. A weight that is 0, or that is below 1e-19 of the norm of its leaf, has score 0. A NaN
weight has a NaN score, an infinite one the score inf; both count for nothing in the sums of others.

It sorts: O(n log n), and a leaf that is cut over devices is gathered on each.

Example:
  >>> import jax.numpy as jnp
  >>> from jaxprune import scores
  >>> scores.lamp(jnp.array([1.0, -2.0, 2.0]))
  Array([0.11111111, 1.        , 0.5       ], dtype=float32)

References:
  Lee et al. 2020, Layer-adaptive sparsity for the magnitude-based pruning, arXiv 2010.07611.
"""
