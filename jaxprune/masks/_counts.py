"""How many units each group keeps at a sparsity: exact integers, on the host or in the program."""

import fractions
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxprune import allocate as _allocate
from jaxprune._checks import check_sparsity, is_traced
from jaxprune.masks._room import check_pattern, check_room, dense_cost
from jaxprune.masks._setup import Setup
from jaxprune.select import _wide


class Counts(NamedTuple):
    """Arrays for `compute`: limbs per group, and of bounds per leaf where there are any."""

    num_keep: Any  # int32 [groups, 2]; where units differ in cost, what those kept may cost
    lower: Any  # int32 [leaves, 2], or None
    upper: Any


def count(setup: Setup, allocate, sparsity, *, progress=1.0, step=None) -> Counts:
    """How many units each group keeps.

    Args:
      setup: what is pruned.
      allocate: how leaves that are ranked by themselves share; None is uniform.
      sparsity: of all that has none of its own, a float or traced.
      progress: how far along the schedule is, sparsity / final sparsity.
      step: where schedules of single leaves are read; None: at their end.

    Raises:
      TypeError: an allocation other than uniform at a traced sparsity.
      ValueError: the bounds leave no room for the sparsity.
    """
    setup = setup.ranking
    own = [_own_sparsity(t, progress, step) for t in setup.targets]
    if is_traced(sparsity) or is_traced(progress) or any(is_traced(s) for s in own):
        return _count_traced(setup, allocate, sparsity, progress, own)
    members = _members(setup)
    num_keep = [0] * len(setup.labels)
    bounds = [_bounds(t, progress) for t in setup.targets]
    shared = {}
    for group, indices in enumerate(members):
        first = indices[0]
        if own[first] is not None:
            num_keep[group] = _kept(setup.targets[first].units, own[first])
        elif setup.alone[group]:
            shared[group] = first
            if progress >= 1:  # the end: what is kept has the pattern
                bounds[first] = _within_pattern(setup.targets[first], *bounds[first])
        else:
            targets = [setup.targets[i] for i in indices]
            num_keep[group] = _kept(dense_cost(targets), sparsity)
            if progress >= 1:
                check_pattern(setup, targets, num_keep[group], sparsity)
            check_room(setup, targets, [bounds[i] for i in indices], num_keep[group], sparsity)
    if shared:
        leaves = {
            setup.targets[i].path: _allocate.Leaf(
                setup.targets[i].shape, setup.targets[i].units, *bounds[i]
            )
            for i in shared.values()
        }
        kept = (allocate or _allocate.uniform)(leaves, sparsity)
        for group, i in shared.items():
            num_keep[group] = _checked(kept, setup.targets[i], bounds[i][1])
    limbs = _wide.constant(num_keep)
    if not _ranks_bounded(setup):
        return Counts(limbs, None, None)
    return Counts(limbs, *map(_wide.constant, zip(*_unless_own(setup, bounds, own), strict=True)))


def _unless_own(setup, bounds, own):
    """The bounds of the leaves, none for those with a sparsity of their own."""
    return [
        (0, t.units) if sparsity is not None else b
        for t, b, sparsity in zip(setup.targets, bounds, own, strict=True)
    ]


def _within_pattern(target, low, high):
    """Bounds that also keep a leaf to its pattern."""
    first = target.pattern.first_units(target.shape)
    return (low, high) if first is None else (low, max(low, min(high, first)))


def _checked(kept, target, most):
    """What an allocation gave for a leaf, which may keep `most` units."""
    if target.path not in kept:
        raise ValueError(f"allocate gave nothing for {target.path}; it must name every leaf.")
    number = kept[target.path]
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise TypeError(
            f"allocate gave {number!r} for {target.path}; it must give the number of units kept, "
            "an integer, for every leaf."
        )
    if not 0 <= number <= target.units:
        raise ValueError(
            f"allocate gave {number} for {target.path}, which has {target.units} units to keep."
        )
    if number > most == target.pattern.first_units(target.shape):
        raise ValueError(
            f"allocate gave {number} of {target.units} for {target.path}, more than the {most} "
            f"that {target.pattern} allows; keep to the `max_keep` of each leaf."
        )
    return int(number)


def _own_sparsity(target, progress, step):
    if target.sparsity is None:
        return None
    if callable(target.sparsity):
        if step is None and not hasattr(target.sparsity, "end"):
            raise TypeError(
                f"the sparsity of {target.path} is a schedule that does not say where it ends; "
                "give its Rule a number to prune at once."
            )
        value = target.sparsity(target.sparsity.end if step is None else step)
        return check_sparsity(value, "sparsity", where=target.path)
    return target.sparsity * progress


def _members(setup):
    members: list[list[int]] = [[] for _ in setup.labels]
    for i, target in enumerate(setup.targets):
        members[target.group].append(i)
    return members


def _ranks_bounded(setup):
    """Whether some leaf is ranked with others and bounded."""
    several = [len(m) > 1 for m in _members(setup)]
    return any(t.bounded and several[t.group] for t in setup.targets)


def _kept(units, sparsity):
    return round(units * (1 - sparsity))


