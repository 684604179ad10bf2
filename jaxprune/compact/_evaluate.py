"""Runs a program on arrays that were cut: sizes that it was traced with become those kept."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._program import bind, scan_arity
from jaxprune.compact import _axes
from jaxprune.compact._axes import Atom, Axis
from jaxprune.compact._graph import CUSTOM, REMAT, Body, Node, graph
from jaxprune.compact._ties import MADE, Ties, tie

Kept = Sequence[np.ndarray | None]
"""For each axis of an array which indices are kept; None: all."""


_ALL = np.ones((1,), bool)


class Keep:
    """Which indices of atoms are kept; of others all are."""

    def __init__(self, of: dict[Atom, np.ndarray] | None = None):
        self.of = {} if of is None else of

    def assign(self, axis: Axis, kept: np.ndarray | None):
        """Says which indices of an axis are kept.

        Raises:
          ValueError: that cannot be, and why.
        """
        kept = np.ones((_axes.size(axis),), bool) if kept is None else kept
        parts = _axes.expand(axis)
        grid = kept.reshape([atom.size for atom in parts])
        vectors = [
            np.asarray(grid.any(tuple(j for j in range(len(parts)) if j != i)))
            for i in range(len(parts))
        ]
        if not np.array_equal(_outer(vectors), kept):
            raise ValueError("indices are kept there that do not go together")
        for atom, vector in zip(parts, vectors, strict=True):
            self._assign(atom, vector)

    def _assign(self, atom: Atom, kept: np.ndarray):
        if atom.pieces is not None:
            start = 0
            for piece in _axes.pieces(atom):
                n = _axes.size(piece)
                self.assign(piece, kept[start : start + n])
                start += n
        elif atom.frozen and not kept.all():
            raise ValueError(f"here it has to stay whole: {atom.frozen}")
        elif not np.array_equal(self.of.setdefault(atom, kept), kept):
            raise ValueError("here it is tied to an axis of which other indices are kept")

    def vector(self, axis: Axis) -> np.ndarray | None:
        """Which indices of an axis are kept; None: all."""
        return self._vector(axis) if self.is_cut(axis) else None

    def _vector(self, axis: Axis) -> np.ndarray:
        made = []
        for atom in _axes.expand(axis):
            if atom.pieces is not None:
                made.append(np.concatenate([self._vector(p) for p in _axes.pieces(atom)]))
            else:
                made.append(self.of[atom] if atom in self.of else np.ones((atom.size,), bool))
        return _outer(made)

    def is_cut(self, axis: Axis) -> bool:
        """Whether not all indices of an axis are kept."""
        return any(not self.of.get(root, _ALL).all() for root in _axes.roots(axis))

    def size(self, axis: Axis):
        """How many indices of an axis are kept."""
        return math.prod(self._size(atom) for atom in _axes.expand(axis))

    def _size(self, atom: Atom):
        if atom.pieces is not None:
            return sum(self.size(piece) for piece in _axes.pieces(atom))
        return int(self.of[atom].sum()) if atom in self.of else atom.size

    def cut(self, array, axes: Sequence[Axis]):
        """What is kept of an array."""
        return take(array, [self.vector(axis) for axis in axes])


def _outer(vectors) -> np.ndarray:
    """Row-major: an index is kept if its part in each vector is."""
    made = np.ones((1,), bool)
    for vector in vectors:
        made = (made[:, None] & vector).reshape(-1)
    return made


def take(array, kept: Kept):
    """An array at the indices that are kept."""
    for i, vector in enumerate(kept):
        if vector is not None:
            module = np if isinstance(array, np.ndarray) else jnp
            array = module.take(array, np.flatnonzero(vector), axis=i)
    return array


def evaluate(jaxpr, kept: Sequence[Kept], names: Sequence[str], values) -> list:
    """What a program makes of arrays that were cut.

    Args:
      jaxpr: closed, traced at the shapes before the cut.
      kept: for each argument what is kept along its axes.
      names: of the arguments, for messages.
      values: the arguments, cut.

    Raises:
      ValueError: the program ties what was cut to what was not.
    """
    ties = tie(graph(jaxpr))
    return Evaluation(ties, seeded(ties, kept, names)).run(ties.graph.body, values)


def seeded(ties: Ties, kept: Sequence[Kept], names: Sequence[str]) -> Keep:
    """What is kept in a program, given what is kept of its arguments."""
    keep = Keep()
    for number, vectors, name in zip(ties.graph.body.inputs, kept, names, strict=True):
        for i, (axis, vector) in enumerate(zip(ties.of(number), vectors, strict=True)):
            if vector is None and not all(isinstance(n.size, int) for n in axis):
                continue
            try:
                keep.assign(axis, vector)
            except ValueError as error:
                raise ValueError(f"axis {i} of {name}: {error}.") from None
    return keep


class Evaluation:
    """A program and what is kept in it."""

    def __init__(self, ties: Ties, keep: Keep):
        self.ties, self.keep = ties, keep

    def run(self, body: Body, values) -> list:
        """The results of a program or a body, given its arguments."""
        known = dict(zip(body.inputs, values, strict=True))

        def read(number):
            if number not in known:
                constant = self.ties.graph.constants[number]
                known[number] = self.keep.cut(constant, self.ties.of(number))
            return known[number]

        for node in body.nodes:
            made = self._node(node, [read(number) for number in node.inputs])
            known |= dict(zip(node.outputs, made, strict=True))
        return [read(number) for number in body.outputs]

    def kept(self, number: int) -> list[np.ndarray | None]:
        """What is kept along the axes of a value."""
        return [self.keep.vector(axis) for axis in self.ties.of(number)]

    def sizes(self, number: int) -> tuple:
        """The shape of a value that was cut."""
        return tuple(self.keep.size(axis) for axis in self.ties.of(number))

    def is_cut(self, node: Node) -> bool:
        """Whether an operation meets anything that was cut."""
        numbers = (*node.inputs, *node.outputs)
        axes = (axis for number in numbers for axis in self.ties.of(number))
        return any(map(self.keep.is_cut, axes)) or any(
            self.is_cut(inner) for body in node.bodies for inner in body.nodes
        )

    def _node(self, node: Node, values) -> list:
        if not self.is_cut(node):
            return bind(node.eqn, values)
        name = node.name
        if name in MADE:
            made = bind(node.eqn, values)
            return [take(x, self.kept(n)) for x, n in zip(made, node.outputs, strict=True)]
        if name in CUSTOM:
            return self._custom(node, values)
        if name in REMAT:
            params = {name: node.params[name] for name in ("prevent_cse", "policy")}
            call = functools.partial(self._flat, node.bodies[0])
            return list(jax.checkpoint(call, **params)(*values))
        if name in _LOOPS:
            return _LOOPS[name](self, node, values)
        if name in _PARAMS:
            return bind(node.eqn, values, node.params | _PARAMS[name](self, node))
        return bind(node.eqn, values)

    def _flat(self, body: Body, *values) -> list:
        return self.run(body, values)

    def _custom(self, node: Node, values) -> list:
        """A call with its own derivative: that is traced before the cut, and cut as well."""
        call = functools.partial(self._flat, node.bodies[0])
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in node.eqn.invars]
        smooth = [i for i, x in enumerate(shapes) if jnp.issubdtype(x.dtype, jnp.inexact)]
        kept = [self.kept(n) for n in node.inputs]
        results = [self.kept(n) for n in node.outputs]

        def whole(rest, *moving):
            operands = list(rest)
            for i, x in zip(smooth, moving, strict=True):
                operands[i] = x
            return bind(node.eqn, operands)

        def cut(function, others, kept_others, values):
            """`function` of all operands and others, before and after the cut."""
            count = len(shapes)
            jaxpr = jax.make_jaxpr(lambda *x: function(x[:count], x[count:]))(*shapes, *others)
            names = [f"an operand of {node.name}"] * len(values)
            return evaluate(jaxpr, [*kept, *kept_others], names, values)

        if node.name == "custom_jvp_call":

            def push(operands, tangents):
                moving = [operands[i] for i in smooth]
                made = jax.jvp(functools.partial(whole, operands), moving, list(tangents))
                return [*made[0], *made[1]]

            def rule(operands, tangents):
                moving = [shapes[i] for i in smooth]
                kept_moving = [kept[i] for i in smooth]
                values = [*operands, *(tangents[i] for i in smooth)]
                made = cut(push, moving, kept_moving, values)
                return made[: len(results)], made[len(results) :]

            smooth_call = jax.custom_jvp(call)
            smooth_call.defjvp(rule)
            return list(smooth_call(*values))

        def pull(operands, cotangents):
            moving = [operands[i] for i in smooth]
            return jax.vjp(functools.partial(whole, operands), *moving)[1](list(cotangents))

        def backward(operands, cotangents):
            made = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in node.eqn.outvars]
            found = dict(
                zip(smooth, cut(pull, made, results, [*operands, *cotangents]), strict=True)
            )
            return tuple(found.get(i) for i in range(len(shapes)))

        with_rule = jax.custom_vjp(call)
        with_rule.defvjp(lambda *operands: (call(*operands), operands), backward)
        return list(with_rule(*values))


def _scan(run: Evaluation, node: Node, values) -> list:
    params, (body,) = node.params, node.bodies
    first, carried = scan_arity(node.eqn)
    constants = values[:first]

    def step(carry, rows):
        made = run.run(body, [*constants, *carry, *rows])
        return made[:carried], made[carried:]

    carry, stacked = lax.scan(
        step,
        values[first : first + carried],
        values[first + carried :],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *stacked]


def _while(run: Evaluation, node: Node, values) -> list:
    test, body = node.bodies
    n, m = node.params["cond_nconsts"], node.params["body_nconsts"]
    first, second, start = values[:n], values[n : n + m], values[n + m :]
    return lax.while_loop(
        lambda carry: run.run(test, [*first, *carry])[0],
        lambda carry: run.run(body, [*second, *carry]),
        start,
    )


def _cond(run: Evaluation, node: Node, values) -> list:
    branches = [functools.partial(run._flat, body) for body in node.bodies]
    return lax.switch(values[0], branches, *values[1:])


_LOOPS = {"cond": _cond, "scan": _scan, "while": _while}


def _before(vector, index, size):
    """How many of the indices before one are kept."""
    return index if vector is None else int(vector[:index].sum())


def _slice(run: Evaluation, node: Node):
    params, kept = node.params, run.kept(node.inputs[0])
    sizes = run.sizes(node.inputs[0])
    strides = params["strides"] or (1,) * len(sizes)
    starts, limits = [], []
    for vector, size, start, limit, stride in zip(
        kept, sizes, params["start_indices"], params["limit_indices"], strides, strict=True
    ):
        if vector is None:
            starts.append(start)
            limits.append(limit)
        elif stride == 1:
            starts.append(_before(vector, start, size))
            limits.append(_before(vector, limit, size))
        else:  # the first of every so many, which are all kept
            starts.append(start)
            limits.append(size)
    return {"start_indices": tuple(starts), "limit_indices": tuple(limits)}


def _pad(run: Evaluation, node: Node):
    (number,) = node.outputs
    made = []
    for vector, (low, high, inner), n in zip(
        run.kept(number),
        node.params["padding_config"],
        run.ties.graph.shapes[number],
        strict=True,
    ):
        if vector is not None:
            low, high = int(vector[:low].sum()), int(vector[n - high :].sum())
        made.append((low, high, inner))
    return {"padding_config": tuple(made)}


def _window_sizes(run: Evaluation, node: Node):
    """Slices of an operand: where they took all of an axis, all that is kept."""
    shape, sizes = run.ties.graph.shapes[node.inputs[0]], run.sizes(node.inputs[0])
    old = node.params["slice_sizes"]
    new = [b if _axes.same(n, a) else n for n, a, b in zip(old, shape, sizes, strict=True)]
    return {"slice_sizes": tuple(new)}


def _tile(run: Evaluation, node: Node):
    (number,), (result,) = node.inputs, node.outputs
    pairs = zip(run.sizes(result), run.sizes(number), strict=True)
    return {"reps": tuple(whole // one for whole, one in pairs)}


_PARAMS = {
    "broadcast_in_dim": lambda run, node: {"shape": run.sizes(node.outputs[0])},
    "conv_general_dilated": lambda run, node: {
        "feature_group_count": run.keep.size(run.ties.groups.get(node, ()))
    },
    "dynamic_slice": _window_sizes,
    "gather": _window_sizes,
    "pad": _pad,
    "reshape": lambda run, node: {"new_sizes": run.sizes(node.outputs[0])},
    "slice": _slice,
    "split": lambda run, node: {
        "sizes": tuple(run.sizes(n)[node.params["axis"]] for n in node.outputs)
    },
    "tile": _tile,
}
"""What changes among the parameters of an operation that meets what was cut."""
