"""What is kept of each group: masks to train with, and smaller arrays to run."""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.core
import numpy as np

from jaxprune import _table
from jaxprune._program import is_array, trace, with_keywords
from jaxprune._tree import flatten
from jaxprune.compact import _costs
from jaxprune.compact._cut import cut
from jaxprune.compact._evaluate import Evaluation
from jaxprune.compact._graph import graph
from jaxprune.compact._groups import Groups
from jaxprune.compact._keep import Keep, Kept, seeded
from jaxprune.compact._pattern import masks, tied
from jaxprune.compact._tie import tie
from jaxprune.patterns import Tied


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Which units of each group are kept. `plan` makes it; it prints as a table.

    Args:
      groups: from `trace_groups`.
      kept: name of a group -> bool [size], True = keep, one at least. Of a group that is not named
        all are kept.

    Raises:
      ValueError: a name is of no group, an array does not fit it, or nothing is kept.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> from jaxprune import compact
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["up"]) @ params["down"]
      >>> params = {"up": jnp.ones((3, 4)), "down": jnp.ones((4, 2))}
      >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 3)))
      >>> plan = compact.Plan(groups, {"up[1]": np.array([True, False, False, True])})
      >>> small = plan.cut(params)
      >>> small["up"].shape, small["down"].shape, plan.apply(small, jnp.ones((5, 3))).shape
      ((3, 2), (2, 2), (5, 2))
    """

    groups: Groups
    kept: Mapping[str, np.ndarray]

    def __post_init__(self):
        copies = {name: np.array(kept) for name, kept in self.kept.items()}
        object.__setattr__(self, "kept", types.MappingProxyType(copies))
        for name, kept in copies.items():
            kept.flags.writeable = False
            try:
                size = self.groups[name].size
            except KeyError as error:
                raise ValueError(error.args[0]) from None
            if kept.dtype != bool or kept.shape != (size,):
                raise ValueError(
                    f"kept of {name!r} is {kept.dtype} {kept.shape}; it must be bool {(size,)}."
                )
            if not kept.any():
                raise ValueError(f"kept of {name!r} keeps nothing; the model would end there.")

    @functools.cached_property
    def _keep(self) -> Keep:
        roots = self.groups._roots
        return Keep({roots[name]: kept for name, kept in self.kept.items()})

    @functools.cached_property
    def _vectors(self) -> dict[str, Kept]:
        """For each leaf what is kept along its axes."""
        ties, numbers = self.groups._ties, self.groups._numbers
        return {
            leaf.path: [self._keep.vector(axis) for axis in ties.of(numbers[leaf.path])]
            for leaf in self.groups.leaves
        }

    @property
    def widths(self) -> dict[str, int]:
        """Name of each group -> how many of its units are kept."""
        return {
            group.name: int(np.sum(self.kept[group.name]))
            if group.name in self.kept
            else group.size
            for group in self.groups
        }

    @property
    def sparsity(self) -> float:
        """Fraction of the units of the groups named that is removed."""
        total = sum(np.size(kept) for kept in self.kept.values())
        return 1 - sum(int(np.sum(kept)) for kept in self.kept.values()) / total if total else 0.0

    @property
    def parameters(self) -> tuple[int, int]:
        """Weights before and after."""
        return self._before_and_after(_costs.parameters)

    @property
    def macs(self) -> tuple[int, int]:
        """Multiply-adds of the call that was traced, before and after."""
        return self._before_and_after(_costs.macs)

    @property
    def bytes(self) -> tuple[int, int]:
        """Bytes of the weights before and after."""
        return self._before_and_after(_costs.num_bytes)

    def _before_and_after(self, cost) -> tuple[int, int]:
        return cost(self.groups, Keep()), cost(self.groups, self._keep)

    def masks(self, under: str | None = None):
        """Masks that remove the same units: to train with `keep`, or to compare.

        Args:
          under: the key whose subtree is wanted, such as "params" of Flax variables. None: the
            whole tree that was traced.

        Returns:
          A tree of bool arrays; None for leaves without removed parts, and for state.

        Raises:
          ValueError: the tree has no such subtree.
        """
        return masks(self.groups, self._vectors, under)

    def pattern(self, under: str | None = None) -> Tied:
        """The groups as a pattern of `prune`, which trains towards these widths.

        How many units a group keeps in the end is what the plan says; which ones the scores say, at
        each event anew. Give the schedule any final sparsity: it only says how far along it is.

        Args:
          under: as in `masks`, "params" where the optimizer has that part of Flax variables.

        Example:
          >>> import jax.numpy as jnp, optax
          >>> import jaxprune
          >>> from jaxprune import compact
          >>> def apply(params, x):
          ...     return jnp.tanh(x @ params["up"]) @ params["down"]
          >>> params = {"up": jnp.ones((3, 4)), "down": jnp.ones((4, 2))}
          >>> groups = compact.trace_groups(apply, params, jnp.ones((1, 3)))
          >>> plan = compact.plan(groups, params, sparsity=0.5, multiple=1)
          >>> schedule = jaxprune.polynomial(plan.sparsity, begin=0, end=10)
          >>> tx = jaxprune.prune(optax.adam(1e-3), sparsity=schedule, pattern=plan.pattern())
        """
        return tied(self.groups, {name: self.widths[name] for name in self.kept}, under)

    def cut(self, tree):
        """Smaller arrays: of params, running statistics, an optimizer's state, gradients.

        Args:
          tree: the tree that was traced, a part of it, or a tree that holds such: leaves are known
            by the ends of their paths, also without the "params" of Flax variables. What is not
            known stays as it is. Of the state of `prune` or `keep` give the `inner_state`.

        Returns:
          The tree with smaller arrays. Weights that are kept are the same, bit for bit.

        Raises:
          ValueError: the tree is of another model: no leaf is known, or one has another shape.
        """
        return cut(tree, self._vectors)

    @functools.cached_property
    def apply(self) -> Callable[..., Any]:
        """The function that was traced, for params that were cut."""
        return self.wrap(self.groups.apply)

    def wrap(self, function) -> Callable[..., Any]:
        """Makes a function of the dense params one of params that were cut.

        The function is traced with dense shapes, and its program run on what is kept, so that
        numbers which it made of shapes, such as 1 / sqrt(head size) or the N of a mean, stay as
        they were trained. That happens once for each kind of arguments; call it under jit.
        Derivatives, other batch sizes and lengths, random numbers, loops, `jax.checkpoint` and
        custom derivatives go through; mutable state may be returned, and comes out cut.

        As under jit, what the function reads beside its arguments is read once, and leaves of args
        that are no arrays are constants, which must be hashable. Flags are those of the call that
        was traced: whether another function computes the same masked and cut is not looked into.

        Args:
          function: `function(tree, *args, **kwargs)` of a tree as was traced, such as a loss, or
            apply in training.

        Returns:
          A function of the cut tree and the same arguments.

        Raises:
          TypeError: when called, with an argument that is neither array nor hashable.
          ValueError: when called, with a tree that was not cut like this, or if the function ties
            removed parts to what stays whole, which the traced call did not.
        """
        cache: dict[Any, tuple[Any, Evaluation]] = {}

        @functools.wraps(function)
        def run(tree, *args, **kwargs):
            paths, leaves, structure = flatten(tree)
            self._check_cut(paths, leaves)
            others, rest = jax.tree.flatten((args, kwargs))
            key = structure, rest, tuple(map(_kind, [*leaves, *others]))
            if key not in cache:
                dense = {leaf.path: leaf.shape for leaf in self.groups.leaves}
                whole = [
                    _struct(x, dense[path]) if is_array(x) else x
                    for path, x in zip(paths, leaves, strict=True)
                ]
                shapes = [_struct(x) if is_array(x) else x for x in others]
                rebuilt = jax.tree.unflatten(rest, shapes)
                traced = trace(with_keywords(function), structure.unflatten(whole), rebuilt)
                evaluation = self._evaluation(traced)
                if any(isinstance(x, jax.core.Tracer) for x in traced.jaxpr.consts):
                    return _run(traced, evaluation, [*leaves, *others])  # not to outlive its trace
                cache[key] = traced, evaluation
            return _run(*cache[key], [*leaves, *others])

        return run

    def _evaluation(self, traced) -> Evaluation:
        ties = tie(graph(traced.jaxpr))
        count = len(traced.leaves)
        ranks = [len(ties.graph.shapes[n]) for n in ties.graph.body.inputs]
        inside = [i < count for i in traced.places]
        names = [traced.paths[i] if i < count else "an argument" for i in traced.places]
        kept = [
            self._vectors[name] if own else [None] * rank
            for name, own, rank in zip(names, inside, ranks, strict=True)
        ]
        try:
            return Evaluation(ties, seeded(ties, kept, names))
        except ValueError as error:
            raise ValueError(
                f"the function cannot be run on what the plan keeps; {error} Trace the groups with "
                "a call that does the same, or wrap the model alone."
            ) from None

    def _check_cut(self, paths, leaves):
        shapes = {p: np.shape(x) for p, x in zip(paths, leaves, strict=True) if is_array(x)}
        for leaf in self.groups.leaves:
            vectors = self._vectors[leaf.path]
            wanted = tuple(
                n if v is None else int(v.sum()) for n, v in zip(leaf.shape, vectors, strict=True)
            )
            if shapes.pop(leaf.path, None) != wanted:
                raise ValueError(
                    f"{leaf.path} must have the shape {wanted} that the plan leaves it; give the "
                    "tree that plan.cut made of the tree that was traced."
                )
        if shapes:
            raise ValueError(f"{next(iter(shapes))} was not there when the groups were traced.")

    def __repr__(self):
        return f"Plan({self.sparsity:.1%} of the units of {len(self.kept)} groups)"

    def __str__(self):
        """A table; raises ImportError without rich."""
        widths = self.widths
        rows = [
            [g.name, f"{g.size}", f"{widths[g.name]}", "" if g.name in self.kept else "not planned"]
            for g in self.groups
        ]
        footer = [
            [name, f"{before:,}", f"{after:,}", _table.percent(after / before if before else 1.0)]
            for name, (before, after) in {
                "parameters": self.parameters,
                "multiply-adds": self.macs,
                "bytes": self.bytes,
            }.items()
        ]
        columns = ["group", "units", "kept", ""]
        return _table.render("the table of a plan", columns, rows, footer=footer)


def _struct(x, shape=None):
    kind = jax.typeof(x)
    shape = kind.shape if shape is None else shape
    return jax.ShapeDtypeStruct(shape, kind.dtype, weak_type=kind.weak_type)


def _kind(x):
    if not is_array(x):
        return type(x), x  # 1 and True are equal, but not the same program
    kind = jax.typeof(x)
    return kind.shape, kind.dtype, kind.weak_type


def _run(traced, evaluation: Evaluation, leaves):
    arrays = [leaves[i] for i in traced.places]
    return traced.rebuilt(evaluation.run(evaluation.ties.graph.body, arrays))
