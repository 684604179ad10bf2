"""Weights exchanged: the lowest of those that are there go, and as many grow elsewhere."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune.masks._compute import Given, compute, highest, scores_of
from jaxprune.masks._counts import Counts
from jaxprune.masks._setup import Setup
from jaxprune.scores import Criterion


def exchange(setup: Setup, grow: Criterion, leaves, given: Given, alive, stay, counts: Counts):
    """Masks after an exchange, of exactly as many units as are asked for.

        stay: the highest scores of what is alive; grow: the highest of the rest, by another score

    What is dropped may grow again at once; then it was never gone. A weight that is not finite
    grows last.

    Args:
      setup: what is pruned, static; its criteria say what stays.
      grow: the criterion that says what grows.
      leaves, given: as in `compute`; `grow` may need what is in `given`, too.
      alive: bool arrays, the masks so far.
      stay: how many units of each group stay, limbs [groups, 2], at most as many as are kept.
      counts: how many are kept in the end, and bounds of that.

    Returns:
      A list of bool arrays.
    """
    return exchanged(setup, grow, leaves, given, alive, stay, counts)[1]


def exchanged(setup: Setup, grow: Criterion, leaves, given: Given, alive, stay, counts: Counts):
    """What stays, masks after an exchange, and the scores of what grows: lists of arrays."""
    leaves, given, alive = lax.stop_gradient((leaves, given, alive))
    lower = None if counts.lower is None else jnp.zeros_like(counts.lower)
    first = compute(
        setup, leaves, given._replace(alive=alive), stay, lower, counts.upper, in_update=True
    )
    stays = [a & b for a, b in zip(first, alive, strict=True)]
    scores = []
    for i, (target, w) in enumerate(zip(setup.targets, leaves, strict=True)):
        found = scores_of(target, grow, w, given, i)
        found = jnp.where(jnp.isfinite(w), found, -jnp.inf)  # an update cannot bring it to 0
        scores.append(jnp.minimum(found, jnp.finfo(found.dtype).max))
    ranked = [jnp.where(s, jnp.inf, x) for s, x in zip(stays, scores, strict=True)]
    program = setup.program([False] * len(leaves))
    return stays, highest(program, ranked, leaves, *counts, in_update=True), scores


def check_grow(grow: Criterion):
    """Growth is decided at events, by what is known there."""
    if grow.memory is not None or grow.probe is not None:
        raise ValueError(
            "grow: the criterion remembers gradients or probes the loss, and growth knows those of "
            "the event only; give one such as jaxprune.scores.gradient."
        )


def drawn(setup: Setup, start: Criterion, leaves, counts: Counts) -> list[jax.Array]:
    """Masks to start from, by a criterion that needs no more than the leaves."""
    by_start = setup.ranked_by(start)
    return compute(by_start, leaves, Given(), *counts)
