"""Leaves stored as blocks where that pays, and back."""

import functools
import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import masks as _masks
from jaxprune import rules as _rules
from jaxprune._checks import check_sparsity, is_traced
from jaxprune._tree import flatten, replaced
from jaxprune.masks._apply import flatten_masks
from jaxprune.sparse import _product
from jaxprune.sparse._block_ell import BlockELL, Matrix, kept_blocks, pack, plan

PAYS = ((128, 0.5), (64, 0.65), (32, 0.75))
"""From which fraction of blocks left out a product is faster, by the shorter side of a block."""

RARELY = 0.9
"""The same for blocks that are smaller than all of these."""


def to_blocks(params, masks=None, *, block=(64, 64), min_sparsity=None, rules=None):
    """Params in which leaves whose zeros come in whole blocks are stored as the other blocks.

    A leaf is converted if it is prunable (it has a mask; without masks: as `prune` decides by
    default), has two or three axes, and stores, padding included, at most 1 - min_sparsity of the
    weights that it has. Of the ways to read three axes as a matrix, (stack, inputs, outputs),
    (inputs, outputs, outputs) and (inputs, inputs, outputs), the one that keeps the fewest blocks
    is taken; of equals, the first of these. This runs on the host, once, after pruning.

    Args:
      params: any pytree of arrays.
      masks: as `masks.apply` takes them, applied first; None reads the zeros that are there.
      block: rows (inputs) and columns (outputs) of a block, or one number for both. For weights
        stored as (outputs, inputs), the other way round. Best 32 or more, and what was pruned in.
      min_sparsity: None for what was measured on a CPU: 0.5 from blocks of 128 on, 0.65 from 64,
        0.75 from 32, else 0.9.
      rules: path (a regular expression for whole paths, the first match decides) -> False, which
        leaves a leaf dense; True, which converts it; or `Matrix(stack, inputs)`, which converts
        it and says how its axes are read. For kernels (heads, dim, outputs) of attention write
        `{".*/out/kernel": sparse.Matrix(inputs=2)}`.

    Returns:
      A pytree as `params` with a `BlockELL` in the place of each array that was converted.

    Raises:
      TypeError: params are traced, or an argument is of the wrong kind.
      ValueError: an argument is out of range; a rule is not a regular expression, matches no leaf
        or one it cannot convert; masks do not fit.

    Example:
      >>> import jax
      >>> import jaxprune
      >>> params = {"kernel": jax.random.normal(jax.random.key(0), (512, 512))}
      >>> masks = jaxprune.masks.make(params, 0.9, pattern=jaxprune.Block((64, 64)))
      >>> jaxprune.sparse.to_blocks(params, masks)
      {'kernel': BlockELL((512, 512), float32, blocks of 64x64, 6 of 64 stored)}
    """
    block = _checked_block(block)
    if min_sparsity is None:
        min_sparsity = next((s for n, s in PAYS if min(block) >= n), RARELY)
    min_sparsity = check_sparsity(min_sparsity, "min_sparsity")
    paths, leaves, structure = flatten(params)
    chosen = _chosen(rules, paths, leaves)
    if masks is None:
        default = {p for p, d in zip(paths, _decided(paths, leaves), strict=True) if d is None}
    else:
        default = {path for path, mask in flatten_masks(masks).items() if mask is not None}
        leaves = jax.tree.leaves(_masks.apply(params, masks))
    new = {}
    for path, leaf in zip(paths, leaves, strict=True):
        rule = chosen.get(path, path in default and leaf.ndim in (2, 3))
        if rule is False:
            continue
        if is_traced(leaf):
            raise TypeError(f"to_blocks: {path} is traced; call it outside of jit, on the host.")
        made, density = _smallest(np.asarray(leaf), rule, block)
        if path in chosen or density <= 1 - min_sparsity:
            new[path] = made()
    return replaced(structure, paths, leaves, new)


