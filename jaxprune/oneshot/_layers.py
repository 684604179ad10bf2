"""The matrices of params that meet data, one layer each, and leaves that could not be captured."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxprune.masks._setup import Setup, Target
from jaxprune.oneshot import _views
from jaxprune.oneshot._march import March
from jaxprune.oneshot._products import Order, Rows
from jaxprune.oneshot._views import Matrix


class Source(NamedTuple):
    """Where inputs of a layer are seen: a value, when it is there, and how it is read."""

    depth: int
    value: int
    rows: Rows


class Layer(NamedTuple):
    """A stack of matrices that is pruned at once.

    Attributes:
      target: the leaf that they are in.
      name: path of the leaf, and which part of it where it has several.
      matrix: the weights.
      first: how many weights of the leaf come before these.
      sources: all places where they meet data, in their order.
      also: what else is done with the leaf, in words, or "".
    """

    target: Target
    name: str
    matrix: Matrix
    first: int
    sources: tuple[Source, ...]
    also: str

    @property
    def depth(self) -> int:
        """When all its inputs have been seen."""
        return max(source.depth for source in self.sources)


def order_of(shape: Sequence[int], axes: Sequence[int]) -> Order:
    """Factors of a matrix by falling stride, but those of some axes of the leaf last.

    A pattern's groups lie along these axes: its weights are then neighbours in the matrix.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in axes]
    spans = [(s, s * shape[axis]) for axis, s in zip(axes, strides, strict=True)]

    def key(factor):
        stride = abs(factor[1])
        return any(low <= stride < high for low, high in spans), -stride

    return key


def find_layers(setup: Setup, march: March) -> tuple[list[Layer], dict[str, str]]:
    """The layers, in the order in which data meets them; and path -> why a leaf has none."""
    found: dict[int, dict[Matrix, list[Source]]] = {}
    for site in march.sites:
        sources = found.setdefault(site.leaf, {}).setdefault(site.matrix, [])
        sources.append(Source(site.depth, site.value, site.rows))
    layers, missed = [], {}
    for target in setup.targets:
        matrices = found.get(target.index, {})
        reason = _reason(target, matrices, march.uses.get(target.index, []))
        if reason is not None:
            missed[target.path] = reason
            continue
        uses = "; ".join(march.uses.get(target.index, []))
        also = f"also {uses}, which is not seen" if uses else ""
        first = 0
        for i, matrix in enumerate(sorted(matrices, key=lambda m: m.offset)):
            name = target.path if len(matrices) == 1 else f"{target.path}[{i}]"
            sources = sorted(matrices[matrix], key=lambda source: source.depth)
            layers.append(Layer(target, name, matrix, first, tuple(sources), also))
            first += math.prod(matrix.shape)
    layers.sort(key=lambda layer: layer.depth)
    return layers, missed


def _reason(target, matrices: Mapping[Matrix, list[Source]], uses: Sequence[str]) -> str | None:
    """Why a leaf cannot be pruned by its inputs; None: it can."""
    if not target.size:
        return "it is empty"
    if not matrices:
        return "; ".join(uses) if uses else "it does not take part in apply"
    size = sum(math.prod(matrix.shape) for matrix in matrices)
    if size == target.size and len(matrices) == 1:
        return None
    seen = np.zeros(target.size, np.uint8)
    for matrix in matrices:
        part = _views.strided(seen, matrix)
        part += 1
    if seen.max() > 1:
        return "the same weights are used as different matrices"
    if seen.min() < 1:
        return "only a part of it meets data in products"
    return None
