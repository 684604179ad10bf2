"""Scores of the units of tied groups, without a ranking."""

import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxprune._sharding import with_auto_axes
from jaxprune._tree import flatten
from jaxprune.masks._compute import scores_of
from jaxprune.masks._make import given_to
from jaxprune.masks._targets import options, resolve
from jaxprune.patterns import Tied


def unit_scores(params, pattern: Tied, *, score, rules=(), grads=None, memory=None) -> list:
    """For each group of the pattern float32 [size]: what `make` would rank.

    Args:
      params, score, rules, grads, memory: as in `make`.
      pattern: the groups.
    """
    chosen = options(score, pattern, "leaf", None, rules, None, None)
    setup, _ = resolve(params, chosen)
    given = given_to(setup, params, grads, memory)
    leaves = flatten(params)[1]
    scores = {
        t.path: scores_of(t, t.criterion, jnp.asarray(leaves[t.index]), given, i)
        for i, t in enumerate(setup.targets)
    }
    arrays = list(scores.values())

    def sums(*arrays):
        return pattern.sums(dict(zip(scores, arrays, strict=True)))

    def everywhere(sharding):
        return NamedSharding(sharding.mesh, PartitionSpec())

    like = arrays[:1] * len(pattern.groups)
    return with_auto_axes(sums, *arrays, like=like, fit=everywhere)
