"""Optimal brain surgeon with a block-diagonal empirical Fisher."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxprune._checks import is_traced
from jaxprune._sharding import num_devices, with_auto_axes
from jaxprune.scores._criterion import Criterion, Memory

_AT_ONCE = 1 << 20  # elements of blocks that are inverted side by side, to stay in a cache
# Without jit, too, what is done to a leaf is one program, not one for every operation.
_program = functools.partial(jax.jit, static_argnames="cut", inline=True)


class Fisher(NamedTuple):
    """A running sum of outer products of gradients.

    Attributes:
      outer: float32 [outputs, blocks, block, block].
      number: int32 scalar, how many gradients.
    """

    outer: Any
    number: Any


@dataclasses.dataclass(frozen=True)
class _Cut:
    """How a leaf is cut into blocks: the inputs of each output, in order of their axes."""

    block: int
    output_axis: int

    def lengths(self, shape):
        """(outputs, inputs, blocks, block)."""
        if not -len(shape) <= self.output_axis < len(shape):
            raise ValueError(
                f"obs: output_axis={self.output_axis} of a leaf of shape {tuple(shape)}; choose "
                "one of its axes, or give this leaf another criterion by a Rule."
            )
        axis = self.output_axis % len(shape)
        inputs = math.prod(n for i, n in enumerate(shape) if i != axis)
        block = max(1, min(self.block, inputs))
        return shape[axis], inputs, -(-inputs // block), block

    def apart(self, x, fill=0):
        """[outputs, blocks, block]; the last block may be padded."""
        outputs, inputs, number, block = self.lengths(x.shape)
        rows = jnp.moveaxis(x, self.output_axis, 0).reshape(outputs, inputs)
        rows = jnp.pad(rows, ((0, 0), (0, number * block - inputs)), constant_values=fill)
        return rows.reshape(outputs, number, block)

    def sharding(self, of_leaf):
        """Of blocks: cut over devices as outputs are; inputs lie together."""
        names = of_leaf.spec[self.output_axis]
        return NamedSharding(of_leaf.mesh, PartitionSpec(names, None, None, None))

    def together(self, blocks, shape):
        """The leaf again."""
        outputs, inputs, *_ = self.lengths(shape)
        axis = self.output_axis % len(shape)
        rest = [n for i, n in enumerate(shape) if i != axis]
        rows = blocks.reshape(outputs, -1)[:, :inputs]
        return jnp.moveaxis(rows.reshape(outputs, *rest), 0, axis)


@dataclasses.dataclass(frozen=True)
class _Surgeon:
    """The functions of the criterion, for one choice of its numbers."""

    cut: _Cut
    damp: float

    def init(self, w):
        w = jnp.zeros_like(w, dtype=jnp.float32)
        return Fisher(self._outer(w, w), jnp.zeros((), jnp.int32))

    def _outer(self, g, w):
        run = functools.partial(_outer, cut=self.cut)
        return with_auto_axes(run, g, like=[w], fit=self.cut.sharding)[0]

    def update(self, memory, w, grad):
        # A weight of 0 is pruned: it does not move, and others must not count on it.
        g = jnp.where(w != 0, grad, jnp.zeros((), grad.dtype)).astype(jnp.float32)
        return Fisher(memory.outer + self._outer(g, w), memory.number + 1)

    def score(self, w, path, pattern, memory):
        run = functools.partial(self._score, path=path, pattern=pattern)
        return with_auto_axes(run, w, memory, like=[w])[0]

    def compensate(self, w, mask, memory):
        run = functools.partial(_compensated, damp=self.damp, cut=self.cut)
        return with_auto_axes(run, w, mask, memory, like=[w])[0]

    def _score(self, w, memory, path, pattern):
        scores, bad = _scored(w, memory, damp=self.damp, cut=self.cut, pattern=pattern)
        if not is_traced(bad) and bad:
            raise ValueError(
                f"{int(bad)} blocks of the Fisher matrix of {path} are not positive definite in "
                f"float32 with damp={self.damp:g}: squares of gradients overflow, or damp is too "
                "small for them; scale the loss down, or raise damp."
            )
        return [scores]


@_program
def _outer(g, cut):
    g = cut.apart(g)
    return [g[..., :, None] * g[..., None, :]]


@functools.partial(_program, static_argnames=("cut", "pattern"))
def _scored(w, memory, damp, cut, pattern):
    """Scores, and how many blocks have no inverse."""
    single = pattern is None or pattern.num_units(w.shape) == w.size
    unit = jnp.zeros((), jnp.int32)
    if not single:
        units = jnp.arange(pattern.num_units(w.shape), dtype=jnp.int32)
        unit = cut.apart(pattern.expand(units, w.shape), fill=-1)
    blocks = cut.apart(w.astype(jnp.float32))

    def one(outer, w, unit):
        inverse = _inverse(_fisher(outer, memory.number, damp))
        if single:
            return 0.5 * jnp.square(w) / jnp.diagonal(inverse, axis1=-2, axis2=-1)
        # With other units' entries 0, the inverse falls apart into the inverses of units.
        same = unit[..., :, None] == unit[..., None, :]
        return 0.5 * w * _solve(jnp.where(same, inverse, 0), w)

    scores = _per_block(one, memory.outer, blocks, jnp.broadcast_to(unit, blocks.shape))
    number = jnp.maximum(memory.number, 1).astype(jnp.float32)
    diagonal = jnp.diagonal(memory.outer, axis1=-2, axis2=-1) / number + damp
    simple = 0.5 * diagonal * jnp.square(blocks)
    bad = jnp.any(jnp.isnan(scores) & ~jnp.isnan(blocks), axis=-1, keepdims=True)
    found = cut.together(jnp.where(bad, simple, scores), w.shape)
    return found, bad.sum(dtype=jnp.int32)


@_program
def _compensated(w, mask, memory, damp, cut):
    blocks = cut.apart(w.astype(jnp.float32))
    kept = cut.apart(mask, fill=True)

    def one(outer, w, kept):
        fisher = _fisher(outer, memory.number, damp)
        pull = jnp.einsum("...ij,...j->...i", fisher, jnp.where(kept, 0, w), precision="highest")
        both = kept[..., :, None] & kept[..., None, :]
        moved = _solve(jnp.where(both, fisher, _eye_like(fisher)), jnp.where(kept, pull, 0))
        return w + jnp.where(kept & jnp.isfinite(moved), moved, 0)

    moved = cut.together(_per_block(one, memory.outer, blocks, kept), w.shape)
    return [jnp.where(mask & (w != 0), moved, w).astype(w.dtype)]


def _fisher(outer, number, damp):
    """The mean of outer products, damped: by no less than float32 needs to invert it."""
    mean = outer / jnp.maximum(number, 1).astype(jnp.float32)
    eps = mean.shape[-1] * float(jnp.finfo(jnp.float32).eps)
    least = eps * jnp.trace(mean, axis1=-2, axis2=-1)[..., None, None]
    return mean + (damp + least) * _eye_like(mean)


def _per_block(function, *arrays):
    """`function` of blocks [outputs, blocks, ...], so many at a time; of devices, all at once."""
    outputs, number, block = arrays[1].shape
    flat = [x.reshape(-1, *x.shape[2:]) for x in arrays]
    rows = max(1, _AT_ONCE // (block * block))
    if num_devices() > 1 or outputs * number <= rows:
        return function(*flat).reshape(arrays[1].shape)
    return lax.map(lambda x: function(*x), flat, batch_size=rows).reshape(arrays[1].shape)


def _eye_like(matrix):
    return jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)


def _inverse(matrix):
    """Of positive definite matrices [..., n, n], by Gauss-Jordan; NaN where they are not.

    Without pivoting, which these do not need: the pivots are positive if and only if the matrix is
    positive definite. A library's factorisation would do, but in a loop on CPUs some versions of
    XLA wait for it for ever.
    """
    size = matrix.shape[-1]

    def eliminate(k, x):
        row = lax.dynamic_slice_in_dim(x, k, 1, -2)
        column = lax.dynamic_slice_in_dim(x, k, 1, -1)
        pivot = lax.dynamic_slice_in_dim(row, k, 1, -1)
        pivot = jnp.where(pivot > 0, pivot, jnp.nan)
        index = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
        here, there = index == k, jnp.swapaxes(index, -1, -2) == k
        x = jnp.where(there, 0, x) - column * (row / pivot)
        x = jnp.where(here, -column / pivot, x)
        return jnp.where(there, jnp.where(here, 1, row) / pivot, x)

    return lax.fori_loop(0, size, eliminate, matrix)


def _solve(matrix, vector):
    """Of positive definite matrices; NaN where they are not."""
    return jnp.matmul(_inverse(matrix), vector[..., None], precision="highest")[..., 0]


def obs(
    block: int = 64,
    *,
    damp: float = 1e-7,
    window: int = 1024,
    output_axis: int = -1,
) -> Criterion:
    """Optimal brain surgeon: 1/2 * w**2 / [F^-1]_ww, and kept weights move to make up.

        F = damp * I + mean of g g^T, in blocks of inputs of one output
        score of a unit Q:  1/2 * w_Q^T ([F^-1]_QQ)^-1 w_Q
        kept weights P:     w_P <- w_P + (F_PP)^-1 F_PQ w_Q

    Q is a weight, or a block, channel or head: its weights are removed together, and what lies in
    several blocks of F is added up. The move is exact for all that is pruned in a block of F, not
    one weight at a time.

    Args:
      block: how many inputs of an output F knows the relations of, at least 1. Memory is
        block * size * 4 bytes; 1 is `scores.obd()`. It is cut over devices as the axis of outputs
        is; cut inputs are gathered, so cut outputs.
      damp: what is added to the diagonal of F, above 0. If it is far above the mean squares of
        gradients, the ranking is that of magnitude. A block gets no less than float32 needs to
        invert it, its trace times 1.2e-7 * block.
      window: in `prune`, how many updates before each event F is the mean of, at least 1; between
        those an update costs nothing. After the event it starts anew.
      output_axis: the axis of outputs; -1 in Flax kernels, 0 in Equinox weights.

    Returns:
      A criterion with float32 scores. In `prune_params` the gradients are those of batches, or of
      examples with per_example=True; fewer gradients than `block` leave F to `damp`. Where a
      block cannot be inverted, since squares of its gradients overflow, `prune_params` raises;
      `prune` takes the diagonal of that block and moves nothing in it.

    Raises:
      ValueError: a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> x = jnp.array([[1.0, 0.9], [0.9, 1.0]])  # two inputs that say nearly the same
      >>> loss = lambda params, x: jnp.mean((x @ params["kernel"] - x.sum(1, keepdims=True)) ** 2)
      >>> params = {"kernel": jnp.array([[0.5], [1.6]])}
      >>> pruned, _ = jaxprune.prune_params(
      ...     params, 0.5, score=jaxprune.scores.obs(damp=1e-3), loss=loss, batches=[x],
      ...     per_example=True, rules=[jaxprune.Rule("kernel", dense=False)],
      ... )
      >>> pruned["kernel"].round(0).tolist()  # the other has made up for it
      [[0.0], [2.0]]

    References:
      Hassibi and Stork, Second order derivatives for network pruning, NeurIPS 1992; Singh and
      Alistarh, WoodFisher, arXiv 2004.14340; Kurtic et al., The optimal BERT surgeon, arXiv
      2203.07259.
    """
    for name, value in (("block", block), ("window", window)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} must be a whole number of at least 1.")
    if not 0 < damp < math.inf:
        raise ValueError(f"damp={damp!r} must be above 0 and finite, or F has no inverse.")
    surgeon = _Surgeon(_Cut(block, output_axis), float(damp))
    return Criterion(
        surgeon.score,
        needs=("path", "pattern", "memory"),
        memory=Memory(surgeon.init, surgeon.update, resets=True, window=window),
        compensate=surgeon.compensate,
    )
