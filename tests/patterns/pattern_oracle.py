"""Patterns by loops over weights in NumPy: shares no code with what it checks."""

import itertools

import numpy as np

from jaxprune import NM, Block, Channel, Heads, Unstructured


def unit_ids(pattern, shape):
    """For each weight the number of its unit, units counted in row-major order."""
    ids, numbers = np.zeros(shape, int), {}
    for place in itertools.product(*map(range, shape)):
        match pattern:
            case Unstructured() | NM():
                unit = place
            case Block(shape=lengths, axes=axes):
                unit = list(place)
                for axis, length in zip(axes, lengths, strict=True):
                    unit[axis] //= length
                unit = tuple(unit)
            case Channel(axis=axes):
                unit = tuple(
                    place[axis] for axis in sorted(a % len(shape) for a in np.atleast_1d(axes))
                )
            case Heads(num_heads=heads, axis=axes, parts=parts):
                named = [a % len(shape) for a in np.atleast_1d(axes)]
                part = shape[named[-1]] // parts  # of it a head has a slice
                head = place[named[-1]] % part // (part // heads)
                unit = tuple(head if a == named[-1] else place[a] for a in sorted(named))
        ids[place] = numbers.setdefault(unit, len(numbers))
    order = {old: new for new, (_, old) in enumerate(sorted(numbers.items()))}
    return np.vectorize(order.get, otypes=[int])(ids)


def unit_scores(ids, w):
    """The mean |w| of each unit; NaN where one of its weights is."""
    w = np.abs(np.asarray(w, np.float64))
    return np.array([w[ids == unit].mean() for unit in range(ids.max(initial=-1) + 1)])


def unit_sums(ids, values):
    """The sum of the values of each unit."""
    values = np.asarray(values, np.float64)
    return np.array([values[ids == unit].sum() for unit in range(ids.max(initial=-1) + 1)])


def first_of_groups(pattern, w):
    """True for the n highest of every m along the axis of an NM pattern."""
    w = np.abs(np.asarray(w, np.float64))
    first = np.zeros(w.shape, bool)
    rows, marks = np.moveaxis(w, pattern.axis, -1), np.moveaxis(first, pattern.axis, -1)
    for place in itertools.product(*map(range, rows.shape[:-1])):
        for start in range(0, rows.shape[-1], pattern.m):
            group = rows[place][start : start + pattern.m]
            best = np.argsort(-group, kind="stable")[: pattern.n]
            marks[place][start + best] = True
    return first


def expected(pattern, leaves, sparsity):
    """Masks of leaves that are ranked together."""
    ids = [unit_ids(pattern, w.shape) for w in leaves]
    scores = np.concatenate([unit_scores(i, w) for i, w in zip(ids, leaves, strict=True)])
    later = np.zeros(scores.size, bool)
    if isinstance(pattern, NM):
        later = ~np.concatenate([first_of_groups(pattern, w).ravel() for w in leaves])
    with np.errstate(invalid="ignore"):
        lowest_last = np.where(np.isnan(scores), np.inf, -scores)
    order = sorted(
        range(scores.size), key=lambda u: (later[u], np.isnan(scores[u]), lowest_last[u], u)
    )
    alive = np.zeros(scores.size, bool)
    alive[order[: round(scores.size * (1 - sparsity))]] = True
    parts = np.split(alive, np.cumsum([i.max(initial=-1) + 1 for i in ids])[:-1])
    return [
        part[i] if i.size else np.zeros(i.shape, bool) for part, i in zip(parts, ids, strict=True)
    ]
