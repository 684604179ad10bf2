"""Ageing evolution of affine rankings, on the host: plain arrays in, plain arrays out."""

import dataclasses
from typing import NamedTuple

import numpy as np


class LegrState(NamedTuple):
    """Where a search stands, as NumPy arrays: anything that saves arrays saves it.

    Attributes:
      key: uint32, the data of the PRNG key. Candidate i depends on it, on i and on the population.
      generation: int32 [], how many candidates were evaluated.
      scale, shift: float32 [population, leaves], a and k of those alive. Candidate i took row
        i % population, from the oldest.
      fitness: float32 [population]; -inf where it was not finite, or nobody was born yet.
      best_scale, best_shift: float32 [leaves], of the best candidate of all generations.
      best_fitness: float32 [].

    Example:
      >>> import numpy as np
      >>> from jaxprune import iterate
      >>> def save(state):
      ...     np.savez("legr.npz", **state._asdict())
      >>> def load():
      ...     return iterate.LegrState(**np.load("legr.npz"))
    """

    key: np.ndarray
    generation: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    fitness: np.ndarray
    best_scale: np.ndarray
    best_shift: np.ndarray
    best_fitness: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evolution:
    """How a population changes; the words are those of `legr`."""

    population: int
    sample: int
    generations: int
    mutate: float


def start(key: np.ndarray, population: int, num_leaves: int) -> LegrState:
    """Before the first candidate: nobody is alive, and the best is the plain norm."""
    one, zero = np.ones(num_leaves, np.float32), np.zeros(num_leaves, np.float32)
    return LegrState(
        key=np.asarray(key, np.uint32),
        generation=np.array(0, np.int32),
        scale=np.tile(one, (population, 1)),
        shift=np.tile(zero, (population, 1)),
        fitness=np.full(population, -np.inf, np.float32),
        best_scale=one,
        best_shift=zero,
        best_fitness=np.array(-np.inf, np.float32),
    )


def resume(state: LegrState, fresh: LegrState) -> LegrState:
    """A saved state, checked against the one that this search starts from."""
    restored = {}
    for name, like in fresh._asdict().items():
        value = np.array(getattr(state, name))  # a copy
        if value.shape != like.shape or value.dtype != like.dtype:
            raise ValueError(
                f"state.{name} is {value.dtype}{list(value.shape)}, and this search has "
                f"{like.dtype}{list(like.shape)}; resume with the params, rules, key and "
                "population that the state was made with."
            )
        restored[name] = value
    if not np.array_equal(restored["key"], fresh.key):
        raise ValueError(
            "state was made with another key; resume with that one, so that the search goes on as "
            "if it had never stopped."
        )
    return LegrState(**restored)


def propose(state: LegrState, spread: np.ndarray, how: Evolution):
    """The next candidate: (scale, shift), float32 [leaves].

    The first is the plain norm, so that a search never ends below it. Then come random ones until
    the population is full, then mutated winners.
    """
    i, leaves = int(state.generation), len(spread)
    random = np.random.default_rng([*state.key.tolist(), i])
    scale, shift = np.ones(leaves, np.float32), np.zeros(leaves, np.float32)
    if i == 0:
        return scale, shift
    step, mutated = 1.0, np.arange(leaves)
    if i >= how.population:
        rivals = random.choice(how.population, how.sample, replace=False)
        winner = rivals[np.argmax(state.fitness[rivals])]
        scale, shift = state.scale[winner].copy(), state.shift[winner].copy()
        step = 1 - i / (1.25 * how.generations)
        mutated = random.choice(leaves, max(1, round(how.mutate * leaves)), replace=False)
    scale[mutated] *= np.exp(random.normal(0, step, len(mutated)))
    shift[mutated] += random.normal(0, spread[mutated])
    return scale, shift


def enter(state: LegrState, scale, shift, fitness: float) -> LegrState:
    """The population with one more candidate, without its oldest."""
    row = int(state.generation) % len(state.fitness)
    with np.errstate(over="ignore"):
        reached = np.array(fitness, np.float32)
    if not np.isfinite(reached):
        reached = np.array(-np.inf, np.float32)

    def put(array, value):
        array = array.copy()
        array[row] = value
        return array

    state = state._replace(
        generation=np.array(state.generation + 1, np.int32),
        scale=put(state.scale, scale),
        shift=put(state.shift, shift),
        fitness=put(state.fitness, reached),
    )
    if reached > state.best_fitness:
        return state._replace(best_scale=scale, best_shift=shift, best_fitness=reached)
    return state
