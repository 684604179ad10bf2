"""Values in a program that are weights stored as blocks, however their axes lie."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.sparse import _product
from jaxprune.sparse._block_ell import BlockELL
from jaxprune.sparse._product import Blocks

Factors = tuple[tuple[int, int], ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class View:
    """A value that is all weights of a leaf, in some order.

    Attributes:
      blocks: the weights.
      path: of the leaf.
      axes: for each axis of the value its factors (size, stride), the slowest first; strides count
        weights in the dense order (stack, rows, columns).
    """

    blocks: Blocks
    path: str = dataclasses.field(metadata={"static": True})
    axes: tuple[Factors, ...] = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return tuple(math.prod(n for n, _ in factors) for factors in self.axes)

    @property
    def size(self) -> int:
        """How many weights, zeros included."""
        return math.prod(self.shape)


def whole(leaf: BlockELL, path: str) -> View:
    """All of a leaf, as it is."""
    return View(_product.opened(leaf), path, _row_major(leaf.shape))


def dense(view: View):
    """The array that a view stands for."""
    array = _product.dense(view.blocks)
    factors = [pair for axis in view.axes for pair in axis]
    order = sorted(range(len(factors)), key=lambda i: -factors[i][1])
    array = array.reshape([factors[i][0] for i in order])
    return array.transpose([order.index(i) for i in range(len(order))]).reshape(view.shape)


def turn(view: View) -> View | None:
    """What a turn of a loop over the first axis sees, once its arrays are sliced.

    None where that axis is not the first of the stack.
    """
    stack = view.blocks.stack
    if not stack or not view.axes:
        return None
    stride = math.prod(stack[1:]) * math.prod(view.blocks.size)
    return None if view.axes[0] != _factors(stack[0], stride) else _with_axes(view, view.axes[1:])


def moved(view: View, eqn, bind) -> View | None:
    """The view after an operation that only moves or casts weights; None where it is another."""
    name, params, shape = eqn.primitive.name, eqn.params, eqn.outvars[0].aval.shape
    if name in _EACH:
        if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
            return None
        made = tuple(bind(eqn, [x])[0] for x in view.blocks.blocks)
        return dataclasses.replace(view, blocks=dataclasses.replace(view.blocks, blocks=made))
    if name == "transpose":
        return _with_axes(view, tuple(view.axes[i] for i in params["permutation"]))
    in_order = (name in _IN_ORDER and params.get("dimensions") is None) or name == "squeeze"
    return _reshaped(view, shape) if in_order and math.prod(shape) == view.size else None


_EACH = frozenset(
    {"convert_element_type", "copy", "copy_p", "name", "neg", "reduce_precision", "stop_gradient"}
)
"""What is done to each weight by itself, and makes 0 of 0."""

_IN_ORDER = frozenset({"broadcast_in_dim", "expand_dims", "reduce_sum", "reshape"})
"""What leaves weights in their order, if it leaves their number."""


class _Roles(NamedTuple):
    """Axes of weights in a product, those of each kind from the slowest to the fastest.

    Attributes:
      stack, inner, outer: those of the stack, those contracted, and the others.
      of_stack: what is done with the stack: "contracted", "batch", "free".
      transposed: whether columns are contracted, not rows.
    """

    stack: list[int]
    inner: list[int]
    outer: list[int]
    of_stack: str
    transposed: bool


def product(view: View, x, side: int, eqn):
    """The product of an equation, the weights on one side; None where it needs dense weights."""
    contracted, batch = _sides(eqn, side)
    roles = _roles(view, contracted[0], batch[0])
    if roles is None:
        return None
    met = dict(zip(contracted[0] + batch[0], contracted[1] + batch[1], strict=True))
    mapped = [met[axis] for axis in roles.stack] if roles.of_stack != "free" else []
    inner = [met[axis] for axis in roles.inner]
    free = [i for i in range(x.ndim) if i not in mapped + inner]
    y = _multiplied(view, lax.transpose(x, (*mapped, *free, *inner)), eqn, roles, bool(mapped))
    # Its axes as they lie, and in the order of the equation; what is left out there has length 1.
    stack = [] if roles.of_stack == "contracted" else roles.stack
    lie = [("w", i) for i in stack] + [("x", i) for i in free] + [("w", i) for i in roles.outer]
    of_x = [("x", i) for i in free if i not in batch[1]]
    of_w = [("w", i) for i in range(len(view.axes)) if i not in contracted[0] + batch[0]]
    order = [("w", i) for i in batch[0]] + (of_w + of_x if side == 0 else of_x + of_w)
    order = [axis for axis in order if axis in lie]
    order += [axis for axis in lie if axis not in order]
    sizes = [x.shape[i] if name == "x" else view.shape[i] for name, i in lie]
    y = y.reshape(sizes).transpose([lie.index(axis) for axis in order])
    return y.reshape(eqn.outvars[0].aval.shape)


def _roles(view, contracted, batch) -> _Roles | None:
    """What each axis of the weights does; None where that is no product of whole matrices."""
    m, n = view.blocks.size
    kinds: dict[str, list[int]] = {"stack": [], "rows": [], "columns": []}
    done: dict[str, set[str]] = {kind: set() for kind in kinds}
    for axis, factors in enumerate(view.axes):
        if len(factors) > 1:
            return None
        for size, stride in factors:
            if any(size * stride > end > stride for end in (n, m * n)):
                return None  # it is partly this, partly that
            kind = "stack" if stride >= m * n else "rows" if stride >= n else "columns"
            kinds[kind].append(axis)
            done[kind].add(
                "contracted" if axis in contracted else "batch" if axis in batch else "free"
            )
    for axes in kinds.values():
        axes.sort(key=lambda axis: -view.axes[axis][0][1])
    stack, rows, columns = kinds.values()
    if len(done["stack"]) > 1:
        return None
    of_stack = next(iter(done["stack"]), "free")
    if done["rows"] <= {"contracted"} and done["columns"] <= {"free"}:
        return _Roles(stack, rows, columns, of_stack, False)
    if done["rows"] <= {"free"} and done["columns"] <= {"contracted"}:
        return _Roles(stack, columns, rows, of_stack, True)
    return None


def _multiplied(view, x, eqn, roles, mapped):
    """The product with x [*stack if mapped, *free, *inner]; its axes lie as in `product`."""
    w, dtype = view.blocks, eqn.outvars[0].aval.dtype
    size = w.size[1 if roles.transposed else 0]
    options = {key: eqn.params[key] for key in ("precision", "preferred_element_type")}
    function = _product.times_transposed if roles.transposed else _product.times
    if not w.stack:
        return function(x.reshape(-1, size), w, dtype, **options)
    total = roles.of_stack == "contracted"
    made = jnp.promote_types(dtype, jnp.float32) if total else dtype
    y = _product.stacked(
        lambda x, w: function(x, w, made, **options),
        x.reshape(math.prod(w.stack), -1, size) if mapped else x.reshape(-1, size),
        w,
        mapped,
    )
    return y.sum(0).astype(dtype) if total else y


def _sides(eqn, side):
    """((contracted axes of the weights, of x), (batch axes of the weights, of x))."""
    contracted, batch = eqn.params["dimension_numbers"]
    return tuple((tuple(pair[side]), tuple(pair[1 - side])) for pair in (contracted, batch))


def _with_axes(view, axes):
    return dataclasses.replace(view, axes=tuple(axes))


def _factors(size, stride) -> Factors:
    return ((size, stride),) if size > 1 else ()


def _row_major(shape) -> tuple[Factors, ...]:
    return tuple(_factors(n, math.prod(shape[i + 1 :])) for i, n in enumerate(shape))


def _reshaped(view, shape) -> View | None:
    """Axes regrouped: each new one takes factors, or the slower part of one."""
    left = [pair for factors in view.axes for pair in factors][::-1]
    axes = []
    for n in shape:
        factors: list[tuple[int, int]] = []
        while n > 1:
            size, stride = left.pop()
            if n % size and size % n:
                return None
            if size > n:
                left.append((size // n, stride))
                size, stride = n, stride * (size // n)
            n //= size
            if factors and factors[-1][1] == size * stride:  # one run of weights
                size, stride = factors.pop()[0] * size, stride
            factors.append((size, stride))
        axes.append(tuple(factors))
    return _with_axes(view, axes)