def to_dense(params):
    """Params with dense arrays again: exactly those that `to_blocks` was given, zeros included.

    Args:
      params: a pytree with `BlockELL` leaves; gradients and moments of such params are, too.

    Returns:
      A pytree of arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import sparse
      >>> w = {"kernel": jnp.eye(128)}
      >>> bool((sparse.to_dense(sparse.to_blocks(w))["kernel"] == w["kernel"]).all())
      True
    """

    def back(leaf):
        return _dense(leaf) if isinstance(leaf, BlockELL) else leaf

    return jax.tree.map(back, params, is_leaf=lambda x: isinstance(x, BlockELL))


@functools.partial(jax.jit, inline=True)  # for callers without jit: one program for a layout
def _dense(leaf):
    return _product.dense(_product.opened(leaf)).reshape(leaf.shape)


def _smallest(leaf, rule, block):
    """(a function that makes the blocks, the fraction of weights it stores) of the best reading."""
    if isinstance(rule, Matrix):
        readings = [rule]
    else:
        axes = [(s, i) for s in range(leaf.ndim - 1) for i in range(1, leaf.ndim - s)]
        readings = [Matrix(*pair) for pair in sorted(axes, key=lambda pair: -pair[0])]
    grids = [kept_blocks(leaf, matrix, block) for matrix in readings]
    kept, matrix = min(zip(grids, readings, strict=True), key=lambda pair: pair[0].sum())
    stored = len(kept) * sum((stop - start) * most for start, stop, most in plan(kept)[1])
    density = stored * math.prod(block) / max(leaf.size, 1)
    return lambda: pack(leaf, matrix, block, kept), density


def _decided(paths, leaves):
    return [decision.dense for decision in _rules.decide(paths, leaves, ())]


def _checked_block(block):
    """(rows, columns) of a block."""
    pair = (block, block) if isinstance(block, int) else block
    try:
        rows, columns = pair
    except (TypeError, ValueError) as error:
        raise TypeError(f"to_blocks: block={block!r} must be (rows, columns).") from error
    for size in (rows, columns):
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(f"to_blocks: block={block!r} must hold whole numbers.")
        if size < 1:
            raise ValueError(f"to_blocks: block={block!r} must be at least 1 each way.")
    return int(rows), int(columns)


def _chosen(rules, paths, leaves):
    """Path -> what a rule says about it."""
    if rules is None:
        return {}
    if not isinstance(rules, Mapping):
        raise TypeError(
            f"to_blocks: rules={rules!r} must be a mapping from paths to False, True or Matrix."
        )
    chosen: dict[str, bool | Matrix] = {}
    for pattern, rule in rules.items():
        if not isinstance(rule, bool | Matrix):
            raise TypeError(f"to_blocks: the rule {pattern!r} is {rule!r}; give a bool or Matrix.")
        try:
            matched = [i for i, path in enumerate(paths) if re.fullmatch(pattern, path)]
        except re.error as error:
            raise ValueError(
                f"to_blocks: the rule {pattern!r} is not a regular expression: {error}; escape "
                "what is meant literally by re.escape."
            ) from error
        if not matched:
            some = ", ".join(paths[:8])
            raise ValueError(f"to_blocks: the rule {pattern!r} matches no leaf; paths are {some}.")
        for i in matched:
            if paths[i] not in chosen:
                chosen[paths[i]] = rule
                if rule is not False:
                    _check_convertible(pattern, rule, paths[i], leaves[i])
    return chosen


def _check_convertible(pattern, rule, path, leaf):
    shape = jnp.shape(leaf)
    if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)) or len(shape) < 2:
        raise ValueError(
            f"to_blocks: the rule {pattern!r} would convert {path}, which is no floating array of "
            "two axes or more; narrow the path."
        )
    if isinstance(rule, Matrix) and not (
        rule.stack >= 0 and rule.inputs >= 1 and rule.stack + rule.inputs < len(shape)
    ):
        raise ValueError(
            f"to_blocks: {rule} does not fit {path} of shape {shape}: it leaves no axis for "
            "inputs or outputs."
        )
