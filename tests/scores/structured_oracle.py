"""Criteria of whole units by loops in float64: shares no code with what it checks."""

import numpy as np


def rows(ids, w):
    """The weights of each unit, flat, in their order."""
    w = np.asarray(w, np.float64)
    return np.array([w[ids == unit] for unit in range(ids.max() + 1)])


def distances(filters):
    """Of each filter the sum of distances to all."""
    return np.array([sum(np.linalg.norm(a - b) for b in filters) for a in filters])


def taylor(ids, w, grad):
    """Of each weight the squared sum over its unit."""
    change = np.asarray(w, np.float64) * np.asarray(grad, np.float64)
    return np.array([change[ids == unit].sum() ** 2 for unit in range(ids.max() + 1)])[ids]