def _bounds(target, progress):
    """The fewest and the most units that a leaf may keep. Bounds are meant as decimals."""
    low, high = 0, target.units
    if target.max_sparsity is not None:
        dense = 1 - fractions.Fraction(repr(target.max_sparsity))
        low = max(math.floor(target.units * dense), min(1, target.units))
    if target.min_sparsity is not None:
        dense = 1 - fractions.Fraction(repr(float(target.min_sparsity * progress)))
        high = math.ceil(target.units * dense)
    return low, max(low, high)


def _count_traced(setup, allocate, sparsity, progress, own) -> Counts:
    if allocate not in (None, _allocate.uniform):
        name = getattr(allocate, "__name__", repr(allocate))
        raise TypeError(
            f"sparsity is traced, and allocate={name} is solved on the host; pass a Python float, "
            'or use allocate=jaxprune.allocate.uniform or scope="global".'
        )
    members = _members(setup)
    if any(
        t.bounded and own[i] is None and setup.alone[t.group] for i, t in enumerate(setup.targets)
    ):
        raise TypeError(
            "sparsity is traced, and min_sparsity or max_sparsity of leaves that share by "
            'allocation are solved on the host; pass a Python float, or use scope="global".'
        )
    limbs = []
    for indices in members:
        value = sparsity if own[indices[0]] is None else own[indices[0]]
        total = dense_cost([setup.targets[i] for i in indices])
        limbs.append(
            kept_traced(total, value)
            if is_traced(value)
            else jnp.asarray(_wide.constant(_kept(total, value)))
        )
    num_keep = jnp.stack(limbs)
    if not _ranks_bounded(setup):
        return Counts(num_keep, None, None)
    if not is_traced(progress):
        bounds = _unless_own(setup, [_bounds(t, progress) for t in setup.targets], own)
        return Counts(num_keep, *map(_wide.constant, zip(*bounds, strict=True)))
    bounds = _unless_own(setup, [_bounds(t, 0.0) for t in setup.targets], own)
    lower = jnp.asarray(_wide.constant([low for low, _ in bounds]))
    upper = jnp.stack(
        [
            _most_traced(t, progress if s is None else 0.0)
            for t, s in zip(setup.targets, own, strict=True)
        ]
    )
    units = _wide.constant([t.units for t in setup.targets])
    return Counts(num_keep, lower, _wide.clip(upper, lower, units))


def _most_traced(target, progress):
    """The most units that a leaf may keep, to within one; where it has fewer, one too many."""
    if target.min_sparsity is None:
        return jnp.asarray(_wide.constant(target.units))
    kept = kept_traced(target.units, target.min_sparsity * progress)
    return _wide.carry(kept + _wide.constant(1))


_DIGIT, _DIGITS = 12, 6  # a fraction as 6 digits of 12 bits


def kept_traced(units: int, sparsity):
    """round(units * (1 - sparsity)) in exact integers, for a sparsity known only at run time.

    The float is taken for exactly the number it is. int32 limbs [2]; `units` are below 2**47.
    """
    base = 1 << _DIGIT
    rest = jnp.clip(jnp.asarray(sparsity), 0, 1)
    rest = rest if rest.dtype == jnp.float64 else rest.astype(jnp.float32)
    digits = []  # of the sparsity, most significant first; each step is exact
    for _ in range(_DIGITS):
        rest = rest * base
        digits.append(jnp.floor(rest).astype(jnp.int32))
        rest = rest - jnp.floor(rest)
    factor = [(units >> (_DIGIT * i)) & (base - 1) for i in range(4)]
    # units * sparsity: schoolbook product, least significant digit first. A sparsity of 1 has a
    # leading digit of 2**12, and a column's sum stays under 2**31.
    columns = [jnp.int32(0)] * (_DIGITS + 4)
    for i, digit in enumerate(reversed(digits)):
        for j, other in enumerate(factor):
            columns[i + j] += digit * other
    carried = jnp.int32(0)
    product = []
    for column in columns:
        column = column + carried
        product.append(column & (base - 1))
        carried = column >> _DIGIT
    product.append(carried)
    fraction, whole = product[:_DIGITS], product[_DIGITS:]
    rest_bits = _wide.BITS - _DIGIT  # of the second digit, in the low limb
    low = whole[0] + ((whole[1] & ((1 << rest_bits) - 1)) << _DIGIT)
    high = whole[1] >> rest_bits
    for i, digit in enumerate(whole[2:4], 1):
        high += digit << (i * _DIGIT - rest_bits)
    pruned = jnp.stack([high, low])
    # Round what is kept, units - product, half to even: it ends in a half where the product does.
    top, below = fraction[-1], sum(fraction[:-1])
    half = base // 2
    is_half = (top == half) & (below == 0)
    kept = _wide.subtract(jnp.asarray(_wide.constant(units)), pruned)
    odd = (kept[1] & 1) == 1
    up = (top > half) | ((top == half) & (below > 0)) | (is_half & odd)
    return _wide.subtract(kept, jnp.stack([jnp.int32(0), up.astype(jnp.int32)]))
