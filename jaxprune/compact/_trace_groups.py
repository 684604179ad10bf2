"""From a call to the groups of parameter axes that are tied in it."""

import sys
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune._program import is_array, trace
from jaxprune._tree import flatten
from jaxprune.compact import _axes, _zeros
from jaxprune.compact._axes import Atom, Axis, freeze
from jaxprune.compact._graph import graph
from jaxprune.compact._groups import Frozen, Group, Groups, Leaf, Member
from jaxprune.compact._tie import tie
from jaxprune.compact._ties import Ties
from jaxprune.masks._targets import check_distinct

_STATE = frozenset({"mean", "var"})
"""Names of leaves that are running statistics, where nothing else tells."""


def trace_groups(apply, params, *args) -> Groups:
    """Finds which axes of parameters have to be cut together for a model to become smaller.

    The call is traced, not run. Every axis in it is a product, or a concatenation, of parts; what
    adds, multiplies or contracts two values ties their parts, and reshapes, slices and
    concatenations take parts apart. What is tied to no input, result, window or lookup is a group,
    whose units can be cut: output channels of a convolution with the scale and bias of its norm,
    the channels of all convolutions of a residual stage, heads, features of a head, both halves of
    a gated unit.

    Nothing is declared, and what is not known is never cut: an operation without a rule keeps the
    axes that it reads whole, and the reason can be read in the table.

    Args:
      apply: the model, a pure function `apply(params, *args)`, as in inference: training has batch
        statistics for results, and what is a result stays whole. For linen `model.apply`, for NNX
        the function that merges a state, for Equinox one that calls the module.
      params: all that is to be cut: any pytree of arrays, of the parameters alone or with running
        statistics, `{"params": ..., "batch_stats": ...}`, an `nnx.State`, a module. Leaves may be
        `jax.ShapeDtypeStruct`s.
      *args: what else apply takes; arrays or `jax.ShapeDtypeStruct`s of any batch size.

    Returns:
      A `Groups`, which prints as a table. A group is flagged where cutting it is not the same as
      masking it: something is computed across its units from values that masked weights do not make
      0, such as a softmax.

      State, which is cut but neither scored nor masked, is what lies beside "params" at the top of
      a mapping, any `nnx.Variable` that is no `nnx.Param`, and leaves called mean or var.

    Raises:
      TypeError: apply is no function, or needs values where there are only shapes.
      ValueError: apply fails for these shapes, or uses no real floating leaf of params; two leaves
        have one path.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxprune import compact
      >>> def apply(params, x):
      ...     return jax.nn.relu(x @ params["up"]) @ params["down"]
      >>> params = {"up": jnp.ones((3, 8)), "down": jnp.ones((8, 2))}
      >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 3)))
      >>> [(group.name, group.size, *map(str, group.members)) for group in groups]
      [('up[1]', 8, 'down[0]', 'up[1]')]

    References:
      Fang et al., DepGraph: towards any structural pruning, arXiv 2301.12900.
    """
    traced = _traced(apply, params, args)
    ties = tie(graph(traced.jaxpr))
    body = ties.graph.body
    leaves = _leaves(params)
    arrays = [i for i in traced.places if i < len(leaves)]
    numbers = dict(zip(arrays, body.inputs, strict=False))
    known = {i: leaf for i, leaf in enumerate(leaves) if leaf is not None and i in numbers}
    for number in body.inputs[len(arrays) :]:
        _freeze_all(ties, number, "an argument")
    for number in body.outputs:
        _freeze_all(ties, number, "a result")
    used = {root for axis in ties.used for root in _axes.roots(axis)}
    for i, leaf in known.items():
        for axis in ties.of(numbers[i]):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                freeze(axis, f"the leaf is {leaf.dtype}")
            for root in _axes.roots(axis):
                if root not in used:
                    freeze((root,), "the call does not use it")
                if len(_units(axis, root)) > 1:
                    freeze((root,), "it is multiplied with itself")
    weights = [numbers[i] for i, leaf in known.items() if leaf.weight]
    read = {root for n in weights for axis in ties.of(n) for root in _axes.roots(axis)}
    if not read & used and not any(ties.graph.shapes[n] == () for n in weights):
        raise ValueError(
            "the call uses no real floating leaf of params; the order is (apply, params, *args)."
        )
    flags = _zeros.unequal(ties, weights)
    made = {root for axis in ties.made for root in _axes.roots(axis)}
    found = _found(ties, {i: numbers[i] for i in known}, leaves)
    groups, roots = [], {}
    for root, (name, members) in found.items():
        groups.append(
            Group(
                name=name,
                size=root.size,
                members=tuple(members),
                flags=tuple(flags.get(root, ())),
                ordered="what is no parameter runs along it" if root in made else None,
                step=min(int((member.units == 0).sum()) for member in members),
            )
        )
        roots[name] = root
    return Groups(
        groups=tuple(groups),
        frozen=tuple(_frozen(ties, {i: numbers[i] for i in known}, leaves)),
        leaves=tuple(leaf for leaf in leaves if leaf is not None),
        apply=apply,
        structure=flatten(params)[2],
        paths=tuple(traced.paths),
        _ties=ties,
        _roots=roots,
        _numbers={leaf.path: numbers[i] for i, leaf in known.items()},
    )


