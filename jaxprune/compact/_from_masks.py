"""What masks leave of each group."""

import numpy as np

from jaxprune._program import is_array
from jaxprune._tree import flatten
from jaxprune.compact._groups import Group, Groups
from jaxprune.compact._plan import Plan


def plan_from_masks(
    groups: Groups, masks, under: str | None = None, *, flagged: bool = False
) -> Plan:
    """Keeps the units that masks, or zeros, leave.

        a unit is removed  <=>  all its weights are, in every leaf that it runs through

    So what is cut is what the masked model does not use, whatever made the masks: after training
    with `plan.pattern`, the units that the mask engine removed.

    Args:
      groups: from `trace_groups`.
      masks: a tree as was traced of bool arrays, True = keep, and None for dense leaves, as
        `jaxprune.get_masks` gives; or of weights, of which zeros are removed.
      under: the key under which such a tree lies in the tree that was traced, as in `Plan.masks`.
      flagged: whether groups are cut whose flags say that this is not the same as masking them.

    Returns:
      A `Plan` of all groups, or of all without flags. Of a group of which nothing is left the first
      unit stays, as arrays of size 0 are no layers.

    Raises:
      ValueError: an array has another shape than its leaf, or none is of a leaf that was traced.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import compact
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["up"]) @ params["down"]
      >>> params = {"up": jnp.array([[1.0, 0.0, 0.0]]), "down": jnp.array([[1.0], [2.0], [0.0]])}
      >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 1)))
      >>> compact.plan_from_masks(groups, params).kept["up[1]"]
      array([ True,  True, False])
    """
    left = _left(groups, masks, "" if under is None else f"{under}/")
    weights = {leaf.path for leaf in groups.leaves if leaf.weight}
    return Plan(
        groups,
        {group.name: _kept(group, left, weights) for group in groups if flagged or not group.flags},
    )


def _left(groups: Groups, masks, prefix: str) -> dict[str, np.ndarray]:
    """Path of a leaf -> which weights are left."""
    shapes = {leaf.path: leaf.shape for leaf in groups.leaves}
    paths, leaves, _ = flatten(masks)
    left = {}
    for path, leaf in zip(paths, leaves, strict=True):
        shape = shapes.get(prefix + path)
        if shape is None or not is_array(leaf):
            continue
        if shape != np.shape(leaf):
            raise ValueError(
                f"masks has {path} of shape {np.shape(leaf)}; its leaf had {shape} when it was "
                "traced."
            )
        left[prefix + path] = np.asarray(leaf) != 0
    if not left:
        raise ValueError(
            "masks has no array of a leaf that was traced: its paths are "
            f"{', '.join(paths[:4])}, those that were traced {', '.join(list(shapes)[:4])}. Say "
            "under= if masks are of a part."
        )
    return left


def _kept(group: Group, left: dict[str, np.ndarray], weights) -> np.ndarray:
    kept = np.zeros((group.size,), bool)
    for member in group.members:
        if member.path not in weights:
            continue
        if member.path not in left:
            return np.ones((group.size,), bool)
        mask = left[member.path]
        alive = mask.any(tuple(i for i in range(mask.ndim) if i != member.axis))
        kept[member.units[alive & (member.units >= 0)]] = True
    if not kept.any():
        kept[0] = True
    return kept
