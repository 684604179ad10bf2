"""The march through a model that prunes each layer when all its inputs have been seen."""

import functools
import time
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import _table
from jaxprune._tree import flatten
from jaxprune.oneshot import _cuts, _statistics, _views, cores
from jaxprune.oneshot._condition import condition
from jaxprune.oneshot._layers import Layer, Source
from jaxprune.oneshot._march import March
from jaxprune.oneshot._methods import Method, Problem
from jaxprune.oneshot._report import LayerReport
from jaxprune.oneshot._statistics import Errors, Statistics

Inputs = tuple[Source, ...]

_TRIES = 6  # with ten times the damping each, before a matrix is given up


class Run:
    """One march through the model.

    Args:
      params, march, layers: what is pruned.
      kept: index of a leaf -> units that it keeps.
      method: how.
      sequential: whether later layers see the pruned ones.
      twins: whether the dense network is run beside it.
    """

    def __init__(
        self,
        params,
        march: March,
        layers: Sequence[Layer],
        kept: Mapping[int, int],
        method: Method,
        sequential: bool,
        twins: bool,
    ):
        self.march, self.layers, self.kept, self.method = march, layers, kept, method
        self.sequential, self.twins = sequential, twins
        self.cuts = {layer: _cuts.cut_of(layer) for layer in layers}
        paths, self.dense, self.structure = flatten(params)
        indices = sorted({layer.target.index for layer in layers})
        for i in indices:
            if not getattr(self.dense[i], "is_fully_addressable", True):
                raise ValueError(
                    f"{paths[i]} lies on devices of other processes; prune_model solves on one. "
                    "Gather the params first."
                )
        self.now, self.changed = list(self.dense), False
        self.weights = {i: np.array(self.dense[i]).reshape(-1) for i in indices}
        self.masks = {i: np.ones(w.shape, bool) for i, w in self.weights.items()}

    def __call__(self, progress: bool) -> list[LayerReport]:
        """Prunes all layers."""
        bar = _table.tqdm("a progress bar")(total=len(self.layers)) if progress else None
        reports: list[LayerReport] = []
        unfinished: dict[Inputs, Statistics] = {}  # of inputs that later depths add to
        live, dense = self._start()
        for depth in range(self.march.depths):
            live, dense = self._advance(depth, live, dense)
            done = [layer for layer in self.layers if layer.depth == depth]
            for inputs in self._seen(depth):
                sums = self._collect(depth, inputs, live, dense, unfinished.pop(inputs, None))
                of_these = [layer for layer in done if layer.sources == inputs]
                if not of_these:
                    unfinished[inputs] = sums
                for layer in of_these:
                    reports.append(self._prune(layer, sums, live, dense))
                    if bar is not None:
                        bar.set_description(layer.name)
                        bar.update()
            if self.sequential and done:
                self._refresh({layer.target.index for layer in done})
                if any(layer.also or layer.sources[0].depth < depth for layer in done):
                    live, dense, unfinished = self._again(depth, unfinished)
        if bar is not None:
            bar.close()
        return reports

    def result(self):
        """(params, masks) as they are now."""
        leaves, masks = list(self.dense), [None] * len(self.dense)
        for i, weights in self.weights.items():
            leaf = self.dense[i]
            leaves[i] = _put(weights.reshape(leaf.shape), leaf)
            masks[i] = _put(self.masks[i].reshape(leaf.shape), leaf)
        return self.structure.unflatten(leaves), self.structure.unflatten(masks)

    def _again(self, depth, unfinished):
        """Values and sums up to a depth, where what came before it read leaves pruned since."""
        live, dense = self._start()
        sums: dict[Inputs, Statistics] = {}
        for earlier in range(depth + 1):
            live, dense = self._advance(earlier, live, dense)
            for inputs in self._seen(earlier):
                if inputs in unfinished:
                    sums[inputs] = self._collect(earlier, inputs, live, dense, sums.get(inputs))
        return live, dense, sums

    def _start(self):
        """(values of all batches in the network as it is, in the dense one) before all."""
        live = [self.march.start(number) for number in range(len(self.march))]
        return live, live if self.twins else None

    def _advance(self, depth, live, dense):
        """The same after the piece of one depth."""
        pruned = self._piece(depth, live, self.now)
        if dense is None:
            return pruned, None
        # Of the first piece every twin is the same, unless it reads what has been pruned since.
        same = dense is live and not self.changed
        return pruned, pruned if same else self._piece(depth, dense, self.dense)

    def _piece(self, depth, known, leaves):
        return [self.march.advance(depth, i, x, leaves) for i, x in enumerate(known)]

    def _refresh(self, indices):
        """Hands the pruned leaves to what runs from here on."""
        self.changed = True
        for i in indices:
            self.now[i] = _put(self.weights[i].reshape(self.dense[i].shape), self.dense[i])

    def _seen(self, depth) -> list[Inputs]:
        """What is seen at a depth, each once, of the layers that are pruned."""
        seen = [x.sources for x in self.layers if any(s.depth == depth for s in x.sources)]
        return list(dict.fromkeys(seen))

    def _collect(self, depth, inputs, live, dense, sums) -> Statistics:
        """Statistics of the sources at a depth, added to those of earlier ones."""
        need = self.method.needs
        name = next(layer.name for layer in self.layers if layer.sources == inputs)
        last = max(source.depth for source in inputs)
        twins = dense is not None and need == "gram" and last > 0
        sums = _statistics.zeros(inputs[0].rows, need, twins) if sums is None else sums
        for number, known in enumerate(live):
            for source in inputs:
                if source.depth == depth:
                    x, rows = self.march.look(number, known, source.value, source.rows)
                    other = self._dense(dense, number, source) if twins else None
                    sums = _statistics.add_checked(sums, x, other, rows, name, number)
        return sums

    def _dense(self, dense, number, source):
        return self.march.look(number, dense[number], source.value, source.rows)[0]

    def _prune(self, layer: Layer, sums: Statistics, live, dense) -> LayerReport:
        """Writes the weights and the mask of a layer, and reports."""
        began = time.perf_counter()
        i, shape = layer.target.index, layer.matrix.shape
        stored, stored_mask = (
            _views.strided(x, layer.matrix) for x in (self.weights[i], self.masks[i])
        )
        before = np.array(stored).reshape(shape)
        keep = _cuts.shares(layer, self.cuts[layer], self.kept[i])
        sums = jax.tree.map(np.asarray, sums)
        _check_finite(layer.name, before, sums)
        with jax.set_mesh(_one_device()):  # whatever mesh the caller has
            try:
                found = solve(layer.name, self.method, self.cuts[layer], before, sums, keep)
            except Exception as problem:
                problem.add_note(f"jaxprune: {layer.name} {shape} was being pruned.")
                raise
        after, mask, worst, note = found
        _check_mask(layer.name, mask, self.cuts[layer], keep)
        # What was not moved stays as it was to the bit, also in a wider type than it was solved in.
        after = np.where(after == before.astype(after.dtype), before, after.astype(before.dtype))
        after = np.where(mask, after, np.zeros((), before.dtype))
        if not sums.squares.any(axis=1).all():
            note = "; ".join(filter(None, (note, "inputs are all 0: ranked by magnitude")))
        stored[...] = after.reshape(stored.shape)
        stored_mask[...] = mask.reshape(stored.shape)
        seconds = time.perf_counter() - began
        inherited, masked, error = self._errors(layer, live, dense, before, mask, after)
        return LayerReport(
            layer.name,
            shape,
            before.size,
            int(np.count_nonzero(mask)),
            inherited,
            masked,
            error,
            worst,
            seconds,
            "; ".join(filter(None, (note, layer.also))),
        )

    def _errors(self, layer, live, dense, before, mask, after):
        """Relative errors over all batches, at the last place where the layer meets data."""
        sums = Errors(*(jnp.zeros((), jnp.float32) for _ in Errors._fields))
        for number, known in enumerate(live):
            for source in layer.sources:
                if source.depth == layer.depth:
                    x, rows = self.march.look(number, known, source.value, source.rows)
                    other = None if dense is None else self._dense(dense, number, source)
                    sums = _statistics.add_errors(sums, x, other, before, mask, after, rows)
        output, *off = (float(x) for x in sums)
        return [x / output if output else 0.0 for x in off]


