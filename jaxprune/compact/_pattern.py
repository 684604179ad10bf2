"""Groups as a pattern of the mask engine, and their scores."""

from collections.abc import Mapping

import numpy as np

from jaxprune.compact._groups import Groups
from jaxprune.compact._keep import Kept
from jaxprune.masks._unit_scores import unit_scores
from jaxprune.patterns import Group, Member, Tied
from jaxprune.scores import magnitude


def tied(groups: Groups, keep: Mapping[str, int | None], under: str | None = None) -> Tied:
    """The pattern of some groups.

    Args:
      groups: of a call.
      keep: name of a group -> how many units it keeps in the end; None: as the sparsity says.
      under: the key under which the tree that is pruned lies in the tree that was traced.
    """
    weights = {leaf.path: leaf.shape for leaf in groups.leaves if leaf.weight}
    prefix = "" if under is None else f"{under}/"
    members = []
    for number, name in enumerate(keep):
        for member in groups[name].members:
            if member.path not in weights:
                continue
            if not member.path.startswith(prefix):
                raise ValueError(
                    f"under={under!r}, but group {name!r} has a member {member.path}, which does "
                    "not lie there."
                )
            path = member.path.removeprefix(prefix)
            shape = weights[member.path]
            members.append(Member(path, shape, member.axis, number, member.units))
    sizes = [Group(name, groups[name].size, kept) for name, kept in keep.items()]
    return Tied(tuple(sizes), tuple(members))


def masks(groups: Groups, kept: Mapping[str, Kept], under: str | None):
    """The tree that was traced, or a subtree, with masks in the place of what loses weights.

    Args:
      groups: of a call.
      kept: path of each leaf -> what is kept along its axes.
      under: the key of the subtree.
    """
    made = {}
    for leaf in groups.leaves:
        vectors = kept[leaf.path]
        if leaf.weight and any(v is not None for v in vectors):
            mask = np.ones(leaf.shape, bool)
            for i, vector in enumerate(vectors):
                if vector is not None:
                    mask &= np.expand_dims(vector, [j for j in range(len(leaf.shape)) if j != i])
            made[leaf.path] = mask
    tree = groups.structure.unflatten([made.get(path) for path in groups.paths])
    if under is None:
        return tree
    try:
        return tree[under]
    except (KeyError, TypeError, IndexError):
        raise ValueError(
            f"under={under!r}, but the tree that was traced has no such part."
        ) from None


def group_scores(
    groups: Groups, params, *, score=magnitude, rules=(), grads=None, memory=None
) -> dict[str, np.ndarray]:
    """Scores of the units of each group: any criterion, summed over all weights of a unit.

    Args:
      groups: from `trace_groups`.
      params: a tree as was traced, with values.
      score, rules, grads, memory: as in `masks.make`; of rules only those that choose a score.

    Returns:
      Name of each group -> float32 [size]; higher = keep.

    Raises:
      TypeError, ValueError: params are of another model, or the criterion lacks what it needs.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import compact
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["up"]) @ params["down"]
      >>> params = {"up": jnp.array([[1.0, 2.0]]), "down": jnp.array([[5.0], [1.0]])}
      >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 1)))
      >>> compact.group_scores(groups, params)
      {'up[1]': array([6., 3.], dtype=float32)}
    """
    if not len(groups):
        return {}
    pattern = tied(groups, {group.name: None for group in groups})
    found = unit_scores(params, pattern, score=score, rules=rules, grads=grads, memory=memory)
    return {group.name: np.asarray(x) for group, x in zip(groups, found, strict=True)}
