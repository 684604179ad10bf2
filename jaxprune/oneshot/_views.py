"""Which weights of a leaf a value in a program holds, element for element.

Each axis of the value is a row-major product of factors (size, stride): strides count weights in
the flat order of the leaf. A transposition permutes axes, a reshape regroups factors, a slice moves
the offset; so a matrix that meets data in a product is known as a strided view of its leaf.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Factors = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class View:
    """Weights of one leaf.

    Attributes:
      leaf: number of the leaf.
      offset: flat index of the first weight.
      axes: for each axis of the value its factors (size, stride), the slowest first.
    """

    leaf: int
    offset: int
    axes: tuple[Factors, ...]


class Matrix(NamedTuple):
    """A stack of matrices [batch, inputs, outputs] in a leaf.

    Attributes:
      offset: flat index of the first weight.
      batch, inputs, outputs: factors (size, stride), the slowest first.
    """

    offset: int
    batch: Factors
    inputs: Factors
    outputs: Factors

    @property
    def shape(self) -> tuple[int, int, int]:
        """(batch, inputs, outputs)."""
        b, i, o = (math.prod(n for n, _ in factors) for factors in self[1:])
        return b, i, o


def whole(leaf: int, shape: Sequence[int]) -> View:
    """All of a leaf."""
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    pairs = zip(shape, strides, strict=True)
    return View(leaf, 0, tuple(((n, s),) if n > 1 else () for n, s in pairs))


def strided(array: np.ndarray, matrix: Matrix) -> np.ndarray:
    """The matrices as a view [batch, inputs, outputs, of their factors] of a flat array.

    It shares memory with `array`: what is written into it is written into the leaf.
    """
    factors = [*matrix.batch, *matrix.inputs, *matrix.outputs]
    step = array.strides[0]
    return np.lib.stride_tricks.as_strided(
        array[matrix.offset :], [n for n, _ in factors], [s * step for _, s in factors]
    )


def moved(view: View, name: str, params, shape: tuple[int, ...]) -> View | None:
    """The view after an operation that only moves weights; None where it is another, or unclear.

    Args:
      view: of the operand.
      name, params: of the operation.
      shape: of the result.
    """
    rule = _RULES.get(name)
    return None if rule is None else rule(view, params, shape)


def at(view: View, index: int) -> View | None:
    """The view of one index of the first axis."""
    sliced = _cut(view, 0, index, 1, 1)
    return None if sliced is None else View(view.leaf, sliced.offset, view.axes[1:])


def split(view: View, params) -> list[View | None]:
    """The views of the parts that `split` makes."""
    sizes = [int(size) for size in params["sizes"]]
    pairs = zip(itertools.accumulate([0, *sizes]), sizes, strict=False)
    return [_cut(view, params["axis"], start, size, 1) for start, size in pairs]


def _same(view, params, shape):
    return view


def _cast(view, params, shape):
    return view if np.issubdtype(_kind(params["new_dtype"]), np.floating) else None


def _kind(dtype):
    return np.float32 if "float" in np.dtype(dtype).name else np.dtype(dtype)


def _transposed(view, params, shape):
    return dataclasses.replace(view, axes=tuple(view.axes[i] for i in params["permutation"]))


def _reshaped(view, params, shape):
    if params.get("dimensions") is not None:
        view = _transposed(view, {"permutation": params["dimensions"]}, shape)
    left = [pair for factors in view.axes for pair in factors][::-1]
    axes = []
    for n in shape:
        factors = []
        while n > 1:
            size, stride = left.pop()
            if n % size == 0:
                factors.append((size, stride))
                n //= size
            elif size % n == 0:  # the slower part is this axis, the faster one is left
                inner = size // n
                factors.append((n, stride * inner))
                left.append((inner, stride))
                n = 1
            else:
                return None
        axes.append(tuple(factors))
    return dataclasses.replace(view, axes=tuple(axes))


def _squeezed(view, params, shape):
    gone = {d % len(view.axes) for d in params["dimensions"]}
    return dataclasses.replace(
        view, axes=tuple(f for i, f in enumerate(view.axes) if i not in gone)
    )


def _summed(view, params, shape):
    one = all(not view.axes[axis] for axis in params["axes"])
    return _squeezed(view, {"dimensions": params["axes"]}, shape) if one else None


def _broadcast(view, params, shape):
    axes: list[Factors] = [()] * len(shape)
    for factors, axis in zip(view.axes, params["broadcast_dimensions"], strict=True):
        axes[axis] = factors
    sizes = tuple(math.prod(n for n, _ in factors) for factors in axes)
    return dataclasses.replace(view, axes=tuple(axes)) if sizes == tuple(shape) else None


def _sliced(view, params, shape):
    found: View | None = view
    strides = params["strides"] or [1] * len(shape)
    for axis, (start, step) in enumerate(zip(params["start_indices"], strides, strict=True)):
        found = None if found is None else _cut(found, axis, start, shape[axis], step)
    return found


def _cut(view, axis, start, size, step):
    """So many indices of an axis, from `start` on; None where the axis is a product of factors."""
    factors = view.axes[axis]
    if size == math.prod(n for n, _ in factors):
        return view
    if len(factors) != 1 or not size:
        return None
    stride = factors[0][1]
    kept = ((size, stride * step),) if size > 1 else ()
    axes = (*view.axes[:axis], kept, *view.axes[axis + 1 :])
    return View(view.leaf, view.offset + start * stride, axes)


def _reversed(view, params, shape):
    axes, offset = list(view.axes), view.offset
    for axis in params["dimensions"]:
        offset += sum((n - 1) * s for n, s in axes[axis])
        axes[axis] = tuple((n, -s) for n, s in axes[axis])
    return View(view.leaf, offset, tuple(axes))


_RULES = {
    "broadcast_in_dim": _broadcast,
    "convert_element_type": _cast,
    "copy": _same,
    "copy_p": _same,
    "device_put": _same,
    "expand_dims": _broadcast,
    "pvary": _same,
    "reduce_precision": _same,
    "reduce_sum": _summed,
    "reshape": _reshaped,
    "rev": _reversed,
    "sharding_constraint": _same,
    "slice": _sliced,
    "squeeze": _squeezed,
    "stop_gradient": _same,
    "transpose": _transposed,
}
