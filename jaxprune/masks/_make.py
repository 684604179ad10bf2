"""Masks made: the highest scores of every leaf or scope."""

import jax
import jax.numpy as jnp

from jaxprune._checks import check_sparsity, is_traced
from jaxprune._tree import flatten
from jaxprune.masks._compute import Given, compute, params_needed
from jaxprune.masks._counts import count
from jaxprune.masks._setup import Options
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
    cost=None,
    grads=None,
    memory=None,
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
      cost: what each leaf costs when dense, such as its multiply-adds or bytes: a mapping from
        paths to numbers from 0. Then `sparsity` is the fraction of the cost that is removed, of
        each scope, which must not be "leaf"; leaves with a sparsity of their own are not part of
        it. Each unit of a leaf costs the same. The ranking stays as it is, and is kept up to the
        first unit that the budget, round(cost * (1 - sparsity)), cannot pay; if that is the best of
        all, nothing is kept. Costs are counted in the greatest common divisor of those of single
        units, and are below 2**45 of it together.
      grads: gradients, in the tree of `params`, for criteria that need them.
      memory: what criteria remember, in the tree of `params`, for those with a memory;
        `oneshot.collect` makes both from a loss and batches.

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
    return make_given(params, sparsity, chosen, grads, memory)


def make_given(params, sparsity, chosen: Options, grads, memory, *, alive=None, final=None):
    """`make` after its options were checked.

    Args:
      params, sparsity, grads, memory: as in `make`.
      chosen: the other arguments.
      alive: a tree of masks; other weights rank below all of these.
      final: what rounds of pruning lead to, of which this may be an earlier one; None: `sparsity`.
    """
    final = sparsity if final is None else final
    setup, _ = resolve(params, chosen)
    _, leaves, structure = flatten(params)
    for target in setup.targets:
        check_reachable(target, final)
    given = given_to(setup, params, grads, memory, alive)
    progress = 1.0 if final is sparsity else progress_of(sparsity, final)
    counts = count(setup, chosen.allocate, sparsity, progress=progress)
    arrays = [jnp.asarray(x) for x in _of_targets(setup, leaves)]
    return place(setup, compute(setup, arrays, given, *counts), structure)


def given_to(setup, params, grads, memory, alive=None) -> Given:
    """What criteria may need, of the targets of trees like `params`, checked."""
    paths, leaves, structure = flatten(params)
    given = Given(
        params_needed(setup, paths, leaves),
        None if grads is None else _of_targets(setup, structure.flatten_up_to(grads)),
        None if memory is None else _of_targets(setup, structure.flatten_up_to(memory)),
        None if alive is None else _of_targets(setup, structure.flatten_up_to(alive)),
    )
    _check_given(setup, given)
    return given


def progress_of(value, final):
    """How far along a schedule is, from 0 to 1; also for one that falls, or ends at 0."""
    if is_traced(value) or is_traced(final):
        return jnp.where(final > 0, jnp.clip(value / jnp.where(final > 0, final, 1), 0, 1), 1)
    return min(max(value / final, 0.0), 1.0) if final > 0 else 1.0


def _of_targets(setup, leaves):
    return [leaves[t.index] for t in setup.targets]


def _check_given(setup, given: Given):
    """Criteria have what they need, and no NaN or inf in it that masks would suffer from."""
    for i, target in enumerate(setup.targets):
        context = given.context(i)
        grad, memory = context["grad"], context["memory"]
        if "grad" in target.criterion.needs and grad is None:
            raise ValueError(
                f"the criterion for {target.path} needs gradients; pass "
                "grads=jax.grad(loss)(params), or to prune_params loss= and batches=."
            )
        if "memory" in target.criterion.needs and memory is None:
            raise ValueError(
                f"the criterion for {target.path} remembers gradients; pass memory= from "
                "jaxprune.oneshot.collect, or to prune_params loss= and batches=."
            )
        if "grad" in target.criterion.needs and jnp.shape(grad) != target.shape:
            raise ValueError(
                f"the gradient of {target.path} has shape {jnp.shape(grad)}, the leaf "
                f"{target.shape}; grads has the tree and the shapes of params."
            )
        known = "grad" in target.criterion.needs and not is_traced(grad)
        if known and not _all_finite(grad):
            raise ValueError(
                f"the gradient of {target.path} has NaN or infinite elements, which rank nothing; "
                "leave out the batch that they come from."
            )


def _all_finite(x):
    """Of a known array, at once also where the call is being traced."""
    with jax.ensure_compile_time_eval():
        return bool(jnp.isfinite(x).all())


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
