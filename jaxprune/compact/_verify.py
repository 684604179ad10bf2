"""Whether a model that was cut computes what the masked one does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._tree import flatten, replaced
from jaxprune.compact._keep import take
from jaxprune.compact._plan import Plan
from jaxprune.masks import apply

_SMALL = 1e-3


@dataclasses.dataclass(frozen=True)
class Verified:
    """The largest differences between cut and masked, relative to the largest value.

    Attributes:
      forward: of the results.
      gradient: of the derivatives of a random combination of the results by the weights.
    """

    forward: float
    gradient: float


def verify(
    plan: Plan, params, *args, key, tolerance: float | None = 1e-4, gradients: bool = True
) -> Verified:
    """Runs the model that was traced, masked and cut, and compares results and derivatives.

        error = max |cut - masked| / max |masked|,   of each array; the largest of all

    Derivatives of an array that are below 1e-3 of the largest of all count as that large: some, as
    of the bias of keys in attention, are 0 but for rounding.

    Args:
      plan: what is kept.
      params: a tree as was traced, with values; they are masked here.
      *args: what apply takes beside it.
      key: PRNG key for the combination of results.
      gradients: whether to compare derivatives as well; some loops have none.
      tolerance: largest error that is no mistake; None: none is. In bfloat16 1e-2 is usual.

    Returns:
      The errors.

    Raises:
      ValueError: an error is above the tolerance: removed parts are not 0 where they count, as in
        groups that are flagged, or the arithmetic is coarse.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxprune import compact
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["up"]) @ params["down"]
      >>> params = {"up": jnp.ones((3, 4)), "down": jnp.ones((4, 2))}
      >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 3)))
      >>> plan = compact.plan(groups, params, sparsity=0.5, multiple=1)
      >>> compact.verify(plan, params, jnp.ones((5, 3)), key=jax.random.key(0)).forward < 1e-6
      True
    """
    masked = apply(params, plan.masks())
    weights = {leaf.path for leaf in plan.groups.leaves if leaf.weight}
    weights = weights if gradients else set()
    results, derivatives = _values(plan.groups.apply, masked, args, key, weights)
    cut_results, cut_gradients = _values(plan.apply, plan.cut(masked), args, key, weights)
    expected = {path: take(x, plan._vectors[path]) for path, x in derivatives.items()}
    forward = _largest(map(_error, cut_results, results))
    floor = _SMALL * _largest(np.abs(x).max(initial=0) for x in expected.values())
    gradient = _largest(_error(x, expected[path], floor) for path, x in cut_gradients.items())
    if tolerance is not None and not max(forward, gradient) <= tolerance:
        raise ValueError(
            f"cut and masked differ by {forward:.1e} in results and {gradient:.1e} in derivatives, "
            f"relative to the largest; tolerance={tolerance:g}. Flags of the groups say what runs "
            "across removed parts."
        )
    return Verified(forward, gradient)


def _values(function, tree, args, key, weights):
    """The floating results, and path -> derivatives of a random combination of them."""
    paths, leaves, structure = flatten(tree)
    moving = {path: x for path, x in zip(paths, leaves, strict=True) if path in weights}

    def combined(moving):
        made = function(replaced(structure, paths, leaves, moving), *args)
        results = [x for x in jax.tree.leaves(made) if jnp.issubdtype(x.dtype, jnp.floating)]
        keys = jax.random.split(key, max(1, len(results)))
        parts = (
            jnp.vdot(x.astype(jnp.float32), jax.random.normal(k, x.shape))
            for k, x in zip(keys, results, strict=False)
        )
        return sum(parts, jnp.zeros(())), results

    if not moving:
        return jax.jit(combined)(moving)[1], {}
    (_, results), gradients = jax.jit(jax.value_and_grad(combined, has_aux=True))(moving)
    return results, gradients


def _largest(errors) -> float:
    return float(np.max([0.0, *errors]))  # NaN, if there is one


def _error(found, expected, floor=0.0) -> float:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    largest = max(np.abs(expected).max(initial=0.0), floor)
    difference = np.abs(found - expected).max(initial=0.0)
    return float(difference / largest) if largest else float(difference)
