"""Masks of all leaves at once: scores, units, selection, and back to the shapes of the leaves."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._checks import is_traced
from jaxprune._sharding import placed_as, varying_as, with_auto_axes
from jaxprune.masks._setup import Setup, Target
from jaxprune.scores import Criterion
from jaxprune.select import _keys, _wide
from jaxprune.select._select import select
from jaxprune.select._source import Source


class Given(NamedTuple):
    """What criteria may need beside their leaf; lists have an entry for each target.

    Attributes:
      params: path -> array, of all leaves of the tree.
      grads: gradients, or what stands in their place.
      memory: what criteria remember.
      alive: bool arrays, or None; other weights rank below all of these.
      step: the number of the update, int32.
    """

    params: Any = None
    grads: Any = None
    memory: Any = None
    alive: Any = None
    step: Any = 0

    def context(self, i):
        """By name, for the target with number `i`."""
        lists = {"grad": self.grads, "memory": self.memory}
        own = {name: None if x is None else x[i] for name, x in lists.items()}
        return own | {"params": self.params, "step": self.step}


def params_needed(setup: Setup, paths, leaves, grow: Criterion | None = None):
    """Path -> array for `Given`, or None where no criterion asks for it."""
    criteria = [t.criterion for t in setup.targets] + ([] if grow is None else [grow])
    if not any("params" in c.needs for c in criteria):
        return None
    return {p: x for p, x in zip(paths, leaves, strict=True) if hasattr(x, "dtype")}


def _ranked(target: Target, w, given: Given, i: int):
    """What selection reads: the leaf, where scores are so cheap that it makes them, or scores."""
    criterion = target.criterion
    w = _orderable(w)
    alive = None if given.alive is None else given.alive[i]
    if criterion.fused and alive is None:
        _check_scores(target, w, jax.eval_shape(criterion.function, w))
        return w
    scores = scores_of(target, criterion, w, given, i)
    if alive is None:
        return scores
    scores = jnp.where(jnp.isnan(scores), jnp.finfo(scores.dtype).min, scores)
    return jnp.where(alive, scores, -jnp.inf)


def _orderable(w):
    return w if _keys.can_order(w.dtype) else w.astype(jnp.float32)  # float8 and the like


def scores_of(target: Target, criterion: Criterion, w, given: Given, i: int):
    """What a criterion gives for the target with number `i`, checked."""
    w = _orderable(w)
    scores = criterion(w, path=target.path, pattern=target.pattern, **given.context(i))
    _check_scores(target, w, scores)
    if not (is_traced(scores) or is_traced(w)) and scores.sharding != w.sharding:
        scores = jax.device_put(scores, w.sharding)  # and so the mask
    return scores


def _check_scores(target, w, scores):
    if not hasattr(scores, "shape") or scores.shape != w.shape:
        raise ValueError(
            f"the criterion gave scores of shape {getattr(scores, 'shape', None)} for "
            f"{target.path} of shape {w.shape}; scores have the shape of the leaf."
        )
    _keys.check_dtype(scores.dtype, f"the score of {target.path}")


def _rank_first(setup: Setup, sources, num_keep, lower, upper):
    """Where some units rank before all others: asks for the rest among one kind of unit only.

    Returns the sources and counts to select with.
    """
    first = [t.pattern.first_units(t.shape) for t in setup.targets]
    ahead = np.zeros((len(setup.labels),), np.int64)
    ranked = np.zeros((len(setup.labels),), bool)
    for target, units in zip(setup.targets, first, strict=True):
        if units is not None:
            ahead[target.group] += units * target.cost
            ranked[target.group] = True
    before = _wide.constant(ahead)
    among = _wide.at_least(jnp.asarray(before), num_keep) | ~ranked
    num_keep = jnp.where(among[:, None], num_keep, _wide.subtract(num_keep, before))
    chosen = []
    for i, (target, source, units) in enumerate(zip(setup.targets, sources, first, strict=True)):
        if units is None:
            chosen.append(source)
            continue
        wanted = among[target.group]
        chosen.append(dataclasses.replace(source, wanted=wanted, num_members=units))
        if lower is not None:
            most = jnp.where(wanted, *map(_wide.constant, (units, source.size - units)))
            settled = jnp.where(wanted, *map(_wide.constant, (0, units)))
            lower, upper = (
                x.at[i].set(_wide.clip(_wide.subtract(x[i], settled), _NONE, most))
                for x in (lower, upper)
            )
    return chosen, num_keep, lower, upper


def _units(setup, ranked):
    return [
        target.pattern.units(Source(x, target.criterion.function))
        for target, x in zip(setup.targets, ranked, strict=True)
    ]


_NONE = _wide.constant(0)


def _with_stored_members(setup, ranked, sources, num_keep):
    """The same; members are computed once, in a loop of one turn.

    Otherwise XLA fuses them into what reads masks, computes them again there, and stores keys for
    it: four times as large.
    """

    def turn(state):
        arrays = lax.optimization_barrier(ranked)  # else it would be hoisted out of the loop
        return jnp.zeros_like(state[0]), [x.member for x in _units(setup, arrays)]

    unknown = num_keep[0, 0] >= 0  # true; of a constant the compiler would know how many turns
    blank = [None if x.member is None else jnp.zeros_like(x.member) for x in sources]
    start = unknown, varying_as(blank, ranked)
    _, members = lax.while_loop(lambda state: state[0], turn, start)
    return [dataclasses.replace(x, member=m) for x, m in zip(sources, members, strict=True)]


def compute(setup: Setup, leaves, given: Given, num_keep, lower, upper, *, in_update=False):
    """Masks of the targets.

    Args:
      setup: what is pruned, static.
      leaves: the targets' arrays.
      given: what their criteria may need.
      num_keep, lower, upper: as in `Counts`.
      in_update: whether masks go on into an update, where memory has to be saved at some cost.

    Returns:
      A list of bool arrays.
    """
    leaves, given = lax.stop_gradient((leaves, given))
    alive = given.alive
    if setup.tied is not None:  # a weight may be pruned as part of one unit and live in another
        given = given._replace(alive=None)
    ranked = [
        _ranked(target, w, given, i)
        for i, (target, w) in enumerate(zip(setup.targets, leaves, strict=True))
    ]
    if setup.tied is not None:
        program = functools.partial(_compute_tied, setup.program([True] * len(leaves)))
        return with_auto_axes(program, ranked, alive, num_keep, lower, upper, like=leaves)
    alive = [None] * len(leaves) if alive is None else alive
    setup = setup.program([x is None for x in alive])
    return highest(setup, ranked, leaves, num_keep, lower, upper, in_update=in_update)


def highest(setup: Setup, ranked, leaves, num_keep, lower, upper, *, in_update):
    """Masks of the highest scores, placed as the leaves.

    Args:
      setup: a `Setup.program`.
      ranked: for each target what its criterion makes scores of.
      leaves, num_keep, lower, upper, in_update: as in `compute`.
    """
    program = functools.partial(_compute, setup, in_update=in_update)
    return with_auto_axes(program, ranked, num_keep, lower, upper, like=leaves)


@functools.partial(jax.jit, static_argnames=("setup", "in_update"))
def _compute(setup: Setup, ranked, num_keep, lower, upper, in_update):
    """`compute` from what is ranked; compiled once for equal setups, also for eager callers."""
    num_keep = jnp.asarray(num_keep)
    if lower is not None:
        lower, upper = jnp.asarray(lower), jnp.asarray(upper)
    sources = _units(setup, ranked)
    if any(source.member is not None for source in sources):
        if in_update:
            sources = _with_stored_members(setup, ranked, sources, num_keep)
        sources, num_keep, lower, upper = _rank_first(setup, sources, num_keep, lower, upper)
    masks = select(sources, setup.groups, num_keep, lower=lower, upper=upper, costs=setup.costs)
    full = []
    for target, x, mask in zip(setup.targets, ranked, masks, strict=True):
        mask = target.pattern.expand(mask, target.shape)
        full.append(mask if target.units == target.size else placed_as(mask, x))
    return full


@functools.partial(jax.jit, static_argnames=("setup",))
def _compute_tied(setup: Setup, ranked, alive, num_keep, lower, upper):
    """The same where units have weights in several leaves, from a mask of each or None."""
    tied, ranking = setup.tied, setup.ranking
    assert tied is not None
    paths = [t.path for t in setup.targets]
    scores = [t.criterion.function(x) for t, x in zip(setup.targets, ranked, strict=True)]
    if alive is not None:
        zeros = [jnp.zeros((), x.dtype) for x in scores]
        scores = [jnp.where(a, x, z) for a, x, z in zip(alive, scores, zeros, strict=True)]
    units = tied.sums(dict(zip(paths, scores, strict=True)))
    if alive is not None:
        left = tied.sums(dict(zip(paths, (a.astype(jnp.float32) for a in alive), strict=True)))
        units = [jnp.where(jnp.isnan(x), jnp.finfo(x.dtype).min, x) for x in units]
        units = [jnp.where(n > 0, x, -jnp.inf) for n, x in zip(left, units, strict=True)]
    sources = [Source(x) for x in units]
    kept = select(
        sources,
        ranking.groups,
        jnp.asarray(num_keep),
        lower=None if lower is None else jnp.asarray(lower),
        upper=None if upper is None else jnp.asarray(upper),
        costs=ranking.costs,
    )
    masks = tied.expand(kept)
    return [placed_as(masks[path], x) for path, x in zip(paths, ranked, strict=True)]
