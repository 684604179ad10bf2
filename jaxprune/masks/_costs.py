"""What units cost where a budget is shared by cost: exact integers, made on the host."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from jaxprune._checks import decimal, is_traced
from jaxprune.patterns import Block
from jaxprune.select._costs import COST_BITS


def check_cost(cost, scope) -> tuple[tuple[str, Fraction], ...] | None:
    """The argument `cost` as exact numbers by path, or None.

    Raises:
      TypeError, ValueError: it is no mapping to numbers from 0, or `scope` ranks nothing together.
    """
    if cost is None:
        return None
    if not isinstance(cost, Mapping):
        raise TypeError(
            f"cost={cost!r} must be a mapping from the path of each leaf to what it costs when "
            "dense, such as {'dense/kernel': 4096}."
        )
    if scope == "leaf":
        raise ValueError(
            'cost divides a budget among leaves that are ranked together, but scope="leaf" ranks '
            'each by itself; use scope="global" or a function from a path to a label.'
        )
    return tuple((path, _exact(path, value)) for path, value in cost.items())


def _exact(path, value) -> Fraction:
    """One cost; a float is meant as the decimal that denotes it."""
    problem = f"cost of {path} is {value!r}"
    if is_traced(value):
        raise TypeError(
            f"cost of {path} is traced, but costs are part of the program; pass a Python number."
        )
    try:
        number = _number(value)
    except TypeError as error:
        raise TypeError(f"{problem}; give a number, what the leaf costs when dense.") from error
    if not 0 <= number < math.inf:
        raise ValueError(f"{problem}; it must be a finite number from 0.")
    return Fraction(repr(number)) if isinstance(number, float) else number


def _number(value) -> Fraction | float:
    """Whole numbers and fractions of any kind as a fraction, all others as a float."""
    if hasattr(value, "dtype"):
        value = np.asarray(value)[()]
    if isinstance(value, bool | np.bool_):
        raise TypeError(value)
    if isinstance(value, numbers.Rational):
        return Fraction(int(value.numerator), int(value.denominator))
    return decimal(value)


def with_costs(targets, labels, alone, cost):
    """The targets with what each of their units costs, in the greatest common divisor of a group.

    Args:
      targets: a list of `Target`s.
      labels, alone: of the groups.
      cost: from `check_cost`.

    Raises:
      ValueError: a leaf has no cost, its units do not cost the same, or a group costs nothing or
        too much to be counted.
    """
    if cost is None:
        return targets
    known, priced = dict(cost), list(targets)
    for group, label in enumerate(labels):
        members = [i for i, t in enumerate(targets) if t.group == group]
        if alone[group] or not any(targets[i].units for i in members):
            continue
        of_unit = [_of_unit(targets[i], label, known) for i in members]
        common = math.lcm(*(x.denominator for x in of_unit))
        whole = [int(x * common) for x in of_unit]
        divisor = math.gcd(*whole)
        if divisor == 0:
            raise ValueError(
                f"cost is 0 for all of scope {label}, so that no budget can be shared by it; give "
                "a leaf of it a cost, or leave cost out."
            )
        each = [x // divisor for x in whole]
        total = sum(x * targets[i].units for x, i in zip(each, members, strict=True))
        if total >> COST_BITS:
            raise ValueError(
                f"cost of scope {label} is {total} times the greatest common divisor of what its "
                f"units cost, and must be less than 2**{COST_BITS}. Round what one unit costs: "
                "cost[path] = units * round(cost[path] / units / step), with a step for which "
                "that is coarse enough."
            )
        for i, x in zip(members, each, strict=True):
            priced[i] = dataclasses.replace(targets[i], cost=x)
    return priced


def _of_unit(target, label, known) -> Fraction:
    """What a unit of a leaf costs."""
    path, pattern = target.path, target.pattern
    if path not in known:
        raise ValueError(
            f"cost has nothing for {path}, which scope {label} ranks; add what it costs when "
            f"dense, or give it a sparsity of its own, Rule({path!r}, sparsity=...). The paths of "
            f"cost are {', '.join(map(str, list(known)[:8]))}."
        )
    if isinstance(pattern, Block):
        lengths = zip(pattern.axes, pattern.shape, strict=True)
        if any(target.shape[axis] % length for axis, length in lengths):
            raise ValueError(
                f"cost of {path}: {pattern!r} does not divide its shape {target.shape}, so that "
                "its blocks are not equally large and do not cost the same. Choose a block that "
                f"divides it, or give it a sparsity of its own, Rule({path!r}, sparsity=...)."
            )
    return known[path] / target.units if target.units else Fraction(0)
