"""Gradual magnitude pruning in three stages: stabilise, prune, fine-tune."""

import math
import numbers

from jaxprune._checks import check_sparsity, check_step, is_traced
from jaxprune.recipes._recipe import Piecewise, Recipe, Stage
from jaxprune.schedules import polynomial
from jaxprune.schedules._base import check_int32_step

_EVENTS = 36


def gmp(
    total_steps: int,
    *,
    sparsity=0.9,
    init_sparsity=0.05,
    learning_rate: float = 1e-2,
    weight_decay: float = 0.0,
    stabilize: float = 0.05,
    prune: float = 0.5,
    reductions: int = 2,
    reduction: float = 0.1,
    events: int | None = None,
    warmup: int = 0,
) -> Recipe:
    """Gradual pruning of a trained model: stabilise, prune, fine-tune.

        stabilise [0, b):     dense, constant learning rate
        prune     [b, e):     s(t) = sparsity + (init_sparsity - sparsity) * (1 - (t-b)/(e-b))**3
        fine-tune [e, total): masks fixed, learning rate * reduction**k from e + k*(total-e)/(r+1)
                              on, for k = 1..r = reductions; no weight decay
        with b = round(stabilize * total), e = round((stabilize + prune) * total)

    The defaults follow recipes as published for ResNet-50: a short dense stage to settle (1 or 2
    of 57 to 60 epochs; here a twentieth, so that short runs have one too), pruning for about half
    of the run (34 or 35 epochs), and the rest with fixed masks and two reductions by ten, a third
    of that stage apart. The target is reached at step e, the first of the last stage, whose
    masks are then fixed.

    Args:
      total_steps: steps of the run, 3 <= total_steps < 2**31.
      sparsity: the target, 0 <= sparsity < 1; may be traced, in a sweep.
      init_sparsity: at the first event, 0 <= init_sparsity <= sparsity; may be traced.
      learning_rate: in the first two stages, above 0; slightly above the last one of the
        training that came before is usual.
      weight_decay: in the first two stages, at least 0; then 0, since it pulls at the few
        weights that are left.
      stabilize: fraction of the run that the first stage takes, above 0.
      prune: fraction of the run that the second stage takes, above 0; stabilize + prune < 1.
      reductions: how often the learning rate falls, at least 0, fewer than fine-tuning steps.
      reduction: what it is multiplied by each time, 0 < reduction < 1.
      events: how many times masks are recomputed, evenly from b to e, both included;
        1 <= events <= e - b + 1, and 1 is a jump at e. None is 36 (fewer in a stage of fewer
        steps): one event for each 35th of the stage, an epoch in the published recipe.
      warmup: steps over which the learning rate rises linearly, 0 <= warmup <= b.

    Returns:
      A `Recipe`, hashable where its sparsities are static.

    Raises:
      ValueError: a number out of its range, or a stage without a step.
      TypeError: an argument that is no number, or one that must be static and is traced.

    Example:
      >>> import optax
      >>> from jaxprune import recipes
      >>> recipe = recipes.gmp(1000, sparsity=0.8, weight_decay=1e-4)
      >>> tx = optax.adamw(recipe.learning_rate, weight_decay=recipe.weight_decay)
      >>> print(recipe)  # doctest: +NORMALIZE_WHITESPACE
        stage         steps     sparsity           learning rate   weight decay
       ─────────────────────────────────────────────────────────────────────────
        stabilize      0-49          0 %                    0.01         0.0001
        prune        50-549   5 % → 80 %                    0.01         0.0001
        fine-tune   550-999         80 %   0.01 → 0.001 → 0.0001              0

    References:
      Zhu and Gupta, To prune, or not to prune, arXiv:1710.01878.
    """
    total = check_int32_step(total_steps, "total_steps", minimum=3)
    sparsity = check_sparsity(sparsity, "sparsity")
    init = check_sparsity(init_sparsity, "init_sparsity")
    if not (is_traced(sparsity) or is_traced(init)) and init > sparsity:
        raise ValueError(
            f"init_sparsity={init} is above sparsity={sparsity}; give init_sparsity <= sparsity."
        )
    rate = _number(learning_rate, "learning_rate", above=0)
    decay = _number(weight_decay, "weight_decay", least=0)
    first = _number(stabilize, "stabilize", above=0, below=1)
    second = _number(prune, "prune", above=0, below=1)
    factor = _number(reduction, "reduction", above=0, below=1)
    if first + second >= 1:
        raise ValueError(
            f"stabilize={first} and prune={second} leave nothing to fine-tune; "
            f"their sum must be below 1."
        )
    begin, end = round(first * total), round((first + second) * total)
    if not 0 < begin < end < total:
        raise ValueError(
            f"total_steps={total} with stabilize={first} and prune={second} leaves a stage "
            f"without a step: [0, {begin}), [{begin}, {end}), [{end}, {total}); give more steps "
            f"or larger fractions."
        )
    warmup = _at_most(check_step(warmup, "warmup"), "warmup", begin, "stabilising")
    drops = check_step(reductions, "reductions")
    drops = _at_most(drops, "reductions", total - end - 1, "fine-tuning")
    if events is None:
        number = min(_EVENTS, end - begin + 1)
    else:
        number = check_step(events, "events", minimum=1)
        _at_most(number, "events", end - begin + 1, "pruning")

    # The last gap ends at `end` exactly; a single event is the one that reaches the target.
    gaps = max(number - 1, 1)
    when = tuple(begin + i * (end - begin) // gaps for i in range(gaps + 1))[-number:]
    lowered = tuple(end + k * (total - end) // (drops + 1) for k in range(1, drops + 1))
    rates = tuple(rate * factor**k for k in range(drops + 1))
    return Recipe(
        total_steps=total,
        sparsity=polynomial(sparsity, begin=begin, end=end, init=init),
        when=when,
        learning_rate=Piecewise(at=lowered, values=rates, warmup=warmup),
        weight_decay=Piecewise(at=(end,), values=(decay, 0.0)),
        stages=(
            Stage("stabilize", 0, begin, (0.0, 0.0), (rate,), decay),
            Stage("prune", begin, end, (init, sparsity), (rate,), decay),
            Stage("fine-tune", end, total, (sparsity, sparsity), rates, 0.0),
        ),
    )


def _number(value, name: str, *, above=-math.inf, least=-math.inf, below=math.inf) -> float:
    """A static number in its range."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} is not a static number; give a Python float.")
    if not (above < value < below and least <= value):
        lower = f"above {above:g}" if least == -math.inf else f"at least {least:g}"
        upper = "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name}={value!r} must be {lower} and {upper}.")
    return float(value)


def _at_most(value: int, name: str, most: int, stage: str) -> int:
    if value > most:
        raise ValueError(
            f"{name}={value} is more than the {stage} stage has room for; give at most {most}, or "
            f"a longer stage."
        )
    return value
