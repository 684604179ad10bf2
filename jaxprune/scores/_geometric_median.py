"""Geometric median: what the other filters can stand in for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._sharding import with_auto_axes
from jaxprune.scores._criterion import Criterion


def _geometric_median(w, *, path, pattern):
    if not hasattr(pattern, "view"):
        raise ValueError(
            f"geometric_median compares channels or heads weight by weight, and {path} has the "
            f"pattern {pattern}; give it jaxprune.Channel or jaxprune.Heads, or another score."
        )
    if w.size == 0:
        return jnp.zeros(w.shape, jnp.float32)
    return with_auto_axes(functools.partial(_scores, pattern=pattern), w, like=[w])[0]


@functools.partial(jax.jit, static_argnames="pattern", inline=True)  # one program, without jit too
def _scores(w, pattern):
    view, axes = pattern.view(w.shape)
    x = jnp.asarray(w, jnp.float32).reshape(view)
    x = jnp.moveaxis(x, axes, range(len(axes)))
    scores = _sums_of_distances(x, len(axes)).transpose(np.argsort(axes))
    return [pattern.expand(scores, w.shape)]


def _sums_of_distances(x, number):
    """Of `x`, whose first `number` axes are those of units, the last of them of those compared."""
    apart, axis, rest = range(number - 1), number - 1, tuple(range(number, x.ndim))
    largest = jnp.max(jnp.abs(x), rest, keepdims=True)
    alive = jnp.isfinite(largest) & (largest > 0)
    x = jnp.where(alive, x, 0)
    scale = _power_below(jnp.max(jnp.abs(x)))
    x = x / scale  # so that no square is out of range
    # A shift leaves distances as they are, and of shorter vectors products cancel less.
    count = jnp.maximum(jnp.sum(alive, axis, keepdims=True), 1)
    x = jnp.where(alive, x - jnp.sum(x, axis, keepdims=True) / count, 0)
    products = lax.dot_general(x, x, ((rest, rest), (apart, apart)), precision="highest")
    squares = jnp.diagonal(products, axis1=-2, axis2=-1)
    squared = squares[..., :, None] + squares[..., None, :] - 2 * products
    distances = jnp.sqrt(jnp.maximum(squared, 0))  # rounding may leave less than 0
    largest, alive = jnp.squeeze(largest, rest), jnp.squeeze(alive, rest)
    total = jnp.sum(jnp.where(alive[..., None, :], distances, 0), -1) * scale
    return jnp.where(alive, total, jnp.where(largest == 0, -1, largest))


def _power_below(x):
    """The largest power of two that is not above x; 1 if there is none."""
    exponent = lax.bitcast_convert_type(x, jnp.int32) >> 23
    return lax.bitcast_convert_type(jnp.where(exponent > 0, exponent, 127) << 23, jnp.float32)


geometric_median = Criterion(_geometric_median, needs=("path", "pattern"))
"""The criterion of distances to all other filters: the lowest lie nearest to their median.

    score of each weight of unit j = sum over units i of ||F_j - F_i||_2

What lies nearest to the geometric median of the filters, the others can stand in for; a small
filter that points where no other does is kept. Units come from the leaf's pattern, `Channel` or
`Heads`. Of several axes the last one named is that of the filters, and those at one index of the
others are compared: the filters of each layer of a stack with `Channel(axis=(0, -1))`.

Float32 scores. A unit of zeros, which was pruned before, counts in no sum and has the score -1,
below all others, so that a gradual schedule never takes it back for one that is alive. Neither
does a unit with a NaN or an infinite weight count in others' sums; its own score is that.

Squared distances are |a|**2 + |b|**2 - 2ab, from filters shifted by their mean: two of them have
a distance of 0 up to 4e-4 of their own distance from the mean. Distances between all pairs are in
memory at once, float32 [units, units]. Sums over cut axes may differ in their last bits with the
number of devices.

Example:
  >>> import jax.numpy as jnp
  >>> import jaxprune
  >>> w = jnp.array([[4.0, 4.0, 5.0, -1.0]])  # filters of one weight; the smallest is far from all
  >>> score = jaxprune.scores.geometric_median
  >>> score(w, path="conv/kernel", pattern=jaxprune.Channel()).round().astype(int)
  Array([[ 6,  6,  8, 16]], dtype=int32)

References:
  He et al., Filter pruning via geometric median, arXiv 1811.00250.
"""
