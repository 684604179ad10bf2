"""Powerpropagation: a reparametrisation under which small weights stay small."""

import math
from collections.abc import Callable

import jax.numpy as jnp

from jaxprune._checks import decimal, is_traced
from jaxprune._tree import flatten
from jaxprune.masks._targets import options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude


def _map(function: Callable, params, alpha, rules):
    if isinstance(alpha, bool) or is_traced(alpha) or not 1 <= decimal(alpha) < math.inf:
        raise ValueError(
            f"alpha={alpha!r} must be a static number from 1; the usual ones are 2 to 4."
        )
    chosen = options(magnitude, Unstructured(), "leaf", None, rules, None, None)
    setup, _ = resolve(params, chosen)
    _, leaves, structure = flatten(params)
    for target in setup.targets:
        leaves[target.index] = function(jnp.asarray(leaves[target.index]))
    return structure.unflatten(leaves)


def power(params, alpha: float, *, rules=()):
    """The weights that a model uses, of the parameters that are trained.

        w = v * |v|**(alpha - 1)

    The gradient of v carries a factor alpha * |v|**(alpha - 1), so that large weights learn and
    small ones stay small: more of them can go. Write `loss(power(params, alpha), batch)` where
    `loss(params, batch)` stood. v and w rank alike by magnitude, and are 0 together, so `prune`,
    `static` and `keep` are used as they are. For alpha above 1 a v of exactly 0 has no gradient and
    stays 0: weights that `rigl`, `set_` or `ac_dc` revive would never move.

    Args:
      params: any pytree, of v.
      alpha: from 1, where nothing changes; static. The paper takes 2 to 5.
      rules: `Rule`s by path; dense leaves are left alone, by default as in `prune`.

    Returns:
      A pytree as `params`.

    Raises:
      ValueError: alpha below 1; nothing is prunable.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.power({"kernel": jnp.array([[3.0, -2.0], [0.5, 0.0]])}, 2.0)["kernel"]
      Array([[ 9.  , -4.  ],
             [ 0.25,  0.  ]], dtype=float32)

    References:
      Schwarz et al., Powerpropagation: a sparsity inducing weight reparameterisation, arXiv
      2110.00296.
    """
    return _map(lambda v: _power(v, decimal(alpha)), params, alpha, rules)


def inverse_power(params, alpha: float, *, rules=()):
    """The parameters to train whose `power` is given: v = sign(w) * |w|**(1 / alpha).

    Use it once, on initial or pretrained weights.

    Args:
      params: any pytree, of w.
      alpha, rules: as in `power`.

    Returns:
      A pytree as `params`.

    Raises:
      ValueError: as in `power`.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.inverse_power({"kernel": jnp.array([[9.0, -4.0], [0.25, 0.0]])}, 2.0)["kernel"]
      Array([[ 3. , -2. ],
             [ 0.5,  0. ]], dtype=float32)
    """
    return _map(lambda w: jnp.sign(w) * jnp.abs(w) ** (1 / decimal(alpha)), params, alpha, rules)


def _power(v, alpha):
    if alpha == 1:
        return v
    # The size at 0 is kept out of the power, whose derivative would be infinite there below 2.
    size = jnp.where(v == 0, jnp.ones((), v.dtype), jnp.abs(v))
    return jnp.where(v == 0, jnp.zeros((), v.dtype), v * size ** (alpha - 1))
