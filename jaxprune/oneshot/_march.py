"""A call that is run over batches piece by piece, from one depth of pruned products to the next.

Between pieces only those values are held that later pieces read. So the inputs of a layer can be
seen, the layer pruned, and the run go on with the pruned weights, at the cost of one run in all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import _program
from jaxprune.oneshot import _views
from jaxprune.oneshot._equations import FIXED, Program, Site
from jaxprune.oneshot._flatten import flatten
from jaxprune.oneshot._products import Order, Rows


class Piece(NamedTuple):
    """The equations of one depth.

    Attributes:
      run: (values, leaves, constants) -> values, compiled; equal pieces share it.
      inputs, leaves, constants, outputs: numbers of the values that it is given and makes.
    """

    run: Callable
    inputs: tuple[int, ...]
    leaves: tuple[int, ...]
    constants: tuple[int, ...]
    outputs: tuple[int, ...]


class Course(NamedTuple):
    """The pieces of a call on batches of one kind.

    Attributes:
      program: the whole.
      pieces: one for each depth, from 0 on.
      leaf: number of a value -> number of the leaf.
      places: number of a value -> its place among the leaves of the batch.
      sources: what is read, in the first kind of batch, and how -> the same in this kind.
    """

    program: Program
    pieces: list[Piece]
    leaf: dict[int, int]
    places: dict[int, int]
    sources: dict[tuple[int, Rows], tuple[int, Rows]]


class March:
    """A call on the way through its batches.

    Attributes:
      sites: where data meets watched leaves.
      uses: number of a leaf -> what else is done with it, in words.
      depths: how many pieces there are.
    """

    def __init__(self, apply, params, batches, orders: Mapping[int, Order]):
        self._compiled: dict[Any, Callable] = {}
        self._courses: dict[Any, Course] = {}
        self._batches = [jax.tree.leaves(batch) for batch in batches]
        self._of_batch = []
        for number, batch in enumerate(batches):
            kind = _kind(batch)
            if kind not in self._courses:
                try:
                    self._courses[kind] = self._course(apply, params, batch, orders)
                except Exception as error:
                    error.add_note(f"jaxprune: apply(params, batch) was traced on batch {number}.")
                    raise
            self._of_batch.append(self._courses[kind])
        first = self._of_batch[0].program
        self.sites: list[Site] = first.sites
        self.uses: dict[int, list[str]] = first.uses
        self.depths = len(self._of_batch[0].pieces)
        for number, course in enumerate(self._of_batch):
            own = course.program.sites
            if [_place(site) for site in own] != [_place(site) for site in first.sites]:
                raise ValueError(
                    f"apply does not use params with batch {number} as it does with batch 0: their "
                    "shapes lead to different programs. Pass batches of one shape."
                )
            for a, b in zip(first.sites, own, strict=True):
                course.sources[a.value, a.rows] = b.value, b.rows

    def __len__(self):
        """How many batches."""
        return len(self._batches)

    def start(self, number: int) -> dict[int, Any]:
        """The values of a batch that are known before anything has run."""
        places = self._of_batch[number].places
        return {value: self._batches[number][place] for value, place in places.items()}

    def advance(self, depth: int, number: int, known: dict[int, Any], leaves: Sequence[Any]):
        """Runs the piece of one depth on one batch.

        Args:
          depth: of the piece; those before it have run.
          number: of the batch.
          known: values of that batch.
          leaves: the params as they are now.

        Returns:
          The values that are needed from here on.
        """
        course = self._of_batch[number]
        piece = course.pieces[depth]
        made = piece.run(
            [known[i] for i in piece.inputs],
            [leaves[course.leaf[i]] for i in piece.leaves],
            [course.program.constants[i] for i in piece.constants],
        )
        return dict(zip(piece.outputs, made, strict=True))

    def look(self, number: int, known: dict[int, Any], value: int, rows: Rows):
        """(operand, rows) of a site's value in a batch, of whichever kind."""
        value, rows = self._of_batch[number].sources[value, rows]
        return known[value], rows

    def _course(self, apply, params, batch, orders) -> Course:
        traced = _program.trace(apply, params, (batch,))
        program = Program(orders)
        arguments, leaf, places = [], {}, {}
        for place, aval in zip(traced.places, traced.jaxpr.in_avals, strict=True):
            mine = place < len(traced.leaves)
            value = program.argument(FIXED if mine else 0)
            arguments.append(value)
            if mine:
                leaf[value] = place
                program.views[value] = _views.whole(place, aval.shape)
            else:
                places[value] = place - len(traced.leaves)
        flatten(program, traced.jaxpr, arguments)
        return Course(program, self._pieces(program, set(leaf)), leaf, places, {})

    def _pieces(self, program: Program, leaves) -> list[Piece]:
        makers = {i: n for n, e in enumerate(program.equations) for i in e.outputs}
        last = max((site.depth for site in program.sites), default=FIXED)
        needed = _needed(program, [site.value for site in program.sites])
        deepest: dict[int, int] = {}  # number of a value -> the last piece that reads it
        for equation in program.equations:
            if equation.depth != FIXED and needed.intersection(equation.outputs):
                for i in equation.inputs:
                    deepest[i] = max(deepest.get(i, FIXED), equation.depth)
        for site in program.sites:  # read after its piece, thus like a value of the next one
            deepest[site.value] = max(deepest.get(site.value, FIXED), site.depth + 1)
        pieces, inputs = [], tuple(i for i in program.arguments if i not in leaves)
        for depth in range(last + 1):
            outputs = tuple(
                i for i, to in deepest.items() if to > depth and FIXED < program.depth[i] <= depth
            )
            pieces.append(self._piece(program, makers, leaves, inputs, outputs, depth))
            inputs = outputs
        return pieces

    def _piece(self, program, makers, leaves, inputs, outputs, depth) -> Piece:
        """The equations between those values, in the order of the program."""
        chosen: set[int] = set()
        wanted, given = list(outputs), set(inputs)
        while wanted:
            i = wanted.pop()
            if i in makers and i not in given and makers[i] not in chosen:
                chosen.add(makers[i])
                wanted += program.equations[makers[i]].inputs
        equations = [program.equations[n] for n in sorted(chosen)]
        read = dict.fromkeys(i for e in equations for i in e.inputs)
        read |= dict.fromkeys(outputs)
        used = [i for i in inputs if i in read]
        of_leaves = [i for i in read if i in leaves]
        constants = {i: program.constants[i] for i in read if i in program.constants}
        inside = {i: x for i, x in constants.items() if _is_number(x)}
        outside = [i for i in constants if i not in inside]
        names = {i: n for n, i in enumerate([*used, *of_leaves, *outside])}
        key: list[Any] = [len(used), len(of_leaves)]
        for i, x in inside.items():
            names[i] = len(names)
            key.append((str(getattr(x, "dtype", type(x))), np.asarray(x).tobytes()))
        for e in equations:
            key.append((e.key, tuple(names[i] for i in e.inputs)))
            names |= {i: len(names) + n for n, i in enumerate(e.outputs)}
        key.append(tuple(names[i] for i in outputs))
        if tuple(key) not in self._compiled:

            def run(values, leaves, rest):
                known = dict(
                    zip([*used, *of_leaves, *outside], [*values, *leaves, *rest], strict=True)
                )
                known |= inside
                for e in equations:
                    made = e.run(*(known[i] for i in e.inputs))
                    known |= dict(zip(e.outputs, made, strict=True))
                return [known[i] for i in outputs]

            self._compiled[tuple(key)] = jax.jit(run)
        run = self._compiled[tuple(key)]
        return Piece(run, tuple(used), tuple(of_leaves), tuple(outside), outputs)


def _place(site: Site):
    """Where a site is, also in a program for other shapes of batches."""
    return site.leaf, site.matrix, site.depth


def listed(batches) -> list[Any]:
    """Batches as a list, of one at least."""
    if _program.is_array(batches):
        raise TypeError("batches is one array; pass a list of batches, [batch] for one.")
    batches = list(batches)
    if not batches:
        raise ValueError("batches is empty: layers are pruned by what their inputs are.")
    return batches


def _is_number(x) -> bool:
    """Whether a constant is a scalar with a value that can be compared, not a key."""
    return np.ndim(x) == 0 and not jnp.issubdtype(jnp.result_type(x), jax.dtypes.extended)


def _needed(program: Program, wanted) -> set[int]:
    """All values that lead to some."""
    needed = set(wanted)
    for equation in reversed(program.equations):
        if needed.intersection(equation.outputs):
            needed.update(equation.inputs)
    return needed


def _kind(batch):
    """Batches of one kind have one program."""
    leaves, structure = jax.tree.flatten(batch)
    kinds = tuple(jax.typeof(x) if _program.is_array(x) else ("value", repr(x)) for x in leaves)
    return structure, kinds
