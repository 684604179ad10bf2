"""Axes of arrays as products and concatenations of parts that are tied to each other.

An axis is a tuple of atoms, the row-major product of their sizes; () has size 1. What is found out
about an atom splits it: into a product, as a reshape does, or into pieces side by side, as a
concatenation does. Atoms that have to stay equal are united.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Optional

Axis = tuple["Atom", ...]


@dataclasses.dataclass(eq=False)
class Atom:
    """A part of axes.

    Attributes:
      size: how many indices, 2 or more; an integer, or an expression of an exported shape.
      frozen: why it has to stay whole, or None.
      parent: the atom it was united with.
      product: the atoms that it is the product of.
      pieces: the axes that lie side by side in it.
    """

    size: Any
    frozen: str | None = None
    parent: Optional["Atom"] = None
    product: Axis | None = None
    pieces: list[Axis] | None = None

    def root(self) -> "Atom":
        """The atom that stands for all that it was united with."""
        atom = self
        while atom.parent is not None:
            atom = atom.parent
        return atom


def new(size, frozen: str | None = None) -> Axis:
    """An axis of which nothing is known."""
    frozen = "it is empty" if same(size, 0) else frozen
    return () if same(size, 1) else (Atom(size, frozen),)


def same(a, b) -> bool:
    """Whether two sizes are equal for certain."""
    return a is b or bool(a == b)


def size(axis: Axis):
    """How many indices."""
    return math.prod(atom.size for atom in axis)


def expand(axis: Axis) -> list[Atom]:
    """The axis as roots that are no products."""
    made: list[Atom] = []
    for atom in axis:
        root = atom.root()
        made += [root] if root.product is None else expand(root.product)
    return made


def pieces(atom: Atom) -> list[Axis]:
    """The axes side by side in a root; the atom alone if it is not known to have any."""
    if atom.pieces is None:
        return [(atom,)]
    made: list[Axis] = []
    for axis in atom.pieces:
        roots = expand(axis)
        made += pieces(roots[0]) if len(roots) == 1 else [tuple(roots)]
    atom.pieces = made  # flat from now on, or concatenations of concatenations take long
    return list(made)


def roots(axis: Axis) -> list[Atom]:
    """All roots in an axis that are neither products nor concatenations, in order."""
    made = []
    for atom in expand(axis):
        if atom.pieces is None:
            made.append(atom)
        else:
            made += [root for piece in pieces(atom) for root in roots(piece)]
    return made


def freeze(axis: Axis, why: str):
    """Keeps all of an axis whole; the first reason stays."""
    for atom in axis:
        root = atom.root()
        root.frozen = root.frozen or why
        for part in [root.product] if root.product else root.pieces or []:
            freeze(part, why)


def unite(a: Axis, b: Axis, why: str = "axes are tied that do not divide alike"):
    """Ties two axes of one size, index by index; what cannot be tied is frozen for the reason."""
    left, right = expand(a), expand(b)
    while left and right:
        x, y = left[0], right[0]
        if x is y or same(x.size, y.size):
            _unite_roots(x, y, why)
            left, right = left[1:], right[1:]
        elif _split(x, y.size) or _split(y, x.size):
            left, right = expand(tuple(left)), expand(tuple(right))
        else:
            break
    freeze((*left, *right), why)


def _unite_roots(x: Atom, y: Atom, why: str):
    if x is y:
        return
    if x.pieces is not None and y.pieces is not None:
        _align(x, y, why)
        if x.root() is not x or y.root() is not y or x.product or y.product:
            return  # tied through what became of them
    if y.pieces is not None:
        x, y = y, x
    y.parent = x
    y.pieces = None
    if y.frozen or x.frozen:
        freeze((x,), y.frozen or x.frozen or why)


def _align(x: Atom, y: Atom, why: str):
    """Ties the pieces of two concatenations, cut where either is cut."""
    left, right = pieces(x), pieces(y)
    while left and right:
        a, b = left.pop(0), right.pop(0)
        if not same(size(a), size(b)):
            longer = isinstance(size(a), int) and isinstance(size(b), int) and size(a) > size(b)
            long, short, rest = (a, b, left) if longer else (b, a, right)
            halves = cut(long, size(short))
            if halves is None:
                for piece in (a, b, *left, *right):
                    freeze(piece, why)
                return
            rest.insert(0, halves[1])
            a, b = halves[0], short
        unite(a, b, why)


def _split(atom: Atom, leading) -> bool:
    """Makes a root a product of which the first atom has a size; whether that is possible."""
    if not (isinstance(atom.size, int) and isinstance(leading, int)):
        return False
    if leading >= atom.size or atom.size % leading:
        return False
    if atom.pieces is not None:
        return _stack(atom)
    atom.product = (Atom(leading, atom.frozen), Atom(atom.size // leading, atom.frozen))
    return True


def _stack(atom: Atom) -> bool:
    """Makes a concatenation of equal pieces a product; its pieces are tied to each other."""
    parts = pieces(atom)
    if any(not same(size(part), size(parts[0])) for part in parts):
        return False
    for part in parts[1:]:
        unite(parts[0], part)
    if atom.pieces is not None:
        atom.pieces = None
        atom.product = (*new(len(parts), "pieces that lie side by side"), *parts[0])
    return True


def cut(axis: Axis, at) -> tuple[Axis, Axis] | None:
    """The axis before and from an index; None where no cut is possible."""
    whole = size(axis)
    if not (isinstance(at, int) and isinstance(whole, int)) or not 0 < at < whole:
        return None
    first, *tail = expand(axis)
    inner = size(tuple(tail))
    if at % inner:
        return None
    at //= inner
    before: list[Axis] = []
    after = pieces(first)
    while at:
        part = after.pop(0)
        if size(part) > at:
            halves = _halves(part, at)
            if halves is None:
                return None
            part, rest = halves
            after.insert(0, rest)
        before.append(part)
        at -= size(part)
    return (*joined(before), *tail), (*joined(after), *tail)


def _halves(part: Axis, at) -> tuple[Axis, Axis] | None:
    if len(part) > 1:
        return cut(part, at)
    root = part[0].root()
    halves = new(at, root.frozen), new(root.size - at, root.frozen)
    root.pieces = list(halves)
    return halves


def joined(parts: Sequence[Axis]) -> Axis:
    """Axes side by side as one."""
    if len(parts) == 1:
        return parts[0]
    return (Atom(sum(size(part) for part in parts), pieces=list(parts)),)
