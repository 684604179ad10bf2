"""Scores relative to the norm of their leaf, so that leaves can be ranked together."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.scores._criterion import Criterion, as_criterion
from jaxprune.scores._magnitude import magnitude

_DEPTH = 45  # bits of each number that count, below 16 times the square of the largest


def l1_norm(x: jax.Array) -> jax.Array:
    """The sum of |x|, whatever the order and the number of devices.

        sum_i |x_i|

    Added in integers, so that no order of additions can change it; nothing overflows or underflows
    on the way.

    Args:
      x: float array of any shape. Subnormal numbers count as 0.

    Returns:
      A float32 scalar; 0 of an empty array, inf or NaN if an element is.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> scores.l1_norm(jnp.array([3.0, -4.0]))
      Array(7., dtype=float32)
    """
    return _norm(x, squared=False)


def l2_norm(x: jax.Array) -> jax.Array:
    """The root of the sum of squares, whatever the order and the number of devices.

        sqrt(sum_i x_i**2)

    Added in integers, so that no order of additions can change it; nothing overflows or underflows
    on the way.

    Args:
      x: float array of any shape. Subnormal numbers count as 0.

    Returns:
      A float32 scalar; 0 of an empty array, inf or NaN if an element is.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> scores.l2_norm(jnp.array([3.0, -4.0]))
      Array(5., dtype=float32)
    """
    return _norm(x, squared=True)


def normalized(
    score: Callable[..., jax.Array] = magnitude,
    *,
    by: Callable[[jax.Array], jax.Array] = l2_norm,
) -> Criterion:
    """A criterion relative to the norm of its scores in each leaf.

        score_i / by(|scores of the leaf|)

    With `scope="global"` layers then compete on equal terms, however large their weights are by
    nature. Within a leaf the order stays; scores that differ in the last bit may become equal.

    Args:
      score: the criterion, a function of one leaf or a `scores.Criterion`. What it needs and
        remembers, what it probes and how kept weights make up for others stays as it is.
      by: from the absolute scores of a leaf, float32, to a scalar: `l2_norm`, `l1_norm`, `jnp.max`
        (exact on any number of devices, all three), `jnp.mean`, `jnp.sum` or a function of one's
        own.

    Returns:
      A criterion with float32 scores. Scores that are NaN or infinite stay so and are 0 for `by`.
      Where the norm is 0 or NaN, as of an empty leaf, finite scores become 0.

    Raises:
      TypeError: `score` or `by` is not a function.
      ValueError: `by` gives no scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> from jaxprune import scores
      >>> a = jnp.array([[3.0, 1.0], [2.0, 4.0]])
      >>> b = jnp.array([[50.0, 99.0], [80.0, 100.0]])
      >>> score = scores.normalized(by=jnp.max)
      >>> masks = jaxprune.masks.make({"a": a, "b": b}, 0.5, score=score, scope="global")
      >>> masks["a"].sum().item(), masks["b"].sum().item()  # by magnitude: 0 and 4
      (1, 3)

    References:
      Lee et al. 2023, JaxPruner: a concise library for sparsity research, arXiv 2304.14082, whose
      global scores are divided by the L2 norm of their layer.
    """
    if not callable(by):
        raise TypeError(
            f"by={by!r} is not a function; pass one such as jaxprune.scores.l2_norm or jnp.max, "
            "which maps the scores of a leaf to a scalar."
        )
    base = as_criterion(score)
    return dataclasses.replace(base, function=_Normalized(base.function, by), elementwise=False)


@dataclasses.dataclass(frozen=True)
class _Normalized:
    """Equal where its parts are, as criteria are compared."""

    function: Callable[..., jax.Array]
    by: Callable[[jax.Array], jax.Array]

    def __call__(self, w, **needs):
        scores = self.function(w, **needs).astype(jnp.float32)
        finite = jnp.isfinite(scores)
        norm = jnp.asarray(self.by(jnp.where(finite, jnp.abs(scores), 0)), jnp.float32)
        if norm.shape:
            raise ValueError(
                f"by={self.by!r} gave an array of shape {norm.shape} for a leaf of shape "
                f"{w.shape}; it must reduce all axes to a scalar."
            )
        relative = jnp.where(norm > 0, scores / jnp.where(norm > 0, norm, 1), 0)
        return jnp.where(finite, relative, scores)


@functools.partial(jax.jit, static_argnames="squared", inline=True)  # one program, without jit too
def _norm(x, squared):
    x, largest, scale, back = _scaled(x)
    norm = jnp.sqrt(_sum(jnp.square(x * scale))) if squared else _sum(x * scale)
    return jnp.where(jnp.isfinite(largest), norm * back, largest)


def _scaled(x):
    """|x| as float32, its largest, a power of two that brings that into [1, 4), and its inverse."""
    x = jnp.abs(x.astype(jnp.float32))
    largest = jnp.max(x, initial=0)
    exponent = jnp.clip(lax.bitcast_convert_type(largest, jnp.int32) >> 23, 1, 253)
    scale, back = (
        lax.bitcast_convert_type(e << 23, jnp.float32) for e in (254 - exponent, exponent)
    )
    return x, largest, scale, back


def _sum(x):
    """The sum of numbers in [0, 16), by digits so short that int32 holds their sums."""
    width = min(15, 31 - max(x.shape, default=0).bit_length())
    rest, digits = x / 16, []
    for _ in range(-(-_DEPTH // width)):
        rest = rest * float(1 << width)
        digits.append(jnp.floor(rest).astype(jnp.int32))
        rest = rest - jnp.floor(rest)
    fraction, most = len(digits), len(digits) + -(-x.size.bit_length() // width)
    for axis in reversed(range(x.ndim)):
        sums = [jnp.sum(digit, axis, dtype=jnp.int32) for digit in digits]
        digits = _carry(sums, width)[-most:]  # others are 0
    lowest = 16 * 2.0 ** (-width * fraction)
    return sum(
        digit.astype(jnp.float32) * (lowest * 2.0 ** (width * place))
        for place, digit in enumerate(reversed(digits))
    )


def _carry(digits, width):
    """The same number in digits of `width` bits, the most significant first."""
    carried: list[jax.Array] = []
    above = jnp.int32(0)
    for digit in reversed(digits):
        carried.insert(0, (digit + above) & ((1 << width) - 1))
        above = (digit + above) >> width
    for _ in range(-(-(31 - width) // width)):
        carried.insert(0, above & ((1 << width) - 1))
        above = above >> width
    return carried
