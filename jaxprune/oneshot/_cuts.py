"""A pattern of a leaf as a cut of its matrices, and how many units each of them keeps."""

import math

import numpy as np

from jaxprune.masks._counts import count
from jaxprune.masks._make import check_reachable
from jaxprune.masks._setup import Setup, Target
from jaxprune.oneshot._layers import Layer, order_of
from jaxprune.oneshot.cores import Cut
from jaxprune.patterns import NM, Block, Unstructured
from jaxprune.select import _wide


def pattern_axes(target: Target) -> tuple[int, ...]:
    """The axes of the leaf along which its pattern groups weights."""
    pattern, ndim = target.pattern, len(target.shape)
    match pattern:
        case Unstructured():
            return ()
        case NM():
            return (pattern.axis % ndim,)
        case Block():
            return tuple(axis for axis, _ in _lengths(pattern, ndim))
    raise ValueError(
        f"{target.path}: {pattern} is no pattern of one-shot pruning; choose Unstructured, NM or "
        "Block, or prune it by jaxprune.prune_params."
    )


def _lengths(block, ndim: int) -> list[tuple[int, int]]:
    """Axes along which a block is longer than 1, and how long it is."""
    pairs = zip(block.axes, block.shape, strict=True)
    return [(axis % ndim, length) for axis, length in pairs if length > 1]


def orders(setup: Setup):
    """For each leaf that is pruned the order of inputs and outputs in its matrices."""
    return {t.index: order_of(t.shape, pattern_axes(t)) for t in setup.targets}


def cut_of(layer: Layer) -> Cut:
    """The pattern, along inputs and outputs.

    Raises:
      ValueError: the pattern does not lie along them.
    """
    target, matrix = layer.target, layer.matrix
    pattern = target.pattern
    if isinstance(pattern, Unstructured):
        return Cut()
    lengths = {"inputs": 1, "outputs": 1}
    ndim = len(target.shape)
    if isinstance(pattern, NM):
        pairs = [(pattern.axis % ndim, pattern.m)]
    else:
        pairs = _lengths(pattern, ndim)
    for axis, length in pairs:
        side = _side(target, axis, length, matrix)
        if side is None or lengths[side] > 1 or target.shape[axis] % length:
            raise ValueError(_message(target, matrix, axis, length, side))
        lengths[side] = length
    if isinstance(pattern, NM):
        if lengths["outputs"] > 1:
            raise ValueError(_message(target, matrix, pairs[0][0], pattern.m, "outputs"))
        return Cut(nm=(pattern.n, pattern.m))
    return Cut(lengths["inputs"], lengths["outputs"])


def _axis(target: Target, stride: int) -> int:
    """The axis of the leaf along which a stride goes."""
    steps = [math.prod(target.shape[i + 1 :]) for i in range(len(target.shape))]
    return next(i for i, n in enumerate(target.shape) if n > 1 and steps[i] <= abs(stride))


def _axes(target, factors):
    return sorted({_axis(target, stride) for _, stride in factors})


def _side(target, axis, length, matrix) -> str | None:
    """Whether weights next to each other along an axis are so among the inputs, or the outputs."""
    step = math.prod(target.shape[axis + 1 :])
    for side in ("inputs", "outputs"):
        size, stride = (getattr(matrix, side) or [(1, 0)])[-1]
        first = matrix.offset // step % target.shape[axis]
        if stride == step and size % length == 0 == first % length:
            return side
    return None


def _message(target, matrix, axis, length, side):
    inputs, outputs = _axes(target, matrix.inputs), _axes(target, matrix.outputs)
    fix = (
        f"Rule({target.path!r}, pattern=NM({target.pattern.n}, {target.pattern.m}, "
        f"axis={inputs[-1] if inputs else 0}))"
        if isinstance(target.pattern, NM)
        else f"Rule({target.path!r}, pattern=Block(..., axes=...))"
    )
    return (
        f"{target.pattern!r} groups {length} weights along axis {axis} of {target.path}, shape "
        f"{target.shape}, which its product with data does not take as it must: its inputs lie "
        f"along axes {inputs}, its outputs along {outputs}; groups of N:M lie along inputs, blocks "
        f"along one axis of each, and their lengths divide them. Give it another pattern by {fix}, "
        "or dense=True."
    )


def kept_units(setup: Setup, allocate, sparsity: float) -> dict[int, int]:
    """Index of a leaf -> how many units it keeps: exact, as `masks.make` counts them."""
    for target in setup.targets:
        check_reachable(target, sparsity)
    numbers = _wide.to_int64(np.asarray(count(setup, allocate, sparsity).num_keep))
    kept = {target.index: int(numbers[target.group]) for target in setup.targets}
    for target in setup.targets:
        number = kept[target.index]
        exact = target.pattern.first_units(target.shape)
        if exact is not None and number != exact:
            raise ValueError(
                f"{target.path} would keep {number} of {target.size} weights, but {target.pattern} "
                f"keeps {exact}: one-shot pruning ends at the pattern itself, sparsity="
                f"{1 - exact / target.size:g}. Give the leaf that sparsity by a Rule, or leave out "
                "the allocation."
            )
    return kept


def shares(layer: Layer, cut: Cut, kept: int) -> np.ndarray:
    """How many of the units that a leaf keeps each matrix of a layer keeps, int32 [batch]."""
    target, (batch, *shape) = layer.target, layer.matrix.shape
    each = cut.num_units(tuple(shape))
    before = layer.first * target.units // target.size
    ends = [kept * (before + each * i) // target.units for i in range(batch + 1)]
    return np.diff(np.array(ends)).astype(np.int32)
