"""Optimal brain surgeon with a block-diagonal empirical Fisher."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxprune._checks import is_traced
from jaxprune.scores._criterion import Criterion, Memory

_AT_ONCE = 1 << 22  # elements of blocks that are factored side by side


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
        zeros = self.cut.apart(jnp.zeros_like(w, dtype=jnp.float32))
        return Fisher(zeros[..., :, None] + zeros[..., None, :], jnp.zeros((), jnp.int32))

    def update(self, memory, w, grad):
        # A weight of 0 is pruned: it does not move, and others must not count on it.
        g = jnp.where(w != 0, grad, jnp.zeros((), grad.dtype)).astype(jnp.float32)
        g = self.cut.apart(g)
        return Fisher(memory.outer + g[..., :, None] * g[..., None, :], memory.number + 1)

    def fisher(self, outer, number):
        """The mean of outer products, and damp on the diagonal."""
        return outer / jnp.maximum(number, 1).astype(jnp.float32) + self.damp * _eye_like(outer)

    def score(self, w, path, pattern, memory):
        single = pattern is None or pattern.num_units(w.shape) == w.size
        unit = jnp.zeros((), jnp.int32)
        if not single:
            units = jnp.arange(pattern.num_units(w.shape), dtype=jnp.int32)
            unit = self.cut.apart(pattern.expand(units, w.shape), fill=-1)
        blocks = self.cut.apart(w.astype(jnp.float32))

        def one(outer, w, unit):
            fisher = self.fisher(outer, memory.number)
            inverse = _inverse(fisher)
            if single:
                return 0.5 * jnp.square(w) / jnp.diagonal(inverse, axis1=-2, axis2=-1)
            # With other units' entries 0, the inverse falls apart into the inverses of units.
            same = unit[..., :, None] == unit[..., None, :]
            return 0.5 * w * _solve(jnp.where(same, inverse, 0), w)

        scores = _per_block(one, memory.outer, blocks, jnp.broadcast_to(unit, blocks.shape))
        if not is_traced(scores):
            self.check(scores, blocks, path)
        diagonal = jnp.diagonal(memory.outer, axis1=-2, axis2=-1)
        simple = (
            0.5
            * jnp.square(blocks)
            * (diagonal / jnp.maximum(memory.number, 1).astype(jnp.float32) + self.damp)
        )
        bad = jnp.any(jnp.isnan(scores) & ~jnp.isnan(blocks), axis=-1, keepdims=True)
        return self.cut.together(jnp.where(bad, simple, scores), w.shape)

    def check(self, scores, blocks, path):
        bad = int(jnp.any(jnp.isnan(scores) & ~jnp.isnan(blocks), axis=-1).sum())
        if bad:
            raise ValueError(
                f"{bad} blocks of the Fisher matrix of {path} are not positive definite in "
                f"float32 with damp={self.damp:g}; raise damp, or scale the loss up."
            )

    def compensate(self, w, mask, memory):
        blocks = self.cut.apart(w.astype(jnp.float32))
        kept = self.cut.apart(mask, fill=True)

        def one(outer, w, kept):
            fisher = self.fisher(outer, memory.number)
            pull = jnp.einsum(
                "...ij,...j->...i", fisher, jnp.where(kept, 0, w), precision="highest"
            )
            both = kept[..., :, None] & kept[..., None, :]
            moved = _solve(jnp.where(both, fisher, _eye_like(fisher)), jnp.where(kept, pull, 0))
            return w + jnp.where(kept & jnp.isfinite(moved), moved, 0)

        moved = self.cut.together(_per_block(one, memory.outer, blocks, kept), w.shape)
        return jnp.where(mask & (w != 0), moved, w).astype(w.dtype)


def _per_block(function, *arrays):
    """`function` of blocks [outputs, blocks, ...], so many at a time."""
    outputs, number, block = arrays[1].shape
    if outputs * number * block * block <= _AT_ONCE:
        return function(*arrays)
    rows = max(1, _AT_ONCE // (number * block * block))
    return lax.map(lambda x: function(*x), arrays, batch_size=rows)


def _eye_like(matrix):
    return jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)


def _inverse(matrix):
    """Of positive definite matrices; NaN where they are not."""
    factor = jnp.linalg.cholesky(matrix)
    root = lax.linalg.triangular_solve(factor, _eye_like(matrix), left_side=True, lower=True)
    return jnp.einsum("...ki,...kj->...ij", root, root, precision="highest")


def _solve(matrix, vector):
    """Of positive definite matrices; NaN where they are not."""
    solve = functools.partial(
        lax.linalg.triangular_solve, jnp.linalg.cholesky(matrix), left_side=True, lower=True
    )
    return solve(solve(vector[..., None]), transpose_a=True)[..., 0]


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
        block * size * 4 bytes; 1 is `scores.obd()`.
      damp: what is added to the diagonal of F, above 0. If it is far above the mean squares of
        gradients, the ranking is that of magnitude.
      window: in `prune`, how many updates before each event F is the mean of, at least 1; between
        those an update costs nothing. After the event it starts anew.
      output_axis: the axis of outputs; -1 in Flax kernels, 0 in Equinox weights.

    Returns:
      A criterion with float32 scores. In `prune_params` the gradients are those of batches, or of
      examples with per_example=True; fewer gradients than `block` leave F to `damp`. Where a
      block is not positive definite in float32, `prune_params` raises; `prune` takes the diagonal
      of that block and moves nothing in it.

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
