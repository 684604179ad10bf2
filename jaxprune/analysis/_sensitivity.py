"""What pruning one leaf alone costs: a metric over leaves and sparsities."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import _table
from jaxprune._checks import check_sparsity, is_traced
from jaxprune._tree import flatten
from jaxprune.analysis.plots._sensitivity import sensitivity as draw
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._make import make
from jaxprune.masks._measure import num_kept
from jaxprune.masks._targets import options
from jaxprune.masks._tied import check_untied
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude


@dataclasses.dataclass(frozen=True, eq=False)
class Sensitivity:
    """What `sensitivity` measured; `str` gives a table, `plot` a heat map.

    Attributes:
      paths: the leaves that were pruned, in the order of the tree.
      sparsities: the grid, ascending.
      values: float64 [leaves, sparsities]: the metric with that leaf alone at that sparsity.
      dense: the metric of the params as they are.
      kept: int64 [leaves, sparsities]: how many weights of the leaf its mask keeps.
    """

    paths: tuple[str, ...]
    sparsities: tuple[float, ...]
    values: np.ndarray
    dense: float
    kept: np.ndarray

    @property
    def curves(self) -> dict[str, dict[float, float]]:
        """Path -> {sparsity: metric}, from the dense metric at sparsity 0 upward."""
        return {
            path: {0.0: self.dense} | dict(zip(self.sparsities, row, strict=True))
            for path, row in zip(self.paths, self.values.tolist(), strict=True)
        }

    def __str__(self) -> str:
        """A table; raises ImportError without rich."""
        columns = ("leaf", *map(_percent, self.sparsities))
        rows = [
            (path, *map("{:#.5g}".format, row))
            for path, row in zip(self.paths, self.values, strict=True)
        ]
        text = _table.render("the table of a sensitivity", columns, rows)
        return f"{text}\ndense {self.dense:.5g}"

    def plot(self, path=None):
        """Draws a heat map: a row per leaf, a column per sparsity, the metric as colour.

        As `plots.sensitivity` does.

        Example:
          >>> import numpy as np
          >>> from jaxprune import analysis
          >>> found = analysis.Sensitivity(
          ...     ("w",), (0.5, 0.9), np.array([[2.0, 3.0]]), 1.5, np.array([[50, 10]])
          ... )
          >>> [label.get_text() for label in found.plot().axes[0].get_xticklabels()]
          ['50 %', '90 %']
        """
        return draw(self, path)


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.6g} %"


def sensitivity(
    metric,
    params,
    *,
    batches=None,
    sparsities=(0.5, 0.7, 0.8, 0.9, 0.95),
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    rules=(),
    grads=None,
    memory=None,
    progress=False,
) -> Sensitivity:
    """What pruning costs, leaf by leaf: each is pruned alone, at each sparsity, all others dense.

        values[i, j] = metric(params with leaf i at sparsities[j])

    Masks are those of `prune_params` with the same arguments. The metric is compiled once for all
    leaves and sparsities, which share one program: which leaf is pruned, and how far, is among its
    inputs. The masks of the whole grid take a byte per weight.

    Args:
      metric: `metric(params)`, or `metric(params, batch)` where there are batches, to a real
        scalar: a loss, an accuracy. It is compiled, so it must be a function of JAX. Arrays that
        it closes over become constants of the program; hand large ones over as batches.
      params: any pytree of arrays. Leaves that are no arrays reach the metric as they are.
      batches: an iterable of what the metric takes beside the params. It is read once, a batch at
        a time, and values are means over batches, each with the same weight. Every new shape of
        a batch compiles anew.
      sparsities: the grid, ascending, 0 <= s < 1.
      score, pattern, grads, memory: as in `masks.make`. Kept weights do not move.
      rules: `Rule`s by path: which leaves are prunable, their patterns and criteria. Sparsities
        and bounds in them do not count here: the grid says how far each leaf is pruned.
      progress: whether to show a bar on stderr, by tqdm.

    Returns:
      A `Sensitivity`; print it, plot it. A metric that is not finite is kept as it is.

    Raises:
      TypeError: the metric gives no real scalar, or an argument is of the wrong kind.
      ValueError: no sparsities, or they do not ascend; no batches; or as `masks.make`: nothing is
        prunable, a pattern needs more than the lowest sparsity, gradients are missing.
      ImportError: progress=True without tqdm.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import analysis
      >>> params = {"a": jnp.array([[4.0, 1.0], [1.0, 2.0]]), "b": jnp.full((2, 2), 3.0)}
      >>> found = analysis.sensitivity(
      ...     lambda p: jnp.sum(p["a"] @ p["b"]), params, sparsities=(0.5, 0.75)
      ... )
      >>> found.dense, found.paths
      (48.0, ('a', 'b'))
      >>> found.values
      array([[36., 24.],
             [30., 15.]])
      >>> found.curves["a"]
      {0.0: 48.0, 0.5: 36.0, 0.75: 24.0}

    References:
      Li et al. 2017, Pruning filters for efficient ConvNets, arXiv 1608.08710.
    """
    if not callable(metric):
        raise TypeError(f"metric={metric!r} is not a function; give one from params to a scalar.")
    grid = _checked_grid(sparsities)
    check_untied(pattern, "sensitivity")
    rules = [
        dataclasses.replace(rule, sparsity=None, min_sparsity=None, max_sparsity=None)
        for rule in options(score, pattern, "leaf", None, rules, None, None).rules
    ]
    paths: list[str] = []
    levels, kept = None, []
    for sparsity in grid:
        made = make(
            params,
            sparsity,
            score=score,
            pattern=pattern,
            rules=rules,
            grads=grads,
            memory=memory,
        )
        paths = [path for path, mask in flatten_masks(made).items() if mask is not None]
        masks = jax.tree.leaves(made)
        levels = _raised(levels, masks, np.min_scalar_type(len(grid)))
        kept.append([num_kept(mask) for mask in masks])
    found = _evaluate(metric, params, paths, levels, len(grid), batches, progress)
    return Sensitivity(
        tuple(paths),
        grid,
        np.reshape(found[1:], (len(paths), len(grid))),
        found[0],
        np.array(kept, np.int64).T,
    )


def _checked_grid(sparsities) -> tuple[float, ...]:
    if isinstance(sparsities, str) or not np.iterable(sparsities):
        raise TypeError(f"sparsities={sparsities!r} is no sequence; give one such as (0.5, 0.9).")
    grid = tuple(check_sparsity(s, "sparsities") for s in sparsities)
    if any(map(is_traced, grid)):
        raise TypeError("sparsities are traced, but the scan runs on the host; pass Python floats.")
    if not grid or list(grid) != sorted(set(grid)):
        raise ValueError(
            f"sparsities={grid} must hold one sparsity or more, ascending and each once; for "
            f"example {tuple(sorted(set(grid))) or (0.5, 0.9)}."
        )
    return grid


@functools.partial(jax.jit, static_argnums=2)
def _raised(levels, masks, dtype):
    """How many masks kept each weight so far.

    The masks of a leaf cut one ranking, so what is kept at a sparsity is kept at every lower one:
    mask j is where more than j kept the weight.
    """
    found = [mask.astype(dtype) for mask in masks]
    return found if levels is None else [a + b for a, b in zip(levels, found, strict=True)]


def _evaluate(metric, params, paths, levels, num_sparsities, batches, progress) -> list[float]:
    """The metric of the dense params, then of each leaf at each sparsity: means over batches."""
    all_paths, leaves, structure = flatten(params)
    targets = [all_paths.index(path) for path in paths]
    kinds = jax.Array | np.ndarray | np.generic
    arrays = {i: jax.device_put(x) for i, x in enumerate(leaves) if isinstance(x, kinds)}

    @jax.jit
    def evaluate(arrays, levels, least, *batch):
        whole = [arrays.get(i, leaf) for i, leaf in enumerate(leaves)]
        for i, level, reached in zip(targets, levels, least, strict=True):
            whole[i] = jnp.where(level >= reached, whole[i], jnp.zeros((), whole[i].dtype))
        return _checked_scalar(metric(structure.unflatten(whole), *batch))

    # The level that weights must reach, per leaf: 0 keeps a leaf dense.
    runs = np.zeros((1 + len(targets) * num_sparsities, len(targets)), levels[0].dtype)
    for i, (leaf, level) in enumerate(np.ndindex(len(targets), num_sparsities), 1):
        runs[i, leaf] = level + 1
    totals, count = [0.0] * len(runs), 0
    length = 1 if batches is None else getattr(batches, "__len__", lambda: None)()
    with _bar(progress, length and length * len(runs)) as advance:
        for batch in [()] if batches is None else ((batch,) for batch in batches):
            batch = jax.device_put(batch)
            for i, least in enumerate(runs):
                totals[i] += float(evaluate(arrays, levels, least, *batch))
                advance()
            count += 1
    if not count:
        raise ValueError(
            "batches is empty; give one batch or more. An iterator can be read once only."
        )
    return [total / count for total in totals]


def _checked_scalar(value):
    is_number = isinstance(value, jax.Array | np.ndarray | np.generic | int | float)
    if not is_number or jnp.shape(value) != () or jnp.iscomplexobj(value):
        what = jax.typeof(value) if is_number else type(value).__name__
        raise TypeError(f"metric gave {what}; it must give one real number, such as a mean loss.")
    return value


@contextlib.contextmanager
def _bar(shown, total):
    """Gives a function to call after each evaluation."""
    if not shown:
        yield lambda: None
        return
    with _table.tqdm("progress=True")(total=total, desc="sensitivity") as bar:
        yield bar.update
