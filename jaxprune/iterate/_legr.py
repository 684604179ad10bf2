"""LeGR: filters of all layers in one ranking, which evolution learns."""

import contextlib
import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprune import _table
from jaxprune import masks as _masks
from jaxprune._checks import check_key, check_sparsity, key_data
from jaxprune._tree import flatten
from jaxprune.iterate._affine import criterion, spreads
from jaxprune.iterate._evolution import Evolution, LegrState, enter, propose, resume, start
from jaxprune.masks._setup import Options, Target
from jaxprune.masks._targets import options, resolve
from jaxprune.masks._tied import check_untied
from jaxprune.patterns import Channel
from jaxprune.scores import Criterion


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What `legr` found.

    Attributes:
      score: the criterion, for this tree and pattern at any sparsity, with `scope="global"`.
      masks: the masks that it makes at the sparsity of the search.
      fitness: what `fitness(masks)` gave; -inf where no candidate had a finite fitness.
      affine: from the path of each ranked leaf to its (a, k).
      state: the end of the search.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"a": {"kernel": jnp.eye(4)}, "b": {"kernel": 2 * jnp.eye(4)}}
      >>> found = jaxprune.iterate.legr(
      ...     lambda masks: masks["a"]["kernel"].sum(),
      ...     params, sparsity=0.5, key=jax.random.key(0), population=4, sample=2, generations=9,
      ... )
      >>> pruned, masks = jaxprune.prune_params(
      ...     params, 0.25, score=found.score, pattern=jaxprune.Channel(), scope="global"
      ... )
      >>> sorted(found.affine)
      ['a/kernel', 'b/kernel']
    """

    score: Criterion
    masks: Any
    fitness: float
    affine: Mapping[str, tuple[float, float]]
    state: LegrState


def legr(
    fitness: Callable[[Any], Any],
    params,
    *,
    sparsity,
    key,
    pattern=Channel(),  # noqa: B008
    rules=(),
    cost=None,
    min_sparsity=None,
    max_sparsity=None,
    population=64,
    sample=16,
    generations=400,
    mutate=0.1,
    state: LegrState | None = None,
    callback: Callable[[LegrState], Any] | None = None,
    progress=False,
) -> Ranking:
    """Learns how filters of different layers compare, by ageing evolution.

        score of a filter = a * (sum of its squares) + k,   a and k of its leaf

    Candidate 0 is the plain norm, a = 1 and k = 0. The others of the first `population` have
    a = exp(N(0, 1)) and k = N(0, s), where s is the standard deviation of the sums of squares in
    the leaf. Then each candidate i is the best of `sample` random ones of the population, changed
    in some leaves: a is multiplied by exp(N(0, 1 - i / (1.25 * generations))), and N(0, s) is added
    to k. It takes the place of the oldest. The best of all candidates is returned, so that the
    fitness is at least that of the plain norm.

    What is compiled for the first candidate serves all. Candidates depend on the arguments and on
    what `fitness` gave, on nothing else; where several processes run the search, `fitness` must
    give all of them the same number.

    Args:
      fitness: `fitness(masks) -> number`, higher is better: for example minus the validation loss
        after some steps of fine-tuning with these masks. `masks` is a tree as `masks.make` gives
        it. What is not finite, such as the loss of a run that diverged, ranks lowest.
      params: any pytree of arrays, with two prunable leaves or more.
      sparsity: the target, 0 <= s < 1, of units, or of `cost` where that is given.
      key: a PRNG key. Equal keys and equal fitness give equal searches.
      pattern: what is ranked. Units may be single weights; a is then times their square.
      rules: as in `masks.make`. A leaf with its own sparsity or its own score is not learned.
      cost: as in `masks.make`, for a target in FLOPs; None: each unit costs the same.
      min_sparsity, max_sparsity: as in `masks.make`; `max_sparsity=0.9` keeps a tenth of each leaf.
      population: how many candidates are alive.
      sample: how many of them compete for the next, up to `population`.
      generations: how many candidates are evaluated in all, more than `population`.
      mutate: fraction of the leaves that a mutation changes, 0 < mutate <= 1; at least one leaf.
      state: of an earlier run with the same arguments, to go on with as if it had never stopped.
      callback: called with the `LegrState` after every candidate; save it there.
      progress: whether tqdm shows a bar.

    Returns:
      A `Ranking`: its `score` serves any sparsity, its `masks` are those of the best candidate.
      With the state of a finished search nothing is evaluated.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind or out of range, `fitness` gave no
        number, fewer than two leaves are ranked together, or `state` is of another search.
      ImportError: `progress=True` without tqdm.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"a": {"kernel": jnp.eye(4)}, "b": {"kernel": 2 * jnp.eye(4)}}
      >>> def fitness(masks):  # stands for training: `a` matters, whatever its norms
      ...     return masks["a"]["kernel"].mean()
      >>> found = jaxprune.iterate.legr(
      ...     fitness, params, sparsity=0.5, key=jax.random.key(0),
      ...     population=8, sample=4, generations=40,
      ... )
      >>> found.fitness, int(found.masks["b"]["kernel"].sum())
      (1.0, 0)

    References:
      Chin et al., Towards efficient model compression via learned global ranking,
      arXiv 1904.12368. Real et al., Regularized evolution for image classifier architecture
      search, arXiv 1802.01548.
    """
    sparsity = check_sparsity(sparsity, "sparsity")
    check_key(key)
    check_untied(pattern, "legr")
    how = _checked(population, sample, generations, mutate)
    chosen = options(
        score=criterion((), (), (), ()),
        pattern=pattern,
        scope="global",
        allocate=None,
        rules=rules,
        min_sparsity=min_sparsity,
        max_sparsity=max_sparsity,
    )
    params, targets, learned = _resolved(params, chosen)
    fresh = start(key_data(key), how.population, len(learned))
    state = fresh if state is None else resume(state, fresh)
    weighted = {} if cost is None else {"cost": cost}

    def make(scale, shift):
        score = criterion(targets, learned, scale, shift)
        return score, _masks.make(
            params,
            sparsity,
            score=score,
            pattern=pattern,
            scope="global",
            rules=chosen.rules,
            min_sparsity=min_sparsity,
            max_sparsity=max_sparsity,
            **weighted,
        )

    spread = spreads(params, learned)
    with _bar(progress, how.generations, int(state.generation)) as bar:
        while state.generation < how.generations:
            scale, shift = propose(state, spread, how)
            _, masks = make(scale, shift)
            state = enter(state, scale, shift, _number(fitness(masks)))
            if callback is not None:
                callback(state)
            if bar is not None:
                bar.set_postfix(best=f"{state.best_fitness:.4g}", refresh=False)
                bar.update()
    best = state.best_scale, state.best_shift
    score, masks = make(*best)
    return Ranking(
        score=score,
        masks=masks,
        fitness=float(state.best_fitness),
        affine={t.path: (float(a), float(k)) for t, a, k in zip(learned, *best, strict=True)},
        state=state,
    )


def _checked(population, sample, generations, mutate) -> Evolution:
    given = {"population": population, "sample": sample, "generations": generations}
    for name, value in given.items():
        try:
            given[name] = operator.index(value)
        except TypeError as error:
            raise TypeError(f"{name}={value!r} is not a whole number.") from error
    if not 1 <= given["sample"] <= given["population"]:
        raise ValueError(
            f"sample={sample} must be 1 to population={population}, from which it is drawn."
        )
    if given["generations"] <= given["population"]:
        raise ValueError(
            f"generations={generations} must exceed population={population}: the first "
            f"{population} are drawn at random, and only then candidates evolve. Lower population."
        )
    if isinstance(mutate, bool) or not isinstance(mutate, int | float):
        raise TypeError(f"mutate={mutate!r} is not a number; give a fraction such as 0.1.")
    if not 0 < mutate <= 1:
        raise ValueError(f"mutate={mutate!r} must be a fraction of the leaves, 0 < mutate <= 1.")
    return Evolution(**given, mutate=mutate)


def _resolved(params, chosen: Options) -> tuple[Any, tuple[Target, ...], list[Target]]:
    """The params on their device, all leaves that are pruned, and those that are learned."""
    setup, _ = resolve(params, chosen)
    learned = [t for t in setup.targets if not setup.alone[t.group] and t.criterion is chosen.score]
    if len(learned) < 2:
        raise ValueError(
            f"legr ranks leaves against each other, and here it ranks {len(learned)}: every other "
            "leaf is dense or has a sparsity or a score of its own. Use jaxprune.prune_params."
        )
    _, leaves, structure = flatten(params)
    for t in setup.targets:
        leaves[t.index] = jnp.asarray(leaves[t.index])
    return structure.unflatten(leaves), setup.targets, learned


def _number(value) -> float:
    try:
        if np.ndim(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"fitness gave {value!r}; it must give one number, where higher is better."
        ) from error


def _bar(progress, total, done):
    if not progress:
        return contextlib.nullcontext()
    return _table.tqdm("progress=True")(desc="legr", total=total, initial=done)
