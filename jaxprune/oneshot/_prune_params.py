"""One line, one shot; or a few."""

from collections.abc import Iterator

import jax.numpy as jnp

from jaxprune._checks import check_sparsity
from jaxprune._tree import flatten
from jaxprune.masks import apply
from jaxprune.masks._make import make_given
from jaxprune.masks._targets import options, resolve
from jaxprune.oneshot._collect import Collected, Stream
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude


def prune_params(
    params,
    sparsity,
    *,
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
    cost=None,
    grads=None,
    memory=None,
    loss=None,
    batches=None,
    per_example=False,
    rounds=1,
    progress=False,
):
    """Prunes params at once, or in rounds.

        round r of n prunes to 1 - (1 - sparsity)**(r / n), each time scored anew

    Args:
      params: any pytree of arrays.
      sparsity: fraction of zeros among the prunable weights, 0 <= s < 1; it may be traced.
      score, pattern, scope, allocate, rules, min_sparsity, max_sparsity, cost: as in `masks.make`.
      grads, memory: what criteria need, as in `masks.make`; or give loss and batches.
      loss: `loss(params, batch) -> scalar`. Criteria take from it what they need, in every round;
        those that need nothing do not call it.
      batches: an iterable of batches, which count alike; one that can be read again (a list) for
        several rounds.
      per_example: as in `oneshot.collect`.
      rounds: in how many steps, at least 1, the density falls by the same factor. What is pruned
        in a round stays pruned.
      progress: whether to show a bar over the batches; it needs tqdm.

    Returns:
      (params, masks): the params with exact zeros, and the masks that made them. Criteria that move
      the kept weights to make up for the others, such as `scores.obs`, have moved them.

    Raises:
      TypeError, ValueError: as `masks.make` and `oneshot.collect`.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]])}
      >>> pruned, masks = jaxprune.prune_params(params, sparsity=0.5)
      >>> pruned["kernel"]
      Array([[ 0., -4.],
             [ 3.,  0.]], dtype=float32)
    """
    sparsity = check_sparsity(sparsity, "sparsity")
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity, cost)
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"rounds={rounds!r} must be a whole number of at least 1.")
    setup, _ = resolve(params, chosen)
    stream = None
    if loss is None and batches is not None:
        raise ValueError("batches is given without a loss; pass loss=, loss(params, batch).")
    if any(t.criterion.needs_grads for t in setup.targets):
        if loss is not None and not (grads is None and memory is None):
            name = "grads" if memory is None else "memory"
            raise ValueError(f"{name} and loss are both given; leave one out.")
        if loss is not None:
            if rounds > 1 and isinstance(batches, Iterator):
                raise TypeError(
                    f"rounds={rounds} read the batches again, and batches is an iterator that can "
                    "be read once; pass a list."
                )
            stream = Stream(setup, params, loss, batches, per_example, progress)
        elif rounds > 1:
            raise ValueError(
                f"rounds={rounds}, and each needs gradients of its own; pass loss= and batches=."
            )
    masks = None
    for r in range(1, rounds + 1):
        part = sparsity if r == rounds else 1 - (1 - sparsity) ** (r / rounds)
        seen = Collected(grads, memory) if stream is None else stream(params)
        masks = make_given(
            params, part, chosen, seen.grads, seen.memory, alive=masks, final=sparsity
        )
        params = _moved(setup, apply(params, masks), params, masks, seen.memory)
    return params, masks


def _moved(setup, pruned, params, masks, memory):
    """Pruned params, with kept weights moved where the criterion says so."""
    movers = [t for t in setup.targets if t.criterion.compensate is not None]
    if not movers:
        return pruned
    _, before, structure = flatten(params)
    after = structure.flatten_up_to(pruned)
    masks, memory = structure.flatten_up_to(masks), structure.flatten_up_to(memory)
    for t in movers:
        i, w = t.index, jnp.asarray(before[t.index])
        moved = t.criterion.compensate(w, masks[i], memory[i]).astype(w.dtype)
        after[i] = jnp.where(masks[i], moved, jnp.zeros((), w.dtype))
    return structure.unflatten(after)
