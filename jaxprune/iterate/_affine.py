"""Affine rankings of units: what LeGR learns, as a criterion."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxprune._sharding import with_auto_axes
from jaxprune._tree import flatten
from jaxprune.masks._setup import Target
from jaxprune.patterns import _pool
from jaxprune.scores import Criterion
from jaxprune.select._source import Source


@dataclasses.dataclass(frozen=True, eq=False)
class _Affine:
    """Scores whose mean over a unit is a * (squares of the unit) + k; terms by path: (a, n, k)."""

    terms: Mapping[str, tuple[Any, float, Any]]

    def __call__(self, w, *, path):
        if path not in self.terms:
            raise ValueError(
                f"this ranking knows no leaf {path}; it was learned for "
                f"{', '.join(list(self.terms)[:8])}."
            )
        scale, number, shift = self.terms[path]
        return jnp.square(w.astype(jnp.float32)) * (scale * number) + shift


def _unit_size(target: Target) -> float:
    return target.size / max(target.units, 1)


def criterion(targets, learned, scale, shift) -> Criterion:
    """The affine ranking; leaves that are not learned keep the plain norm."""
    terms = {t.path: (1.0, _unit_size(t), 0.0) for t in targets}
    for t, a, k in zip(learned, scale, shift, strict=True):
        terms[t.path] = a, _unit_size(t), k
    return Criterion(_Affine(terms), needs=("path",))


def spreads(params, learned) -> np.ndarray:
    """The standard deviation of the squared norms of the units of each learned leaf.

    Its sums are exact: candidates are the same on any number of devices.
    """
    leaves = flatten(params)[1]
    kinds = tuple((t.pattern, _unit_size(t)) for t in learned)
    found = _deviations(kinds, [leaves[t.index] for t in learned])
    spread = np.array([np.asarray(x) for x in found], np.float64)
    return np.where(np.isfinite(spread), spread, 0)  # of no units, or of none finite


@functools.partial(jax.jit, static_argnames="kinds")
def _deviations(kinds, arrays):
    def program(arrays):
        return [_deviation(w, *kind) for w, kind in zip(arrays, kinds, strict=True)]

    return with_auto_axes(
        program, arrays, like=arrays, fit=lambda s: NamedSharding(s.mesh, PartitionSpec())
    )


def _deviation(w, pattern, size):
    units = pattern.units(Source(jnp.square(w.astype(jnp.float32)) * size))
    norms = units.scores(units.array)
    axes, finite = tuple(range(norms.ndim)), jnp.isfinite(norms)
    number = jnp.sum(finite).astype(jnp.float32)
    mean = _pool.mean(jnp.where(finite, norms, 0), axes, number)
    return jnp.sqrt(_pool.mean(jnp.where(finite, jnp.square(norms - mean), 0), axes, number))
