"""Statistics of the inputs of every layer of a model, whatever library it is written in."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import _table
from jaxprune._tree import flatten
from jaxprune.allocate import outlier_share
from jaxprune.masks._targets import options, resolve
from jaxprune.oneshot import _cuts, _statistics, _views
from jaxprune.oneshot._layers import Source, find_layers
from jaxprune.oneshot._march import March, listed
from jaxprune.oneshot._statistics import Need, Statistics
from jaxprune.oneshot._views import Matrix
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude


@dataclasses.dataclass(frozen=True)
class CapturedLayer:
    """A layer, and what its inputs are.

    Attributes:
      name: path of the leaf; with a number behind it where the leaf holds several matrices.
      path: of the leaf.
      shape: (matrices, inputs, outputs).
      statistics: of its inputs.
      matrix: which weights of the leaf they are.
      leaf_shape: of the leaf.
    """

    name: str
    path: str
    shape: tuple[int, int, int]
    statistics: Statistics
    matrix: Matrix
    leaf_shape: tuple[int, ...]

    def weights(self, params) -> jax.Array:
        """The weights of this layer in a tree of the same shapes, [matrices, inputs, outputs].

        Raises:
          ValueError: the tree has no such leaf, or one of another shape.
        """
        paths, leaves, _ = flatten(params)
        leaf = leaves[paths.index(self.path)] if self.path in paths else None
        if getattr(leaf, "shape", None) != self.leaf_shape:
            raise ValueError(
                f"params have no leaf {self.path!r} of shape {self.leaf_shape}, as was captured; "
                "hand over the params that were captured, or later ones of the same model."
            )
        flat = np.asarray(leaf).reshape(-1)
        return jnp.asarray(np.array(_views.strided(flat, self.matrix)).reshape(self.shape))


@dataclasses.dataclass(frozen=True)
class Captured:
    """What `capture` makes.

    Attributes:
      layers: in the order in which data meets them.
      missed: pairs of a path and a reason: leaves whose inputs could not be captured.
    """

    layers: tuple[CapturedLayer, ...]
    missed: tuple[tuple[str, str], ...]

    def merge(self, other: "Captured") -> "Captured":
        """Statistics of both data sets together: those of one model add up.

        Raises:
          ValueError: they are of other layers, or of other needs.
        """
        mine, others = ([(x.name, x.shape, x.matrix) for x in c.layers] for c in (self, other))
        if mine != others:
            raise ValueError("these were captured of other layers; merge what one model made.")
        layers = []
        for a, b in zip(self.layers, other.layers, strict=True):
            if (a.statistics.gram is None) != (b.statistics.gram is None):
                raise ValueError(f"of {a.name} one has X^T X and the other has not.")
            sums = jax.tree.map(jnp.add, a.statistics, b.statistics)
            layers.append(dataclasses.replace(a, statistics=sums))
        return Captured(tuple(layers), self.missed)


def capture(apply, params, batches, *, needs: Need = "squares", rules=(), progress=False):
    """Sums of squares of each layer's inputs, or X^T X, over batches, in one run of the model.

        squares_j = sum over rows of X_j^2        gram = X^T X

    Args:
      apply, params, batches: as in `prune_model`.
      needs: "squares" or "gram". All of them are held at once: a gram takes 4 * inputs^2 bytes.
      rules: `Rule`s that say which leaves are dense, and so not captured.
      progress: whether to show a bar over batches; it needs tqdm.

    Returns:
      `Captured`: float32 sums over all rows of all batches, for each product of data with a leaf.
      Batches that are cut over devices are summed over them. Leaves without such a product are in
      `missed`, with the reason.

    Raises:
      TypeError, ValueError: as `prune_model`.
      ImportError: progress=True without tqdm.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import oneshot
      >>> params = {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
      >>> apply = lambda params, x: x @ params["kernel"] + params["bias"][None]
      >>> seen = oneshot.capture(apply, params, [jnp.array([[3.0, 0.0], [4.0, 1.0]])])
      >>> seen.layers[0].name, seen.layers[0].statistics.squares.tolist()
      ('kernel', [[25.0, 1.0]])

    References:
      Sun et al., A simple and effective pruning approach for LLMs (Wanda), arXiv 2306.11695.
    """
    if needs not in ("squares", "gram"):
        raise ValueError(f'needs={needs!r} must be "squares" or "gram".')
    chosen = options(magnitude, Unstructured(), "leaf", None, rules, None, None)
    setup, _ = resolve(params, chosen)
    march = March(apply, params, listed(batches), _cuts.orders(setup))
    layers, missed = find_layers(setup, march)
    leaves = flatten(params)[1]
    sums: dict[Source, Statistics] = {}
    sources = list(dict.fromkeys(source for layer in layers for source in layer.sources))
    numbers = range(len(march))
    for number in _table.tqdm("a progress bar")(numbers, unit="batch") if progress else numbers:
        known = march.start(number)
        for depth in range(march.depths):
            known = march.advance(depth, number, known, leaves)
            for source in sources:
                if source.depth == depth:
                    if source not in sums:
                        sums[source] = _statistics.zeros(source.rows, needs, False)
                    x, rows = march.look(number, known, source.value, source.rows)
                    name = next(layer.name for layer in layers if source in layer.sources)
                    sums[source] = _statistics.add_checked(
                        sums[source], x, None, rows, name, number
                    )
    found = []
    for layer in layers:
        each = [sums[source] for source in layer.sources]
        total = jax.tree.map(lambda *x: sum(x[1:], start=x[0]), *each)
        target, matrix = layer.target, layer.matrix
        found.append(
            CapturedLayer(layer.name, target.path, matrix.shape, total, matrix, target.shape)
        )
    return Captured(tuple(found), tuple(missed.items()))


def wanda_scores(params, captured: Captured):
    """|w| times the norm of the input that it meets, for every weight of every captured leaf.

        score = |W_ij| * ||X_i||_2

    For `scores.given`, which ranks them in any scope and pattern, and for `outlier_shares`. The
    ranking of the paper, per output, is that of `prune_model(method=oneshot.wanda())`.

    Args:
      params: the tree of which `captured` was made, or one of the same shapes.
      captured: what `capture` made.

    Returns:
      A tree as `params`: float32 arrays, None for leaves that were not captured.

    Raises:
      ValueError: params have no such leaf, or one of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import oneshot
      >>> params = {"kernel": jnp.array([[1.0, -2.0], [4.0, 3.0]])}
      >>> seen = oneshot.capture(lambda p, x: x @ p["kernel"], params, [jnp.array([[5.0, 1.0]])])
      >>> oneshot.wanda_scores(params, seen)["kernel"].tolist()
      [[5.0, 10.0], [4.0, 3.0]]

    References:
      Sun et al., A simple and effective pruning approach for LLMs (Wanda), arXiv 2306.11695.
    """
    paths, leaves, structure = flatten(params)
    found: dict[str, np.ndarray] = {}
    for layer in captured.layers:
        norms = np.sqrt(np.asarray(layer.statistics.squares))[..., None]
        sizes = np.abs(np.asarray(layer.weights(params), np.float32))
        size = math.prod(layer.leaf_shape)
        scores = found.setdefault(layer.path, np.zeros(size, np.float32))
        part = _views.strided(scores, layer.matrix)
        part[...] = (sizes * norms).reshape(part.shape)
    shaped = [
        jnp.asarray(found[path].reshape(leaf.shape)) if path in found else None
        for path, leaf in zip(paths, leaves, strict=True)
    ]
    return structure.unflatten(shaped)


def outlier_shares(params, captured: Captured, *, multiple: float = 5.0) -> dict[str, float]:
    """The share of outliers among the Wanda scores of each captured leaf, for `allocate.owl`.

    Args:
      params, captured: as in `wanda_scores`.
      multiple: how many times the mean of its leaf an outlier exceeds; the paper takes 3 to 10.

    Returns:
      Path -> share in [0, 1], as `allocate.outlier_share` counts it.

    Raises:
      TypeError, ValueError: as `wanda_scores` and `allocate.outlier_share`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import allocate, oneshot
      >>> params = {"a": jnp.ones((4, 4)), "b": jnp.ones((4, 4)).at[0, 0].set(99.0)}
      >>> apply = lambda params, x: x @ params["a"] @ params["b"]
      >>> x = [jnp.ones((8, 4))]
      >>> shares = oneshot.outlier_shares(params, oneshot.capture(apply, params, x))
      >>> shares
      {'a': 0.0, 'b': 0.0625}
      >>> pruned, masks, report = oneshot.prune_model(
      ...     apply, params, x, sparsity=0.5, allocate=allocate.owl(shares)
      ... )
      >>> [f"{layer.sparsity:.4f}" for layer in report.layers]
      ['0.5625', '0.4375']

    References:
      Yin et al. 2023, Outlier weighed layerwise sparsity (OWL), arXiv 2310.05175.
    """
    paths, scores, _ = flatten(wanda_scores(params, captured))
    return {path: outlier_share(x, multiple) for path, x in zip(paths, scores, strict=True)}
