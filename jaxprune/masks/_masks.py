"""Masks as pytrees: make, apply, read off zeros, measure, compare."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprune import axes
from jaxprune._checks import check_sparsity, is_traced
from jaxprune._tree import flatten
from jaxprune.masks._compute import compute
from jaxprune.masks._counts import count
from jaxprune.masks._targets import options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude


def make(
    params,
    sparsity,
    *,
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    scope="leaf",
    allocate=None,
    rules=(),
    min_sparsity=None,
    max_sparsity=None,
    grads=None,
):
    """Masks that keep exactly the highest scores.

        kept units = round(units * (1 - sparsity)), of each leaf or of each scope

    Args:
      params: any pytree of arrays. What is dense, by a rule or by default, has the mask None.
      sparsity: fraction of zeros among the prunable weights, 0 <= s < 1; it may be traced.
      score: the criterion, a function of one leaf or a `scores.Criterion`.
      pattern: which weights live or die together.
      scope: what is ranked against what: "leaf", "global", or a function from a path to a label.
      allocate: how leaves that are ranked by themselves share the sparsity: a function such as
        `allocate.erdos_renyi`, or a mapping from paths (regular expressions) to sparsities.
        None: the same sparsity for each.
      rules: `Rule`s by path; the first match decides.
      min_sparsity, max_sparsity: bounds for every leaf, so that a ranking cannot empty one.
      grads: gradients, in the tree of `params`, for criteria that need them.

    Returns:
      A pytree as `params`: bool arrays, True = keep, and None where a leaf is dense.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind, out of range, or does not fit the
        tree; the message names it and the leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]]), "bias": jnp.ones(2)}
      >>> jaxprune.masks.make(params, 0.75)
      {'bias': None, 'kernel': Array([[False,  True],
             [False, False]], dtype=bool)}
    """
    sparsity = check_sparsity(sparsity, "sparsity")
    chosen = options(score, pattern, scope, allocate, rules, min_sparsity, max_sparsity)
    setup, _ = resolve(params, chosen)
    for target in setup.targets:
        check_reachable(target, sparsity)
        check_needs(target)
        if "grad" in target.criterion.needs and grads is None:
            raise ValueError(
                f"the criterion for {target.path} needs gradients; pass "
                "grads=jax.grad(loss)(params)."
            )
    _, leaves, structure = flatten(params)
    if grads is not None:
        grads = structure.flatten_up_to(grads)
        grads = [grads[t.index] for t in setup.targets]
    counts = count(setup, chosen.allocate, sparsity)
    made = compute(setup, [jnp.asarray(leaves[t.index]) for t in setup.targets], grads, *counts)
    return place(setup, made, structure)


def check_reachable(target, sparsity):
    """A target that stops short of the pattern is a mistake: the weights would not have it."""
    sparsity = sparsity if target.sparsity is None else target.sparsity
    first = target.pattern.first_units(target.shape)
    bound = target.max_sparsity if target.sparsity is None else None
    if first is not None and bound is not None and target.units * (1 - bound) > first:
        raise ValueError(
            f"max_sparsity={bound:g} keeps more than {target.pattern} allows in {target.path}; the "
            f"pattern needs {1 - first / target.units:g} or more."
        )
    if first is None or is_traced(sparsity) or callable(sparsity):
        return
    if round(target.units * (1 - sparsity)) > first:
        needed = 1 - first / target.units
        raise ValueError(
            f"sparsity={sparsity:g} keeps more than {target.pattern} allows in {target.path}; the "
            f"pattern needs a sparsity of at least {needed:g}."
        )


def check_needs(target):
    """A criterion can have the path of its leaf and its gradient."""
    strange = [name for name in target.criterion.needs if name not in ("path", "grad")]
    if strange:
        raise ValueError(
            f"the criterion for {target.path} needs {strange[0]!r}, which nobody gives it; needs "
            'may hold "path" and "grad".'
        )


def place(setup, masks, structure):
    """The masks of the targets in the tree of the parameters."""
    leaves = [None] * structure.num_leaves
    for target, mask in zip(setup.targets, masks, strict=True):
        leaves[target.index] = mask
    return structure.unflatten(leaves)


def stands_for_leaf(node) -> bool:
    """Whether a node of a tree of masks stands for a leaf that is dense, or that optax hides."""
    return node is None or isinstance(node, optax.MaskedNode)


def flatten_masks(masks) -> dict[str, Any]:
    """Path -> mask, and None where a leaf is dense."""
    paths, leaves, _ = flatten(masks, is_leaf=stands_for_leaf)
    return {p: None if stands_for_leaf(m) else m for p, m in zip(paths, leaves, strict=True)}


def _covers(flat, path):
    """Whether masks say something about a path: a mask, or a stand-in for it or what it lies in."""
    if path in flat:
        return True
    while path:
        path = path.rpartition("/")[0]
        if path in flat:
            return flat[path] is None
    return False


def match(params, masks) -> list[tuple[str, Any, Any]]:
    """(path, leaf, mask or None) for each leaf of `params`.

    Trees are compared by their paths, so that masks from an optimizer state fit, in which Flax
    wraps leaves of other types.

    Raises:
      TypeError: a mask is not bool.
      ValueError: the trees or the shapes differ.
    """
    paths, leaves, _ = flatten(params)
    flat = flatten_masks(masks)
    known = set(paths)  # a None in the params is no leaf, and has none in the masks
    strange = [path for path, mask in flat.items() if mask is not None and path not in known]
    missing = [path for path in paths if not _covers(flat, path)]
    if strange or missing:
        what = f"has {strange[0]!r}, which params lack" if strange else f"lacks {missing[0]!r}"
        raise ValueError(
            f"masks is a tree of another structure: it {what}. Masks have the tree of their "
            "params, with None for dense leaves."
        )
    for path, leaf in zip(paths, leaves, strict=True):
        mask = flat.get(path)
        if mask is None:
            continue
        if getattr(mask, "dtype", None) != jnp.bool_:
            kind = getattr(mask, "dtype", repr(mask))
            raise TypeError(f"the mask of {path} is {kind}; masks are bool arrays, True = keep.")
        if mask.shape != jnp.shape(leaf):
            raise ValueError(
                f"the mask of {path} has shape {mask.shape}, the leaf {jnp.shape(leaf)}; a mask "
                "has the shape of its leaf."
            )
    return [(path, leaf, flat.get(path)) for path, leaf in zip(paths, leaves, strict=True)]


def apply(params, masks):
    """Params with exact zeros where the mask is False.

        where(mask, w, 0): also for infinite and NaN weights

    Use it on any copy of the params, such as a moving average.

    Args:
      params: any pytree.
      masks: bool arrays in the tree of `params`; None leaves a leaf as it is.

    Returns:
      A pytree as `params`, of the same dtypes.

    Raises:
      TypeError: a mask is not bool.
      ValueError: the trees or the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.apply_masks({"w": jnp.array([jnp.inf, 2.0])}, {"w": jnp.array([False, True])})
      {'w': Array([0., 2.], dtype=float32)}
    """
    return jax.tree.unflatten(
        jax.tree.structure(params),
        [
            w if mask is None else jnp.where(mask, w, jnp.zeros((), jnp.asarray(w).dtype))
            for _, w, mask in match(params, masks)
        ],
    )


def from_zeros(params, *, rules=()):
    """Masks of the zeros that params have: False where a prunable weight is exactly 0.

    What is prunable is decided as in `make`. To train on from a pruned checkpoint, pass the masks
    to `keep`.

    Args:
      params: any pytree of arrays.
      rules: `Rule`s by path, of which only `dense` matters here.

    Returns:
      A pytree as `params`: bool arrays, and None where a leaf is dense.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.masks.from_zeros({"kernel": jnp.array([[0.0, 2.0], [-0.0, 1.0]])})
      {'kernel': Array([[False,  True],
             [False,  True]], dtype=bool)}
    """
    chosen = options(magnitude, Unstructured(), "leaf", None, rules, None, None)
    setup, _ = resolve(params, chosen)
    _, leaves, structure = flatten(params)
    return place(setup, [jnp.asarray(leaves[t.index]) != 0 for t in setup.targets], structure)


def density(masks) -> float:
    """Fraction of True, over all masks of a tree, counted exactly on the host.

    Args:
      masks: a pytree of bool arrays; None is skipped.

    Returns:
      A float in [0, 1]; 1.0 for a tree without masks or elements.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.masks.density({"a": jnp.array([True, False]), "b": None})
      0.5
    """
    kept, size = 0, 0
    for mask in jax.tree.leaves(masks):
        kept += num_kept(mask)
        size += mask.size
    return kept / size if size else 1.0


def num_kept(mask) -> int:
    """How many are True, counted on the host, exactly whatever the size."""
    return int(np.count_nonzero(np.asarray(mask)))


def overlap(a, b) -> float:
    """How alike two trees of masks are: what both keep over what either keeps (Jaccard).

    Args:
      a, b: pytrees of bool arrays of one structure.

    Returns:
      A float in [0, 1]; 1.0 where neither keeps anything.

    Raises:
      ValueError: the trees or the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.masks.overlap([jnp.array([True, True])], [jnp.array([True, False])])
      0.5
    """
    both, either = 0, 0
    for path, x, y in match(a, b):
        if y is None:
            raise ValueError(f"the mask of {path} is missing in the second tree.")
        x, y = np.asarray(x), np.asarray(y)
        both += int(np.count_nonzero(x & y))
        either += int(np.count_nonzero(x | y))
    return both / either if either else 1.0


def pack(masks, *, axis: int = 0):
    """Masks as bits: eight to a byte along an axis, for storage.

    Packing runs along one axis and leaves the others as they are, so a mask that is sharded along
    another axis keeps its sharding.

    Args:
      masks: a pytree of bool arrays.
      axis: which axis of each array to shorten to ceil(n / 8); scalars get one axis of length 1.

    Returns:
      A pytree of uint8 arrays; the first of eight is the highest bit.

    Raises:
      TypeError: a leaf is not bool.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> jaxprune.masks.pack(jnp.array([True, False, True]))
      Array([160], dtype=uint8)
    """
    paths, leaves, structure = flatten(masks)
    packed = []
    for path, mask in zip(paths, leaves, strict=True):
        if getattr(mask, "dtype", None) != jnp.bool_:
            kind = getattr(mask, "dtype", repr(mask))
            raise TypeError(f"pack: {path} is {kind}; masks are bool arrays, True = keep.")
        mask = jnp.atleast_1d(mask)
        axes.normalize(axis, mask.ndim, f"pack: {path}")
        packed.append(jnp.packbits(mask, axis=axis))
    return jax.tree.unflatten(structure, packed)


def unpack(packed, like, *, axis: int = 0):
    """The masks that `pack` packed.

    Args:
      packed: what `pack` returned.
      like: a pytree of the same structure whose leaves have the shapes of the masks: params will
        do, with None where a mask is None.
      axis: the axis that was given to `pack`.

    Returns:
      A pytree of bool arrays.

    Raises:
      ValueError: a leaf cannot come from a mask of the shape given.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> mask = jnp.array([True, False, True])
      >>> jaxprune.masks.unpack(jaxprune.masks.pack(mask), mask)
      Array([ True, False,  True], dtype=bool)
    """
    paths, leaves, structure = flatten(packed)
    shapes = structure.flatten_up_to(_only_where(packed, like))
    masks = []
    for path, bits, leaf in zip(paths, leaves, shapes, strict=True):
        shape = jnp.shape(leaf)
        full = shape or (1,)
        short = axes.normalize(axis, len(full), f"unpack: {path}")
        cut = list(full)
        cut[short] = math.ceil(full[short] / 8)
        if bits.dtype != jnp.uint8 or bits.shape != tuple(cut):
            raise ValueError(
                f"unpack: {path or 'the leaf'} is {bits.dtype}{list(bits.shape)}; a mask of shape "
                f"{shape} packs along axis {axis} to uint8{cut}."
            )
        if bits.size == 0:
            masks.append(jnp.zeros(shape, bool))
            continue
        bools = jnp.unpackbits(bits, axis=axis, count=full[axis]).astype(bool)
        masks.append(bools.reshape(shape))
    return jax.tree.unflatten(structure, masks)


def _only_where(packed, like):
    """`like` with None where `packed` has None."""
    return jax.tree.map(
        lambda bits, leaf: None if bits is None else leaf,
        packed,
        like,
        is_leaf=lambda x: x is None,
    )
