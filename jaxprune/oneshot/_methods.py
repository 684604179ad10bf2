"""Methods of one-shot pruning, for `prune_model`."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxprune.oneshot import cores
from jaxprune.oneshot._statistics import Need


class Problem(NamedTuple):
    """One matrix that is to be pruned.

    Attributes:
      W: trained weights [inputs, outputs], float32.
      goal: the weights that make the output best without any zeros, on the inputs as they are; W
        where these are those of the dense network.
      squares: sum of squares of each input, [inputs].
      H: X^T X with damping, [inputs, inputs]; None where the method needs squares alone.
    """

    W: jax.Array
    goal: jax.Array
    squares: jax.Array
    H: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Method:
    """How one matrix is pruned.

    Args:
      solve: (problem, keep, cut, **options) -> (weights, mask), both [inputs, outputs]: a function
        that can be compiled and mapped over problems. How many units are kept is an integer that
        is traced; `cut` says what a unit is. Weights where the mask is False do not count.
      options: pairs of a name and a hashable value.
      needs: "squares" or "gram": what of the inputs is collected.
      damp: share of the mean diagonal of X^T X that is added to its diagonal. Where that is too
        little to solve with, `prune_model` takes ten times as much, and says so.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import oneshot
      >>> def by_output(problem, keep, cut):
      ...     scores = jnp.abs(problem.W) * problem.squares[:, None]
      ...     return problem.W, oneshot.cores.choose_per_output(scores, keep, cut)
      >>> method = oneshot.Method(by_output, needs="squares")
    """

    solve: Callable[..., Any]
    options: tuple[tuple[str, Any], ...] = ()
    needs: Need = "gram"
    damp: float = 0.01

    def __post_init__(self):
        if not callable(self.solve):
            raise TypeError(f"Method: solve={self.solve!r} must be a function.")
        if self.needs not in ("squares", "gram"):
            raise ValueError(f'Method: needs={self.needs!r} must be "squares" or "gram".')
        if isinstance(self.damp, bool) or not isinstance(self.damp, int | float):
            raise TypeError(f"Method: damp={self.damp!r} must be a number.")
        if not 0 <= self.damp < float("inf"):
            raise ValueError(f"Method: damp={self.damp!r} must be 0 or more, and finite.")


def magnitude(*, refit: bool = False, damp: float = 0.01) -> Method:
    """The weights of least magnitude go: the control that looks at no data.

    Args:
      refit: whether kept weights are solved anew, as by `cores.refit`.
      damp: see `Method`; without refit it has no part.
    """
    return Method(_magnitude, (("refit", refit),), "gram" if refit else "squares", damp)


def wanda(*, refit: bool = False, damp: float = 0.01) -> Method:
    """The least |w| * ||x|| go, as many of each output: see `cores.wanda`.

    Args:
      refit: whether kept weights are solved anew, as by `cores.refit`; the paper leaves them.
      damp: see `Method`; without refit it has no part.

    References:
      Sun et al., A simple and effective pruning approach for LLMs (Wanda), arXiv 2306.11695.
    """
    return Method(_wanda, (("refit", refit),), "gram" if refit else "squares", damp)


def sparsegpt(*, block: int = 128, refit: bool = False, damp: float = 0.01) -> Method:
    """Inputs are pruned block by block, later weights make up for it: see `cores.sparsegpt`.

    Args:
      block: how many inputs are chosen among at once.
      refit: whether kept weights are solved anew at the end, as by `cores.refit`.
      damp: see `Method`.

    References:
      Frantar and Alistarh, SparseGPT, arXiv 2301.00774.
    """
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise ValueError(f"sparsegpt: block={block!r} must be a whole number of at least 1.")
    return Method(_sparsegpt, (("block", block), ("refit", refit)), "gram", damp)


def obc(*, damp: float = 0.01) -> Method:
    """One weight at a time, always the one that costs least: see `cores.obc`, for small layers.

    Args:
      damp: see `Method`.

    References:
      Frantar et al., Optimal brain compression, arXiv 2208.11580.
    """
    return Method(_obc, (), "gram", damp)


def alps(*, damp: float = 0.01) -> Method:
    """Which weights stay is found by ADMM, what they are by least squares: see `cores.alps`.

    Args:
      damp: see `Method`.

    References:
      Meng et al., ALPS: improved optimization for highly sparse one-shot pruning, arXiv 2406.07831.
    """
    return Method(_alps, (), "gram", damp)


def _refitted(problem, mask, refit):
    if not refit:
        return problem.W, mask
    return cores.refit(problem.goal, problem.H, mask), mask


def _magnitude(problem, keep, cut, *, refit):
    return _refitted(problem, cores.magnitude(problem.W, keep, cut), refit)


def _wanda(problem, keep, cut, *, refit):
    return _refitted(problem, cores.wanda(problem.W, problem.squares, keep, cut), refit)


def _sparsegpt(problem, keep, cut, *, block, refit):
    dead = problem.squares == 0
    found, mask = cores.sparsegpt(problem.goal, problem.H, keep, cut, block=block, dead=dead)
    if refit:
        found = cores.refit(problem.goal, problem.H, mask, start=found)
    return found, mask


def _obc(problem, keep, cut):
    return cores.obc(problem.goal, problem.H, keep, cut)


def _alps(problem, keep, cut):
    return cores.alps(problem.goal, problem.H, keep, cut)
