"""Stages of a whole run: schedules of sparsity, learning rate and weight decay that go together.

Example:
  >>> import optax
  >>> import jaxprune
  >>> recipe = jaxprune.recipes.gmp(100_000, sparsity=0.9, weight_decay=1e-4)
  >>> tx = jaxprune.prune(
  ...     optax.adamw(recipe.learning_rate, weight_decay=recipe.weight_decay),
  ...     sparsity=recipe.sparsity,
  ...     when=recipe.when,
  ... )
"""

from jaxprune.recipes._gmp import gmp as gmp
from jaxprune.recipes._recipe import Piecewise as Piecewise
from jaxprune.recipes._recipe import Recipe as Recipe
from jaxprune.recipes._recipe import Stage as Stage

__all__ = ["Piecewise", "Recipe", "Stage", "gmp"]
