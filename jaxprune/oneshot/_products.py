"""Products in which data meets weights: the matrix in the leaf, and the rows that it meets.

A matrix product and a convolution are both X @ W, [rows, inputs] @ [inputs, outputs], for each of a
batch of matrices: experts, or groups of channels. The inputs of a convolution are its patches.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.oneshot import _views
from jaxprune.oneshot._views import Factors, Matrix, View


@dataclasses.dataclass(frozen=True)
class Patches:
    """How a convolution reads its input.

    Attributes:
      lhs_spec: axes of (batch, channels, *positions) in the input.
      taps: lengths of the kernel along the positions.
      strides, padding, lhs_dilation, rhs_dilation, groups: as `lax.conv_general_dilated` has them.
    """

    lhs_spec: tuple[int, ...]
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    groups: int


@dataclasses.dataclass(frozen=True)
class Rows:
    """How the operand of a product is read as X [batch, rows, inputs].

    Attributes:
      patches: what is done before to the operand of a convolution.
      batch, free, inputs: axes of the operand.
      batch_sizes, input_sizes: factors of the batch and of the inputs, in the order of the axes.
      batch_order, input_order: the order of those factors in the matrix.
    """

    patches: Patches | None
    batch: tuple[int, ...]
    free: tuple[int, ...]
    inputs: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    input_sizes: tuple[int, ...]
    batch_order: tuple[int, ...]
    input_order: tuple[int, ...]


def stacked(rows: Rows) -> Rows:
    """How X of several passes through a loop is read, [passes, batch, rows, inputs]."""
    batch, inputs = math.prod(rows.batch_sizes), math.prod(rows.input_sizes)
    return Rows(None, (1,), (0, 2), (3,), (batch,), (inputs,), (0,), (0,))


def read_rows(x: jax.Array, rows: Rows) -> jax.Array:
    """X [batch, rows, inputs], of the operand of a product."""
    if rows.patches is not None:
        x = _patches(x, rows.patches)
    number = math.prod(x.shape[i] for i in rows.free)
    x = x.transpose(*rows.batch, *rows.free, *rows.inputs)
    x = x.reshape(*rows.batch_sizes, number, *rows.input_sizes)
    b = len(rows.batch_sizes)
    x = x.transpose(*rows.batch_order, b, *(b + 1 + i for i in rows.input_order))
    return x.reshape(math.prod(rows.batch_sizes), number, math.prod(rows.input_sizes))


def _patches(x, p: Patches):
    """[groups, channels of a group, *taps, batch, *positions] of what each output sees."""
    x = x.transpose(p.lhs_spec)
    spread = [(low, high, d - 1) for (low, high), d in zip(p.padding, p.lhs_dilation, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *spread])
    sizes = [
        max(0, (n - (t - 1) * d - 1) // s + 1)
        for n, t, d, s in zip(x.shape[2:], p.taps, p.rhs_dilation, p.strides, strict=True)
    ]
    parts = []
    for flat in range(math.prod(p.taps)):
        first: list[int] = []
        for t, d in zip(reversed(p.taps), reversed(p.rhs_dilation), strict=True):
            first.insert(0, flat % t * d)
            flat //= t
        ends = [f + (n - 1) * s + 1 for f, n, s in zip(first, sizes, p.strides, strict=True)]
        parts.append(lax.slice(x, [0, 0, *first], [*x.shape[:2], *ends], [1, 1, *p.strides]))
    seen = jnp.stack(parts)  # [taps, batch, channels, *positions]
    seen = seen.reshape(*p.taps, x.shape[0], p.groups, x.shape[1] // p.groups, *sizes)
    taps = len(p.taps)
    order = (taps + 1, taps + 2, *range(taps), taps, *range(taps + 3, seen.ndim))
    return seen.transpose(order)


Order = Callable[[tuple[int, int]], tuple]
"""The key by which factors of a matrix are sorted."""


def dot(params, view: View, side: int, ndim: int, order: Order) -> tuple[Matrix, Rows]:
    """The matrix of a `dot_general` whose operand `side` is a view.

    Args:
      params: of the operation.
      view: of the operand that holds weights.
      side: which operand that is, 0 or 1.
      ndim: number of axes of the other.
      order: of factors.
    """
    contracted, batched = params["dimension_numbers"]
    summed, batch = contracted[side], batched[side]
    outputs = [i for i in range(len(view.axes)) if i not in (*summed, *batch)]
    data_summed, data_batch = contracted[1 - side], batched[1 - side]
    free = tuple(i for i in range(ndim) if i not in (*data_summed, *data_batch))
    return _matrix(view, batch, summed, outputs, data_batch, free, data_summed, None, order)


def convolution(params, view: View, shapes, order: Order) -> tuple[Matrix, Rows] | None:
    """The matrices of a `conv_general_dilated` whose kernel is a view, one for each group.

    Args:
      params: of the operation.
      view: of the kernel.
      shapes: of the input and of the kernel.
      order: of factors.
    """
    if params["batch_group_count"] != 1:
        return None
    kernel = shapes[1]
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    out, channel, *taps = numbers.rhs_spec
    cut = [*kernel[:out], groups, kernel[out] // groups, *kernel[out + 1 :]]
    grouped = _views.moved(view, "reshape", {}, tuple(cut))
    if grouped is None:
        return None
    later = lambda axis: axis + (axis > out)  # noqa: E731  # behind the axis that was cut
    ones = (1,) * len(taps)
    patches = Patches(
        tuple(numbers.lhs_spec),
        tuple(kernel[i] for i in taps),
        tuple(params["window_strides"]),
        tuple(tuple(pair) for pair in params["padding"]),
        tuple(params["lhs_dilation"] or ones),
        tuple(params["rhs_dilation"] or ones),
        groups,
    )
    summed = [later(channel), *map(later, taps)]
    n = len(taps)
    free = tuple(range(n + 2, 2 * n + 3))
    inputs = tuple(range(1, n + 2))
    return _matrix(grouped, [out], summed, [out + 1], (0,), free, inputs, patches, order)


def _matrix(view, batch, summed, outputs, data_batch, free, data_summed, patches, order):
    of_batch, of_inputs, of_outputs = (
        [pair for i in axes for pair in view.axes[i]] for axes in (batch, summed, outputs)
    )
    batch_order, input_order, output_order = (
        _sorted(factors, order) for factors in (of_batch, of_inputs, of_outputs)
    )
    matrix = Matrix(
        view.offset,
        _merged([of_batch[i] for i in batch_order]),
        _merged([of_inputs[i] for i in input_order]),
        _merged([of_outputs[i] for i in output_order]),
    )
    rows = Rows(
        patches,
        tuple(data_batch),
        free,
        tuple(data_summed),
        tuple(n for n, _ in of_batch),
        tuple(n for n, _ in of_inputs),
        tuple(batch_order),
        tuple(input_order),
    )
    return matrix, rows


def _sorted(factors, order) -> list[int]:
    return sorted(range(len(factors)), key=lambda i: order(factors[i]))


def _merged(factors: Sequence[tuple[int, int]]) -> Factors:
    """The same with as few factors as there can be: so equal matrices are equal."""
    merged: list[tuple[int, int]] = []
    for size, stride in factors:
        if merged and merged[-1][1] == size * stride:
            size *= merged.pop()[0]
        merged.append((size, stride))
    return tuple(merged)
