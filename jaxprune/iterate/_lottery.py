"""Iterative magnitude pruning with rewinding: lottery tickets."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxprune import _table
from jaxprune._checks import check_key, check_sparsity, check_step
from jaxprune._tree import flatten
from jaxprune.iterate._rounds import Round, Store, checked, described, fingerprint, own
from jaxprune.masks._apply import apply
from jaxprune.masks._make import make_given
from jaxprune.masks._shuffle import shuffle
from jaxprune.masks._targets import options
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude

_REWINDS = ("weights", "learning rate")


def _pruned(trained, masks, sparsity, chosen, replicates, final):
    """The masks of the next round: the highest of what is there."""

    def make(params, alive):
        return make_given(params, sparsity, chosen, None, None, alive=alive, final=final)

    return (jax.vmap(make) if replicates else make)(trained, masks)


def lottery_tickets(
    params,
    train_fn: Callable[[Any, Any, int], tuple[Any, dict[str, Any]]],
    *,
    rounds: int,
    rate: float = 0.2,
    rewind: str = "weights",
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="global",
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
    replicates: bool = False,
    directory=None,
    progress: bool = False,
) -> list[Round]:
    """Iterative magnitude pruning: train, prune the smallest, rewind, again.

        round 0:  train `params`, dense
        round i:  prune the trained weights of round i - 1 to the sparsity 1 - (1 - rate)**i;
                  train from `params`, where the masks keep them

    What is pruned stays pruned. Round i keeps exactly round(size * (1 - s)) weights, where s is
    its sparsity. Bounds and sparsities of single leaves grow with it, up to the last round.

    Args:
      params: the weights to rewind to, of which each round gets a copy: those of initialisation, or
        of an early step k of the dense run, which the caller has trained and whose `train_fn` goes
        on from there. Late resetting is what makes tickets of deeper networks win.
      train_fn: `train_fn(params, masks, round) -> (params, metrics)` trains with these masks from
        these params to the end, with a fresh optimizer such as `keep(optax.adam(1e-3), masks)`.
        `metrics` is a dict of numbers.
      rounds: how many rounds of pruning follow the dense one.
      rate: the fraction of what remains that a round prunes, 0 < rate < 1.
      rewind: "weights", or "learning rate": then weights are not rewound, and only the schedules
        in `train_fn` begin anew.
      score: a criterion of weights alone.
      pattern, scope, rules, min_sparsity, max_sparsity: as in `masks.make`.
      replicates: whether each leaf of `params` has a first axis of replicates, such as seeds.
        Each is pruned by itself, and `train_fn` gets them all, to train them in one `jax.vmap`.
      directory: where each round is saved. A run that was killed goes on behind the last round
        that was finished, if it is called with the same arguments.
      progress: whether tqdm shows a bar.

    Returns:
      A list of `Round`s, the dense one first. The ticket of a round is `params` and its masks.

    Raises:
      TypeError, ValueError: as in `masks.make`; a rate out of range; `train_fn` returned something
        else; the directory holds another run.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> def train_fn(params, masks, round):
      ...     return params, {"weights": float(sum(w.astype(bool).sum() for w in params.values()))}
      >>> found = jaxprune.iterate.lottery_tickets(
      ...     {"kernel": jnp.arange(1.0, 101.0).reshape(10, 10)}, train_fn, rounds=2
      ... )
      >>> [(one.number, round(one.sparsity, 2), one.metrics["weights"]) for one in found]
      [(0, 0.0, 100.0), (1, 0.2, 80.0), (2, 0.36, 64.0)]

    References:
      Frankle and Carbin, The lottery ticket hypothesis, arXiv 1803.03635; Frankle et al., Linear
      mode connectivity and the lottery ticket hypothesis, arXiv 1912.05671; Renda et al.,
      Comparing rewinding and fine-tuning, arXiv 2003.02389.
    """
    rounds = check_step(rounds, "rounds")
    rate = check_sparsity(rate, "rate")
    if rate == 0:
        raise ValueError("rate=0 prunes nothing; the usual one is 0.2.")
    if rewind not in _REWINDS:
        raise ValueError(f"rewind={rewind!r} must be one of {', '.join(map(repr, _REWINDS))}.")
    chosen = options(score, pattern, scope, None, rules, min_sparsity, max_sparsity)
    store = None
    if directory is not None:
        facts = {"rate": rate, "rewind": rewind, "replicates": replicates}
        facts |= {"paths": flatten(params)[0], "params": fingerprint(params), **described(chosen)}
        store = Store(directory, facts)
    final = 1 - (1 - rate) ** rounds
    masks = _pruned(params, None, 0.0, chosen, replicates, final)
    found: list[Round] = []
    bar = _table.tqdm("progress=True")(total=rounds + 1, desc="rounds") if progress else None
    for number in range(rounds + 1):
        sparsity = 1 - (1 - rate) ** number
        one = None if store is None else store.load(number, params, masks)
        if one is None:
            start = params
            if number:
                trained = found[-1].params
                masks = _pruned(trained, found[-1].masks, sparsity, chosen, replicates, final)
                start = apply(params if rewind == "weights" else trained, masks)
            after, metrics = checked(train_fn(own(start), own(masks), number), number)
            one = Round(number, sparsity, masks, after, metrics)
            if store is not None:
                store.save(one)
        found.append(one)
        if bar is not None:
            bar.set_postfix({k: v for k, v in one.metrics.items() if not hasattr(v, "ndim")})
            bar.update()
    if bar is not None:
        bar.close()
    return found


def controls(
    key: jax.Array,
    tickets: Sequence[Round],
    params,
    train_fn: Callable[[Any, Any, int], tuple[Any, dict[str, Any]]],
    *,
    init_fn: Callable[[jax.Array], Any] | None = None,
    replicates: bool = False,
    progress: bool = False,
) -> dict[str, list[Round]]:
    """What a winning ticket has to beat: other weights, or other masks, of the same sparsity.

        "random masks":  the rewound weights, and masks with as many weights of each leaf at random
        "random init":   the masks of the ticket, and weights drawn anew

    Args:
      key: a PRNG key.
      tickets: from `lottery_tickets`.
      params, train_fn: as they were there.
      init_fn: `init_fn(key) -> params`, drawn anew for each round, with the first axis of
        replicates if there are any; None leaves that control out.
      replicates: as in `lottery_tickets`; each has random masks of its own.
      progress: whether tqdm shows a bar.

    Returns:
      Name of the control -> a `Round` for each ticket but the dense one.

    Raises:
      TypeError: `key` is no key, or `train_fn` returned something else.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxprune
      >>> train_fn = lambda params, masks, round: (params, {"sum": params["kernel"].sum()})
      >>> params = {"kernel": jnp.arange(1.0, 101.0).reshape(10, 10)}
      >>> tickets = jaxprune.iterate.lottery_tickets(params, train_fn, rounds=1)
      >>> found = jaxprune.iterate.controls(jax.random.key(0), tickets, params, train_fn)
      >>> tickets[1].metrics["sum"] > found["random masks"][0].metrics["sum"]
      True
    """
    check_key(key)
    sparse = [one for one in tickets if one.number]
    runs: dict[str, list[Round]] = {"random masks": []}
    if init_fn is not None:
        runs["random init"] = []
    bar = _table.tqdm("progress=True")(total=len(runs) * len(sparse)) if progress else None
    for one in sparse:
        key_of_round = jax.random.fold_in(key, one.number)
        for name, done in runs.items():
            masks, start = one.masks, params
            if name == "random masks":
                masks = _shuffled(key_of_round, one.masks, replicates)
            else:
                start = init_fn(key_of_round)  # type: ignore[misc]
            given = own(apply(start, masks)), own(masks), one.number
            after, metrics = checked(train_fn(*given), one.number)
            done.append(dataclasses.replace(one, masks=masks, params=after, metrics=metrics))
            if bar is not None:
                bar.update()
    if bar is not None:
        bar.close()
    return runs


def _shuffled(key, masks, replicates):
    if not replicates:
        return shuffle(key, masks)
    number = jax.tree.leaves(masks)[0].shape[0]
    return jax.vmap(shuffle)(jax.random.split(key, number), masks)
