"""Prune, retrain, look: as sparse as a bound on the quality allows."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxprune import _table
from jaxprune._checks import check_sparsity, check_step
from jaxprune.iterate._rounds import Round, checked, own
from jaxprune.masks._apply import apply
from jaxprune.masks._make import make_given
from jaxprune.masks._targets import options
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude


class Progress(NamedTuple):
    """What `progressive` found.

    Attributes:
      best: the sparsest round whose metric was not below the bound; round 0, with the params as
        they were given and without metrics, if there was none.
      rounds: all that were tried, in order.
      accepted: for each of them whether its metric was not below the bound.
    """

    best: Round
    rounds: list[Round]
    accepted: list[bool]


def progressive(
    params,
    train_fn: Callable[[Any, Any, int], tuple[Any, dict[str, Any]]],
    *,
    sparsities: Sequence[float],
    metric: str,
    bound: float,
    halvings: int = 0,
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
    progress: bool = False,
) -> Progress:
    """Progressive pruning with a guard: prunes and retrains until quality falls below a bound.

        for each sparsity: prune what the last accepted round has left, retrain, measure;
        below the bound: step back to the last accepted round, and try half the step, or stop

    Args:
      params: of a trained network.
      train_fn: `train_fn(params, masks, round) -> (params, metrics)` retrains with these masks, for
        example by `keep(optimizer, masks)`, and measures on data it did not train on.
      sparsities: ascending, in (0, 1), such as `(0.2, 0.4, 0.6)`.
      metric: which of the metrics is guarded; higher is better. What is NaN is below any bound.
      bound: the lowest value that is accepted.
      halvings: after a failure, how often half the step that failed is tried, from 0: a search for
        the sparsest network within the bound. Then it stops.
      score: a criterion of weights alone.
      pattern, scope, allocate, rules, min_sparsity, max_sparsity: as in `masks.make`.
      progress: whether tqdm shows a bar.

    Returns:
      A `Progress`.

    Raises:
      TypeError, ValueError: as in `masks.make`; sparsities do not ascend; the metric is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> def train_fn(params, masks, round):
      ...     return params, {"left": float(jaxprune.masks.density(masks))}
      >>> found = jaxprune.iterate.progressive(
      ...     {"kernel": jnp.arange(1.0, 101.0).reshape(10, 10)}, train_fn,
      ...     sparsities=(0.2, 0.4, 0.8), metric="left", bound=0.35, halvings=1,
      ... )
      >>> [round(one.sparsity, 2) for one in found.rounds], found.accepted
      ([0.2, 0.4, 0.8, 0.6], [True, True, False, True])
      >>> round(found.best.sparsity, 2)
      0.6
    """
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity)
    targets = [check_sparsity(s, f"sparsities[{i}]") for i, s in enumerate(sparsities)]
    if not targets or targets != sorted(set(targets)) or targets[0] == 0:
        raise ValueError(f"sparsities={tuple(sparsities)} must ascend from above 0.")
    halvings = check_step(halvings, "halvings")
    dense = make_given(params, 0.0, chosen, None, None, final=targets[-1])
    best = Round(0, 0.0, dense, params, {})
    rounds: list[Round] = []
    accepted: list[bool] = []
    bar = _table.tqdm("progress=True")(desc="rounds") if progress else None

    def attempt(sparsity):
        masks = make_given(
            best.params, sparsity, chosen, None, None, alive=best.masks, final=targets[-1]
        )
        number = len(rounds) + 1
        after, metrics = checked(
            train_fn(own(apply(best.params, masks)), own(masks), number), number
        )
        if metric not in metrics:
            raise ValueError(
                f"metric={metric!r} is not among those that train_fn gave: "
                f"{', '.join(map(repr, metrics))}."
            )
        rounds.append(Round(number, sparsity, masks, after, metrics))
        accepted.append(bool(metrics[metric] >= bound))
        if bar is not None:
            bar.set_postfix(sparsity=sparsity, **{metric: metrics[metric]})
            bar.update()
        return accepted[-1]

    for target in targets:
        if attempt(target):
            best = rounds[-1]
            continue
        failed = target
        for _ in range(halvings):
            middle = (best.sparsity + failed) / 2
            if attempt(middle):
                best = rounds[-1]
            else:
                failed = middle
        break
    if bar is not None:
        bar.close()
    return Progress(best, rounds, accepted)