def _check_finite(name, weights, sums):
    """Raises where nothing can be ranked."""
    if not np.all(np.isfinite(weights)):
        raise ValueError(f"{name} has weights that are NaN or infinite; mend or exempt it.")
    if not np.all(np.isfinite(sums.squares)):
        raise ValueError(
            f"the squares of inputs of {name} add up to more than float32 holds; scale the batches."
        )


def _check_mask(name, mask, cut, keep):
    """Raises where a method keeps other than it was asked to."""
    batch, inputs, outputs = mask.shape
    if cut.nm is not None:
        kept = mask.reshape(batch, inputs // cut.nm[1], cut.nm[1], outputs).sum(2)
        good = np.all(kept == cut.nm[0])
    else:
        grid = batch, inputs // cut.rows, cut.rows, outputs // cut.columns, cut.columns
        kept = mask.reshape(grid).sum((2, 4))
        good = np.all((kept == 0) | (kept == cut.rows * cut.columns))
        good &= np.array_equal(np.count_nonzero(kept, axis=(1, 2)), keep)
    if not good:
        raise ValueError(
            f"the method's mask of {name} is not as asked for: {cut}, {keep.tolist()} units of "
            "each matrix; cores.choose makes such masks."
        )


def _one_device():
    """A mesh of the first device alone."""
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((1,), ("solve",), axis_types=auto, devices=jax.local_devices()[:1])


def _put(array: np.ndarray, like):
    """A copy of a host array, where a leaf lies."""
    if not isinstance(like, jax.Array):
        return array.copy()
    return jax.device_put(array.copy(), like.sharding if like.committed else None)


def solve(name: str, method: Method, cut, W, sums: Statistics, keep):
    """Prunes a stack of matrices; with more damping where it fails.

    Args:
      name: of the layer.
      method, cut: static.
      W: [batch, inputs, outputs].
      sums: of its inputs.
      keep: units kept of each matrix, int32 [batch].

    Returns:
      (weights, mask, condition of X^T X with damping, note).
    """
    note, more = "", [(method.damp or 1e-7) * 10**i for i in range(1, _TRIES)]
    for damp in (method.damp, *more):
        found, mask, highest, finite = _solved(method, cut, W, sums, jnp.float32(damp), keep)
        if finite:
            return (
                np.asarray(found),
                np.asarray(mask),
                float(highest),
                note and f"{note}; solved with {damp:g}",
            )
        note = f"damping {method.damp:g} was too little"
    raise ValueError(
        f"{name} could not be solved, with damping up to {more[-1]:g}: the method gives weights "
        "that are not finite."
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _solved(method: Method, cut, W, sums: Statistics, damp, keep):
    options = dict(method.options)

    def one(w, sums, keep):
        w = w.astype(jnp.promote_types(w.dtype, jnp.float32))
        size = jnp.mean(sums.squares)
        none = size == 0  # no input at all: then weights are as good as they are large
        size = jnp.where(none, 1, size)  # what counts twice is then the same to the bit
        squares = jnp.where(none, 1, sums.squares / size)
        if sums.gram is None:
            problem = Problem(w, w, squares, None)
            return *method.solve(problem, keep, cut, **options), jnp.float32(jnp.nan)
        gram = jnp.where(none, jnp.eye(len(w), dtype=w.dtype), sums.gram / size)
        H, goal = cores.damped(gram, damp), w
        if sums.cross is not None:
            goal = jnp.where(none, w, cores.target(w, gram, sums.cross / size, damp))
        problem = Problem(w, goal, squares, H)
        return *method.solve(problem, keep, cut, **options), condition(H)

    if len(W) == 1:
        alone = one(*jax.tree.map(lambda x: x[0], (W, sums, keep)))
        found, mask, conditions = (x[None] for x in alone)
    else:
        found, mask, conditions = jax.vmap(one)(W, sums, keep)
    finite = jnp.all(jnp.isfinite(jnp.where(mask, found, 0)))
    return found, mask, jnp.max(conditions), finite
