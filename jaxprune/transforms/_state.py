"""Masks found in any optimizer state."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprune._tree import flatten, path_string
from jaxprune.masks._apply import stands_for_leaf
from jaxprune.masks._bits import from_bits


class PruneState(NamedTuple):
    """State of `prune`.

    Attributes:
      prune_step: how many updates have been made, int32.
      masks: in the tree of the params, as bits (uint8, eight rows to a byte) or bool, None where a
        leaf is dense. Read them with `get_masks`.
      masks_changed: whether the last update was an event, bool.
      score_state: a `ScoreState` where criteria use gradients, else ().
      inner_state: the state of the optimizer inside.
    """

    prune_step: Any
    masks: Any
    masks_changed: Any
    score_state: Any
    inner_state: Any


class KeepState(NamedTuple):
    """State of `keep`.

    Attributes:
      masks: in the tree of the params, as bits (uint8, eight rows to a byte) or bool, None where a
        leaf is dense. Read them with `get_masks`.
      inner_state: the state of the optimizer inside.
    """

    masks: Any
    inner_state: Any


class StraightThroughState(NamedTuple):
    """State of `straight_through` and `top_kast`.

    Attributes:
      through_step: how many updates have been made, int32.
      masks: of the forward pass, in the tree of the params, as in `PruneState`.
      backward_masks: of what is updated, or () where all is.
      masks_changed: whether the last update made masks again, bool.
      inner_state: the state of the optimizer inside.
    """

    through_step: Any
    masks: Any
    backward_masks: Any
    masks_changed: Any
    inner_state: Any


_KINDS = (PruneState, KeepState, StraightThroughState)


def _find(state, kinds) -> list:
    """States of the given kinds, wherever they lie in a pytree or in an object with `opt_state`."""
    state = getattr(state, "opt_state", state)
    found = []

    def visit(node):
        for leaf in jax.tree.leaves(node, is_leaf=lambda x: isinstance(x, kinds)):
            if isinstance(leaf, kinds):
                found.append(leaf)
                visit(leaf.inner_state)

    visit(state)
    return found


def get_masks(state):
    """The masks in an optimizer state.

    Args:
      state: any optax state that holds one of `prune`, `keep` or another transform of this package,
        in a chain, `optax.MultiSteps`, `optax.masked`, `optax.partition` and so on; or an object
        whose `opt_state` is one, such as a Flax `TrainState` or `nnx.Optimizer`.

    Returns:
      A pytree in the tree of the params: bool arrays, None where a leaf is dense. Where several
      transforms prune different leaves, their masks together.

    Raises:
      ValueError: there is no such state, or a leaf has masks of several.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = optax.chain(optax.clip(1.0), jaxprune.prune(optax.adam(1e-3), sparsity=0.5))
      >>> jaxprune.get_masks(tx.init({"kernel": jnp.ones((2, 2))}))["kernel"].shape
      (2, 2)
    """
    found = _find(state, _KINDS)
    if not found:
        raise ValueError(
            "the state holds no masks: it has no state of jaxprune.prune, keep, rigl or the like."
        )
    merged = functools.reduce(_merge, (one.masks for one in found))
    _, leaves, structure = flatten(merged, is_leaf=stands_for_leaf)
    masks = [None if stands_for_leaf(bits) else from_bits(bits) for bits in leaves]
    return jax.tree.unflatten(structure, masks)


def _merge(a, b, path=()):
    """Two trees of masks as one: where one has a stand-in, what the other has there."""
    if stands_for_leaf(a):
        return b
    if stands_for_leaf(b):
        return a
    level: Any = jax.tree.structure(a, is_leaf=lambda node: node is not a)
    if jax.tree_util.treedef_is_leaf(level):
        raise ValueError(
            f"{path_string(path)} has masks of several transforms; take the one you mean from the "
            "state."
        )
    keys = jax.tree_util.tree_flatten_with_path(a, is_leaf=lambda node: node is not a)[0]
    others = level.flatten_up_to(b)
    merged = [_merge(x, y, (*path, *key)) for (key, x), y in zip(keys, others, strict=True)]
    return jax.tree.unflatten(level, merged)


def masks_changed(state) -> jax.Array:
    """Whether the last update recomputed masks, so that it is time to validate.

    Args:
      state: as for `get_masks`; it must hold a state of a transform that makes masks again.

    Returns:
      bool scalar array.

    Raises:
      ValueError: there is no state of `prune`.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxprune
      >>> tx = jaxprune.prune(optax.sgd(0.1), sparsity=0.5)
      >>> params = {"kernel": jnp.ones((2, 2))}
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> bool(jaxprune.masks_changed(state))
      True
    """
    found = _find(state, (PruneState, StraightThroughState))
    if not found:
        raise ValueError("the state has no state of jaxprune.prune, so no masks that change.")
    return jnp.any(jnp.stack([jnp.asarray(one.masks_changed) for one in found]))
