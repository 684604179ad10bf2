"""Units of groups in another order: the same function, with N:M in better company."""

from collections.abc import Mapping

import jax
import numpy as np

from jaxprune._program import is_array
from jaxprune._tree import flatten, replaced
from jaxprune.compact import _axes
from jaxprune.compact._axes import Atom, Axis
from jaxprune.compact._groups import Group, Groups
from jaxprune.compact._keep import at
from jaxprune.patterns import NM, permutation


def permute(groups: Groups, tree, orders: Mapping[str, np.ndarray]):
    """Puts units into another order in every leaf that they run through.

    The model computes what it did: the outputs of a layer change places together with the inputs
    of the next. Sums are added in another order, so results differ by rounding.

    Args:
      groups: from `trace_groups`.
      tree: the tree that was traced.
      orders: name of a group -> int [size]; place i gets the unit `order[i]`.

    Raises:
      ValueError: an order is no permutation; the order of a group counts, as something that is no
        parameter runs along it; the tree is of another model.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import compact
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["up"]) @ params["down"]
      >>> params = {"up": jnp.array([[1.0, 2.0]]), "down": jnp.array([[5.0], [1.0]])}
      >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 1)))
      >>> compact.permute(groups, params, {"up[1]": [1, 0]})
      {'down': Array([[1.],
             [5.]], dtype=float32), 'up': Array([[2., 1.]], dtype=float32)}
    """
    placed: dict[Atom, np.ndarray] = {}
    for name, order in orders.items():
        try:
            group = groups[name]
        except KeyError as error:
            raise ValueError(error.args[0]) from None
        if group.ordered is not None:
            raise ValueError(f"units of {name!r} cannot change places: {group.ordered}.")
        order = np.asarray(order)
        if not np.array_equal(np.sort(order), np.arange(group.size)):
            raise ValueError(f"the order of {name!r} is no permutation of its {group.size} units.")
        placed[groups._roots[name]] = order
    paths, leaves, structure = flatten(tree)
    shapes = {leaf.path: leaf.shape for leaf in groups.leaves}
    new = {}
    for path, leaf in zip(paths, leaves, strict=True):
        if not is_array(leaf):
            continue
        if shapes.get(path) != np.shape(leaf):
            raise ValueError(
                f"{path} of shape {np.shape(leaf)} is not what was traced: {shapes.get(path)}."
            )
        for i, axis in enumerate(groups._ties.of(groups._numbers[path])):
            if placed.keys() & set(_axes.roots(axis)):
                leaf = at(leaf, _indices(axis, placed), i)
        new[path] = leaf
    return replaced(structure, paths, leaves, new)


def _indices(axis: Axis, placed: Mapping[Atom, np.ndarray]) -> np.ndarray:
    """For each index of an axis the one that comes to it."""
    made = np.zeros((1,), np.int64)
    for atom in _axes.expand(axis):
        own = placed.get(atom, np.arange(atom.size))
        if atom.pieces is not None:
            parts = _axes.pieces(atom)
            starts = np.cumsum([0, *map(_axes.size, parts)])
            own = np.concatenate(
                [start + _indices(part, placed) for start, part in zip(starts, parts, strict=False)]
            )
        made = (made[:, None] * atom.size + own).reshape(-1)
    return made


def permutations(
    groups: Groups,
    params,
    pattern: NM = NM(2, 4),  # noqa: B008
    *,
    escapes: int = 0,
    key: jax.Array | None = None,
    sweeps: float | None = None,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Searches for each group an order in which N:M keeps more of the magnitude.

    All kernels that read the units along the pattern's axis are searched together, by
    `patterns.permutation`; the kernels, biases and scales that make them follow in `permute`.

    Args:
      groups: from `trace_groups`.
      params: the tree that was traced, with values.
      pattern: N:M along the inputs of kernels.
      escapes, key, sweeps, progress: as in `patterns.permutation`, for each group.

    Returns:
      Name of a group -> its order. Groups are left out whose order counts, which no kernel reads
      along that axis whole, or in which nothing is gained.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import compact
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["up"]) @ params["down"]
      >>> down = jnp.array([9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 1.0, 1.0])[:, None]
      >>> params = {"up": jnp.ones((4, 8)), "down": down}
      >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 4)))
      >>> orders = compact.permutations(groups, params)
      >>> compact.permute(groups, params, orders)["down"][:, 0]
      Array([9., 8., 1., 1., 7., 6., 1., 1.], dtype=float32)
    """
    paths, leaves, _ = flatten(params)
    arrays = dict(zip(paths, leaves, strict=True))
    read = {group.name: _kernels(group, arrays, pattern) for group in groups if not group.ordered}
    read = {name: kernels for name, kernels in read.items() if kernels}
    keys = [None] * len(read) if key is None else list(jax.random.split(key, max(1, len(read))))
    made = {}
    for (name, kernels), own in zip(read.items(), keys, strict=False):
        found = permutation(
            kernels, pattern, escapes=escapes, key=own, sweeps=sweeps, progress=progress
        )
        if found.after > found.before:
            made[name] = found.order
    return made


def _kernels(group: Group, arrays, pattern: NM):
    """The kernels that read a group along the pattern's axis, of which it is all."""
    if group.size % pattern.m:
        return []
    found = []
    for member in group.members:
        w = arrays[member.path]
        whole = np.array_equal(member.units, np.arange(group.size))
        if w.ndim >= 2 and whole and member.axis == pattern.axis % w.ndim:
            found.append(w)
    return found
