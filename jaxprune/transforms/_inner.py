"""What masks do around an inner optimizer: to gradients, to its state, to its updates."""

import collections

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._sharding import explicit
from jaxprune._tree import flatten
from jaxprune.masks._apply import flatten_masks
from jaxprune.masks._bits import from_bits
from jaxprune.transforms._criteria import once


def zero_where_pruned(mask, x):
    """`x` where the mask keeps, 0 elsewhere; by selection, so that NaN and inf go too."""
    return jnp.where(mask, x, jnp.zeros((), x.dtype))


def mask_state(state, masks: dict):
    """Zeroes what an optimizer state holds for pruned weights.

    A leaf of the state belongs to a parameter if its path ends in the parameter's path and it has
    the parameter's shape: moments that optax lays out in the tree of the params are found by that,
    inside any wrapper.

    Args:
      state: the state of an optimizer.
      masks: path -> mask for all leaves of the params, None where dense.
    """
    _, leaves, structure = flatten(state)
    for i, path in _held(state, masks):
        leaves[i] = zero_where_pruned(masks[path], leaves[i])
    return jax.tree.unflatten(structure, leaves)


def _held(state, masks):
    """(number among the leaves, path) of what a state holds for each weight of masked params."""
    paths, leaves, _ = flatten(state)
    return [
        (i, path)
        for i, (path, x) in enumerate(zip(_paths_of_params(paths, masks), leaves, strict=True))
        if masks.get(path) is not None
        and jnp.shape(x) == masks[path].shape
        and jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    ]


def _paths_of_params(paths, masks):
    """For each path of a state the path in `masks` that it ends in, or None.

    Where several fit, as "w" and "mu/w" at the end of "0/mu/w", the one that most of the params
    agree with: all of them lie in one subtree, here behind "0/mu".
    """
    splits = [list(_splits(path, masks)) for path in paths]
    found = collections.Counter(before for split in splits for before, _ in split)
    best = [max(split, key=lambda s: (found[s[0]], len(s[1])), default=None) for split in splits]
    return [None if split is None else split[1] for split in best]


def _splits(path, masks):
    """The ways to write a path as (what comes before, a path in `masks`)."""
    before, rest = "", path
    while rest:
        if rest in masks:
            yield before, rest
        head, _, rest = rest.partition("/")
        before += head + "/"
    if "" in masks:  # params that are one bare array
        yield before, ""


def masked_update(inner, masks, updates, inner_state, params, extra, revived=None):
    """One update of `inner` that sees active weights only and leaves exact zeros elsewhere.

    Args:
      inner: a transform that takes extra args, or None: `updates` are what to emit already.
      masks: bits of masks in the tree of `params`, None where dense.
      updates, inner_state, params, extra: as in an optax update.
      revived: whether weights of 0 may just have been revived: an optimizer that makes moments of
        other weights' gradients has made some of theirs, too. A weight that was there and is
        exactly 0 is taken for one.

    Returns:
      (updates, inner_state)
    """
    paths, weights, structure = flatten(params)
    like = dict(zip(paths, weights, strict=True))
    masks = {
        path: None if bits is None else from_bits(bits, like.get(path))
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
        if revived is not None:
            inner_state = _without_revived(inner_state, masks, like, revived)
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


def _without_revived(state, masks, weights, revived):
    """The state, with 0 for weights that an event has just revived, which are 0 themselves.

    The masks from before would say it exactly, and would have to be copied at every step for it.
    Apart from the update, so that between events it does not read the weights.
    """
    _, leaves, structure = flatten(state)
    held = _held(state, masks)
    pairs = [(jnp.asarray(leaves[i]), jnp.asarray(weights[path])) for i, path in held]
    together = [explicit(x) == explicit(w) for x, w in pairs]
    fresh = iter(
        _zeroed(revived, [pair for pair, same in zip(pairs, together, strict=True) if same])
    )
    for (i, _), (x, w), same in zip(held, pairs, together, strict=True):
        # What was restored elsewhere comes to its weights in this update.
        leaves[i] = next(fresh) if same else zero_where_pruned((w != 0) | ~revived, x)
    return jax.tree.unflatten(structure, leaves)


@jax.jit
def _zeroed(revived, pairs):
    """Moments of pairs with their weights, zeroed where those are 0. Jitted for eager callers."""

    def turn(moments, weights):
        return [zero_where_pruned(w != 0, x) for x, w in zip(moments, weights, strict=True)]

    return once(revived, turn, [x for x, _ in pairs], [w for _, w in pairs])


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


def as_array(w):
    """A leaf in `init`: of a mere shape zeros, and what is no array as it is."""
    if isinstance(w, jax.ShapeDtypeStruct):
        return jnp.zeros(w.shape, w.dtype)
    return jnp.asarray(w) if isinstance(w, np.ndarray) else w
