"""One line, one shot."""

from jaxprune import masks as _masks
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
    grads=None,
    cost=None,
):
    """Prunes params at once.

    Args:
      params: any pytree of arrays.
      sparsity: fraction of zeros among the prunable weights, 0 <= s < 1; it may be traced.
      score, pattern, scope, allocate, rules, min_sparsity, max_sparsity, grads, cost: as
        in `masks.make`.

    Returns:
      (params, masks): the params with exact zeros, and the masks that made them.

    Raises:
      TypeError, ValueError: as `masks.make`.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]])}
      >>> pruned, masks = jaxprune.prune_params(params, sparsity=0.5)
      >>> pruned["kernel"]
      Array([[ 0., -4.],
             [ 3.,  0.]], dtype=float32)
    """
    masks = _masks.make(
        params,
        sparsity,
        score=score,
        pattern=pattern,
        scope=scope,
        allocate=allocate,
        rules=rules,
        min_sparsity=min_sparsity,
        max_sparsity=max_sparsity,
        grads=grads,
        cost=cost,
    )
    return _masks.apply(params, masks), masks