def _traced(apply, params, args):
    try:
        return trace(apply, params, args)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        raise TypeError(
            "apply makes shapes, or decisions of Python, of values, which a trace does not have: "
            f"{error}"
        ) from error
    except Exception as error:
        if not callable(apply):
            raise
        shapes = [tuple(x.shape) for x in jax.tree.leaves(args) if is_array(x)]
        raise ValueError(
            f"apply cannot be traced with these params and arguments of shapes {shapes}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _freeze_all(ties: Ties, number: int, why: str):
    for axis in ties.of(number):
        freeze(axis, why)


def _leaves(params) -> list[Leaf | None]:
    """What is known of the leaves, None for those that are no arrays."""
    paths, leaves, _ = flatten(params)
    check_distinct(paths)
    state = _state_paths(params, paths)
    return [
        Leaf(
            path,
            tuple(leaf.shape),
            leaf.dtype,
            path not in state and jnp.issubdtype(leaf.dtype, jnp.floating),
        )
        if is_array(leaf)
        else None
        for path, leaf in zip(paths, leaves, strict=True)
    ]


def _state_paths(params, paths) -> set[str]:
    """Paths of leaves that are state and no parameters."""
    if isinstance(params, Mapping) and "params" in params:
        return {path for path in paths if path.split("/")[0] != "params"}
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None:

        def is_variable(node):
            return isinstance(node, nnx.Variable)

        nodes = flatten(params, is_leaf=is_variable)
        if any(map(is_variable, nodes[1])):
            pairs = zip(*nodes[:2], strict=True)
            other = [path for path, node in pairs if not isinstance(node, nnx.Param)]
            return {path for path in paths for top in other if f"{path}/".startswith(f"{top}/")}
    return {path for path in paths if path.split("/")[-1] in _STATE}


def _found(ties: Ties, numbers: Mapping[int, int], leaves):
    """Root -> name and members, in the order of first use."""
    order: dict[int, int] = {}
    for node in _nodes(ties.graph.body):
        for number in node.inputs:
            order.setdefault(number, len(order))
    found: dict[Atom, tuple[str, list[Member]]] = {}
    for i in sorted(numbers, key=lambda i: order.get(numbers[i], len(order))):
        if not leaves[i].weight:
            continue
        for j, axis in reversed(list(enumerate(ties.of(numbers[i])))):
            free = [root for root in dict.fromkeys(_axes.roots(axis)) if not root.frozen]
            for k, root in enumerate(free):
                name = f"{leaves[i].path}[{j}]" + (f".{k}" if len(free) > 1 else "")
                found.setdefault(root, (name, []))
    for i, number in numbers.items():
        for j, axis in enumerate(ties.of(number)):
            for root in dict.fromkeys(_axes.roots(axis)):
                if root in found:
                    for units in _units(axis, root):
                        found[root][1].append(Member(leaves[i].path, j, units))
    return found


def _nodes(body) -> Iterator:
    for node in body.nodes:
        yield node
        for inner in node.bodies:
            yield from _nodes(inner)


def _units(axis: Axis, root: Atom) -> list[np.ndarray]:
    """The unit of a root at each index of an axis, for each time that it is a factor of it."""
    parts = _axes.expand(axis)
    made = []
    for i, atom in enumerate(parts):
        if atom is root:
            own = [np.arange(root.size, dtype=np.int32)]
        elif atom.pieces is not None:
            own = _beside([(_axes.size(p), _units(p, root)) for p in _axes.pieces(atom)])
        else:
            continue
        before, after = _axes.size(tuple(parts[:i])), _axes.size(tuple(parts[i + 1 :]))
        made += [np.tile(np.repeat(units, after), before) for units in own]
    return made


def _beside(parts) -> list[np.ndarray]:
    """Units in a concatenation, given the sizes of the pieces and the units in each."""
    number = max(len(units) for _, units in parts)
    rows = [
        [units[k] if k < len(units) else np.full((n,), -1, np.int32) for n, units in parts]
        for k in range(number)
    ]
    return [np.concatenate(row) for row in rows]


def _frozen(ties: Ties, numbers: Mapping[int, int], leaves) -> Iterator[Frozen]:
    for i, number in numbers.items():
        for j, axis in enumerate(ties.of(number)):
            for root in dict.fromkeys(_axes.roots(axis)):
                if root.frozen and leaves[i].weight:
                    yield Frozen(leaves[i].path, j, root.size, root.frozen)
