"""Masks made: the highest scores of every leaf or scope."""

import jax.numpy as jnp

from jaxprune._checks import check_sparsity, is_traced
from jaxprune._tree import flatten
from jaxprune.masks._compute import compute
from jaxprune.masks._counts import count
from jaxprune.masks._targets import options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude


def make(
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
    grads=None,
    cost=None,
):
    """Masks that keep exactly the highest scores.

        kept units = round(units * (1 - sparsity)), of each leaf or of each scope

    Args:
      params: any pytree of arrays. What is dense, by a rule or by default, has the mask None.
      sparsity: fraction of zeros among the prunable weights, 0 <= s < 1; it may be traced.
      score: the criterion, a function of one leaf or a `scores.Criterion`.
      pattern: which weights live or die together.
      scope: what is ranked against what: "leaf", "global", or a function from a path to a label.
      allocate: how leaves that are ranked by themselves share the sparsity: a function such as
        `allocate.erdos_renyi`, or a mapping from paths (regular expressions) to sparsities.
        None: the same sparsity for each.
      rules: `Rule`s by path; the first match decides.
      min_sparsity, max_sparsity: bounds for every leaf, so that a ranking cannot empty one.
      grads: gradients, in the tree of `params`, for criteria that need them.
      cost: what each leaf costs when dense, such as its multiply-adds or bytes: a mapping from
        paths to numbers from 0. Then `sparsity` is the fraction of the cost that is removed, of
        each scope, which must not be "leaf"; leaves with a sparsity of their own are not part of
        it. Each unit of a leaf costs the same. The ranking stays as it is, and is kept up to the
        first unit that the budget, round(cost * (1 - sparsity)), cannot pay. Costs are counted in
        the greatest common divisor of those of single units, and are below 2**45 of it together.

    Returns:
      A pytree as `params`: bool arrays, True = keep, and None where a leaf is dense.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind, out of range, or does not fit the
        tree; the message names it and the leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]]), "bias": jnp.ones(2)}
      >>> jaxprune.masks.make(params, 0.75)
      {'bias': None, 'kernel': Array([[False,  True],
             [False, False]], dtype=bool)}
    """
    sparsity = check_sparsity(sparsity, "sparsity")
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity, cost)
    setup, _ = resolve(params, chosen)
    for target in setup.targets:
        check_reachable(target, sparsity)
        if "grad" in target.criterion.needs and grads is None:
            raise ValueError(
                f"the criterion for {target.path} needs gradients; pass "
                "grads=jax.grad(loss)(params)."
            )
    _, leaves, structure = flatten(params)
    if grads is not None:
        grads = structure.flatten_up_to(grads)
        grads = [grads[t.index] for t in setup.targets]
    counts = count(setup, chosen.allocate, sparsity)
    made = compute(setup, [jnp.asarray(leaves[t.index]) for t in setup.targets], grads, *counts)
    return place(setup, made, structure)


def check_reachable(target, sparsity, step=None):
    """A target that stops short of the pattern is a mistake: the weights would not have it.

    Args:
      target: what is pruned.
      sparsity: of what has none of its own, at the end.
      step: where schedules of single leaves end; None: where they say.
    """
    if target.sparsity is not None:
        sparsity = target.sparsity
        if callable(sparsity):
            end = getattr(sparsity, "end", None) if step is None else step
            sparsity = None if end is None else sparsity(end)
    first = target.pattern.first_units(target.shape)
    bound = target.max_sparsity if target.sparsity is None else None
    if first is not None and bound is not None and target.units * (1 - bound) > first:
        raise ValueError(
            f"max_sparsity={bound:g} keeps more than {target.pattern} allows in {target.path}; the "
            f"pattern needs {1 - first / target.units:g} or more."
        )
    if first is None or sparsity is None or is_traced(sparsity):
        return
    if round(target.units * (1 - sparsity)) > first:
        needed = 1 - first / target.units
        raise ValueError(
            f"sparsity={sparsity:g} keeps more than {target.pattern} allows in {target.path}; the "
            f"pattern needs a sparsity of at least {needed:g}."
        )


def place(setup, masks, structure):
    """The masks of the targets in the tree of the parameters."""
    leaves = [None] * structure.num_leaves
    for target, mask in zip(setup.targets, masks, strict=True):
        leaves[target.index] = mask
    return structure.unflatten(leaves)
