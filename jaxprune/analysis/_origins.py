"""Where a value in a program comes from: leaves of params, data, or neither.

A product is a leaf's if one of its operands holds the leaf's weights, be they cast, transposed,
masked or put side by side with others. These functions say which values do.
"""

import dataclasses
import enum
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

import jax
import numpy as np


class Kind(enum.IntEnum):
    """What a value is made of; of kinds that mix without leaves, the greatest wins."""

    CONSTANT = 0  # known before there is data, also a norm of a leaf
    MASK = 1  # bools of data, and random numbers: a weight that meets them stays a weight
    LEAF = 2  # weights of leaves, element for element
    COMPUTED = 3  # products of leaves
    DATA = 4


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a value is made of.

    Attributes:
      kind: see `Kind`.
      size: how many elements it had before it was broadcast.
      shares: (number of a leaf, fraction of the elements), of a LEAF.
    """

    kind: Kind
    size: int = 1
    shares: tuple[tuple[int, Fraction], ...] = ()


def shape_of(aval) -> tuple[int, ...]:
    """The shape of what a variable stands for; () of a token."""
    return tuple(getattr(aval, "shape", ()))


def size_of(aval) -> int:
    """How many elements."""
    return math.prod(shape_of(aval))


def is_bool(aval) -> bool:
    """Whether elements are bools."""
    return hasattr(aval, "dtype") and jax.dtypes.issubdtype(aval.dtype, np.bool_)


def argument(aval) -> Origin:
    """What the caller hands in beside the params."""
    return Origin(Kind.MASK if is_bool(aval) else Kind.DATA, size_of(aval))


def leaf(number: int, aval) -> Origin:
    """A leaf of the params; bools are masks and take no part in products."""
    if is_bool(aval):
        return Origin(Kind.CONSTANT, size_of(aval))
    return Origin(Kind.LEAF, size_of(aval), ((number, Fraction(1)),))


def shared(origins: Iterable[Origin], weights: Iterable[int]) -> tuple[tuple[int, Fraction], ...]:
    """Shares of several LEAFs, each with a weight."""
    pairs = list(zip(origins, weights, strict=True))
    total = sum(weight for _, weight in pairs)
    shares: dict[int, Fraction] = {}
    for origin, weight in pairs:
        part = Fraction(weight, total) if total else Fraction(1, len(pairs))
        for number, share in origin.shares:
            shares[number] = shares.get(number, Fraction(0)) + share * part
    return tuple(sorted(shares.items()))


def elementwise(origins: Sequence[Origin], shape: Sequence[int]) -> Origin:
    """What an operation on elements makes: w * mask is w, x * scale is data.

    Of several leaves the largest is what the result holds, and leaves that are equally large have
    equal shares: in g * v / norm(v) it is v.
    """
    size = max((o.size for o in origins), default=1)
    leaves = [o for o in origins if o.kind == Kind.LEAF]
    others = [o for o in origins if o.kind != Kind.LEAF]
    largest = max((o.size for o in leaves), default=0)
    matrix = sum(n > 1 for n in shape) > 1

    def harmless(other):
        # A learned vector that meets a product of leaves is its bias; a matrix is a weight that is
        # divided by a spectral norm, or to which a product of low rank is added.
        scalar = other.size == 1
        smaller = other.kind == Kind.COMPUTED and other.size <= largest
        return other.kind <= Kind.MASK or (matrix and (scalar or smaller))

    if not leaves or not all(map(harmless, others)):
        return Origin(max((o.kind for o in others), default=Kind.CONSTANT), size)
    holding = [o for o in leaves if o.size == largest]
    return Origin(Kind.LEAF, largest, shared(holding, [len(o.shares) for o in holding]))


def joined(origins: Sequence[Origin], sizes: Sequence[int], size: int) -> Origin:
    """What holds the values side by side, `sizes` elements of each: concatenated, or written."""
    kind = max(o.kind for o in origins)
    if kind != Kind.LEAF:
        return Origin(kind, size)
    pairs = [(o, n) for o, n in zip(origins, sizes, strict=True) if o.kind == Kind.LEAF]
    return Origin(kind, size, shared(*zip(*pairs, strict=True)))


def either(origins: Sequence[Origin]) -> Origin:
    """What is one value or another: of a branch, or of a pass through a loop."""
    kind, size = max(o.kind for o in origins), max(o.size for o in origins)
    if kind != Kind.LEAF:
        return Origin(kind, size)
    leaves = [o for o in origins if o.kind == Kind.LEAF]
    if all(o.shares == leaves[0].shares for o in leaves):
        return Origin(kind, size, leaves[0].shares)
    numbers = sorted({number for o in leaves for number, _ in o.shares})
    return Origin(kind, size, tuple((number, Fraction(1, len(numbers))) for number in numbers))


def looked_up(origin: Origin, indices: Sequence[Origin], block: Sequence[int]) -> Origin:
    """What data finds in a table: vectors are embeddings, thus data; matrices are weights."""
    if all(i.kind not in (Kind.MASK, Kind.DATA) for i in indices):
        return origin
    if origin.kind == Kind.LEAF and sum(n > 1 for n in block) > 1:
        return origin
    return Origin(Kind.DATA, origin.size)


def mixed(origins: Sequence[Origin]) -> Origin:
    """What a reduction, a transform or an unknown operation makes: no leaf any more."""
    kinds = [Kind.CONSTANT if o.kind == Kind.LEAF else o.kind for o in origins]
    size = max((o.size for o in origins), default=1)
    return Origin(max(kinds, default=Kind.CONSTANT), size)


def product(
    operands: Sequence[Origin], size: int
) -> tuple[Origin, tuple[tuple[int, Fraction], ...]]:
    """What a product makes, and the shares of leaves in its multiply-adds; () is no leaf's."""
    leaves = [o for o in operands if o.kind == Kind.LEAF]
    data = any(o.kind in (Kind.MASK, Kind.DATA) for o in operands)
    made = Origin(Kind.DATA if data else Kind.COMPUTED, size)
    return made, shared(leaves, [o.size for o in leaves])


def settled(origin: Origin, aval) -> Origin:
    """An origin as that of a variable: no larger than it, and bools are no weights."""
    size = min(origin.size, size_of(aval))
    if not is_bool(aval):
        return dataclasses.replace(origin, size=size)
    from_data = origin.kind in (Kind.MASK, Kind.DATA)
    return Origin(Kind.MASK if from_data else Kind.CONSTANT, size)
