"""A traced program run with blocks in the place of dense weights."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from jaxprune._program import CALLS, REMAT, bind, opened, scan_arity
from jaxprune.sparse import _views
from jaxprune.sparse._views import View


class Notes:
    """Which leaves were made dense, and what for."""

    def __init__(self):
        self.uses: dict[str, dict[str, None]] = {}

    def add(self, view: View, name: str):
        """Notes that an operation needs the dense weights."""
        self.uses.setdefault(view.path, {})[name] = None

    def warn(self):
        """One warning for each leaf."""
        for path, names in self.uses.items():
            warnings.warn(
                f"sparse_apply: {path or 'the leaf'} is made dense in each call, for "
                f"{', '.join(names)}. Where that is all it is used for, leave it dense: "
                f"to_blocks(..., rules={{{path!r}: False}}).",
                stacklevel=4,
            )


def run(jaxpr, values: Sequence[Any], notes: Notes) -> list[Any]:
    """The results of a program, given its arguments; each an array, or a view of blocks."""
    jaxpr, constants = opened(jaxpr)
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, values, strict=True))

    def read(atom):
        return atom.val if hasattr(atom, "val") else known[atom]

    for eqn in jaxpr.eqns:
        made = _equation(eqn, [read(atom) for atom in eqn.invars], notes)
        known |= dict(zip(eqn.outvars, made, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def run_to_arrays(jaxpr, values: Sequence[Any], notes: Notes) -> list[Any]:
    """The same, with views among the results made dense."""
    return [_array(value, notes, "a result") for value in run(jaxpr, values, notes)]


def _equation(eqn, values, notes) -> Sequence[Any]:
    views = [i for i, value in enumerate(values) if isinstance(value, View)]
    if not views:
        return bind(eqn, values)
    name = eqn.primitive.name
    if name in CALLS:
        return run(eqn.params["jaxpr"], values, notes)
    if name in REMAT:
        body, options = eqn.params["jaxpr"], {k: eqn.params[k] for k in ("policy", "prevent_cse")}
        return jax.checkpoint(lambda *v: run_to_arrays(body, v, notes), **options)(*values)
    if name == "scan":
        return _scan(eqn, values, notes)
    if len(views) == 1:
        side = views[0]
        if name == "dot_general":
            made = _views.product(values[side], values[1 - side], side, eqn)
        elif len(values) == 1:
            made = _views.moved(values[0], eqn, bind)
        else:
            made = None
        if made is not None:
            return [made]
    return bind(eqn, [_array(value, notes, name) for value in values])


def _scan(eqn, values, notes) -> Sequence[Any]:
    """A loop whose body meets views: shared by all turns, or stacked and taken one a turn."""
    params, body = eqn.params, eqn.params["jaxpr"]
    first, carried = scan_arity(eqn)
    whole = first + carried
    constants = values[:first]
    start = [_array(value, notes, "scan") for value in values[first:whole]]
    # A stack that is handed to the loop already says what a turn sees; the loop slices its arrays.
    turns = [_views.turn(value) if isinstance(value, View) else None for value in values[whole:]]
    stacked = [
        _array(value, notes, "scan") if turn is None else turn
        for value, turn in zip(values[whole:], turns, strict=True)
    ]

    def step(carry, xs):
        made = run_to_arrays(body, [*constants, *carry, *xs], notes)
        return made[:carried], made[carried:]

    options = {key: params[key] for key in ("length", "reverse", "unroll")}
    carry, made = lax.scan(step, start, stacked, **options)
    return [*carry, *made]


def _array(value, notes, name):
    """A value as an array."""
    if isinstance(value, View):
        notes.add(value, name)
        return _views.dense(value)
    return value
