"""What masks do around an inner optimizer: to gradients, to its state, to its updates."""

import jax
import jax.numpy as jnp

from jaxprune._tree import flatten
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._bits import from_bits


def zero_where_pruned(mask, x):
    """`x` where the mask keeps, 0 elsewhere; by selection, so that NaN and inf go too."""
    return jnp.where(mask, x, jnp.zeros((), x.dtype))


def mask_state(state, masks: dict):
    """Zeroes what an optimizer state holds for pruned weights.

    A leaf of the state belongs to a parameter if its path ends in the parameter's path and it has
    the parameter's shape: moments of any optimizer, inside any wrapper, are found by that.

    Args:
      state: the state of an optimizer.
      masks: path -> mask for all leaves of the params, None where dense.
    """
    paths, leaves, structure = flatten(state)
    masked = []
    for path, x in zip(paths, leaves, strict=True):
        mask = _mask_of(path, masks)
        fits = mask is not None and jnp.shape(x) == mask.shape
        if fits and jnp.issubdtype(jnp.result_type(x), jnp.inexact):
            x = zero_where_pruned(mask, x)
        masked.append(x)
    return jax.tree.unflatten(structure, masked)


def _mask_of(path, masks):
    """The mask of the longest path that `path` ends in."""
    rest = path
    while rest:
        if rest in masks:
            return masks[rest]
        rest = rest.partition("/")[2]
    return masks.get("")  # params that are one bare array


def masked_update(inner, masks, updates, inner_state, params, extra):
    """One update of `inner` that sees active weights only and leaves exact zeros elsewhere.

    Args:
      inner: a transform that takes extra args, or None: `updates` are what to emit already.
      masks: bits of masks in the tree of `params`, None where dense.
      updates, inner_state, params, extra: as in an optax update.

    Returns:
      (updates, inner_state)
    """
    paths, weights, structure = flatten(params)
    masks = {
        path: None if bits is None else from_bits(bits)
        for path, bits in flatten_masks(masks).items()
    }
    flat = structure.flatten_up_to(updates)
    if inner is not None:
        active = [
            g if masks[path] is None or g is None else zero_where_pruned(masks[path], g)
            for path, g in zip(paths, flat, strict=True)
        ]
        kept = [
            p if masks[path] is None else zero_where_pruned(masks[path], p)
            for path, p in zip(paths, weights, strict=True)
        ]
        # The state is masked before the update, not after: so XLA can still update it in place.
        updates, inner_state = inner.update(
            structure.unflatten(active),
            mask_state(inner_state, masks),
            structure.unflatten(kept),
            **extra,
        )
        flat = structure.flatten_up_to(updates)
    emitted = [
        u if masks[path] is None else _emit(masks[path], u, p)
        for path, u, p in zip(paths, flat, weights, strict=True)
    ]
    return structure.unflatten(emitted), inner_state


def _emit(mask, u, p):
    """The update, and where the mask prunes the one that leads to exactly 0."""
    kept = jnp.zeros((), p.dtype) if u is None else u.astype(p.dtype)
    return jnp.where(mask, kept, -p)


def check_inner(inner):
    """Raises unless `inner` is an optax transform."""
    if not (callable(getattr(inner, "init", None)) and callable(getattr(inner, "update", None))):
        raise TypeError(
            f"inner={inner!r} is no optax transform; pass an optimizer such as optax.adam(1e-3)."
        )


NO_PARAMS = "params is None: masks are applied to params, so call tx.update(grads, state, params)."


def is_placeholder(params) -> bool:
    """Whether optax, looking for what is shaped like params, calls `init` without any."""
    return type(params).__name__ == "_ParamsPlaceholder"
