"""A traced call as a flat list of equations, and where in it data meets weights.

Calls are inlined and loops over stacked layers unrolled, so that a program can be run piece by
piece, layer after layer. Each value has a depth: how many products with watched leaves lie before
it, or FIXED where no data is in it.
"""

import functools
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune._program import CALLS, CUSTOM, REMAT, bind, opened, scan_arity
from jaxprune.oneshot import _products, _views
from jaxprune.oneshot._equations import FIXED, Program, Site, run_all
from jaxprune.oneshot._views import View

_CALLS = CALLS | CUSTOM | REMAT
"""Operations that do what the program among their parameters does."""


PRODUCTS = frozenset({"conv_general_dilated", "dot_general"})


def flatten(program: Program, jaxpr, inputs: Sequence[int]) -> list[int]:
    """Adds the equations of a jaxpr, given the numbers of its arguments; returns its results."""
    jaxpr, constants = opened(jaxpr)
    known = dict(zip(jaxpr.constvars, map(program.constant, constants), strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom):
        return program.constant(atom.val) if hasattr(atom, "val") else known[atom]

    for eqn in jaxpr.eqns:
        outputs = _equation(program, eqn, read)
        known |= dict(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _inner(eqn):
    """The program that a call runs, or None."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        jaxpr = eqn.params.get(name)
        if jaxpr is not None and len(opened(jaxpr)[0].invars) == len(eqn.invars):
            return jaxpr
    return None


def _equation(program: Program, eqn, read) -> list[int]:
    name, body = eqn.primitive.name, _inner(eqn)
    if name in _CALLS and body is not None:
        return flatten(program, body, [read(atom) for atom in eqn.invars])
    if name == "scan":
        inputs = [read(atom) for atom in eqn.invars]
        return _scan(program, eqn, inputs)
    literals = {i: a.val for i, a in enumerate(eqn.invars) if hasattr(a, "val")}
    inputs = [read(a) for i, a in enumerate(eqn.invars) if i not in literals]
    run = functools.partial(_bind, eqn, literals)
    key = (eqn.primitive, _hashable(eqn.params), str(eqn.ctx), _known(literals))
    two = len(inputs) == len(eqn.invars) == 2
    deeper = _product(program, eqn, inputs) if two and name in PRODUCTS else 0
    outputs = program.add(run, key, inputs, len(eqn.outvars), deeper)
    if not deeper:
        _follow(program, eqn, inputs, outputs)
    return outputs


def _bind(eqn, literals, *arrays):
    """What an equation makes of arrays, literals put between them."""
    rest = iter(arrays)
    operands = [literals[i] if i in literals else next(rest) for i in range(len(eqn.invars))]
    return bind(eqn, operands)


def _known(literals):
    return tuple(
        (i, str(getattr(x, "dtype", type(x))), np.asarray(x).tobytes()) for i, x in literals.items()
    )


def _hashable(params) -> Hashable:
    """Parameters as a key; what has no hash, or is a program, is equal to itself alone."""
    pairs = []
    for name, value in sorted(params.items()):
        try:
            hash(value)
        except TypeError:
            value = ("id", id(value))
        pairs.append((name, value))
    return tuple(pairs)


def _watched(program, number) -> list[View]:
    """Weights of watched leaves that a value is, or holds side by side."""
    views = program.views.get(number)
    parts = program.joined.get(number, (0, ()))[1] if views is None else [views]
    return [view for view in parts if view.leaf in program.orders]


def _product(program, eqn, inputs) -> int:
    """Notes a product of watched leaves with data; returns how much deeper its result is."""
    name, weights = eqn.primitive.name, [_watched(program, i) for i in inputs]
    if bool(weights[0]) == bool(weights[1]):
        return 0
    side = 0 if weights[0] else 1
    data = inputs[1 - side]
    if program.depth[data] == FIXED:
        return 0  # it makes other weights
    axis = program.joined.get(inputs[side], (None,))[0]  # along which they lie side by side
    found = [_site(eqn, view, side, axis, program.orders[view.leaf]) for view in weights[side]]
    if None in found:
        for view in weights[side]:
            program.note(view.leaf, f"used by {name} in a way that is not read")
        return 0
    for view, site in zip(weights[side], found, strict=True):
        program.sites.append(Site(view.leaf, site[0], data, site[1], program.depth[data]))
    return 1


def _site(eqn, view, side, axis, order):
    """(matrix, rows) of a product, or None where it is not read."""
    shapes = [a.aval.shape for a in eqn.invars]
    if jnp.issubdtype(eqn.invars[1 - side].aval.dtype, np.complexfloating):
        return None
    if eqn.primitive.name == "dot_general":
        if any(axis in axes[side] for axes in eqn.params["dimension_numbers"]):
            return None  # weights side by side along inputs
        return _products.dot(eqn.params, view, side, len(shapes[1 - side]), order)
    if side == 0 or axis is not None:
        return None
    return _products.convolution(eqn.params, view, shapes, order)


def _follow(program, eqn, inputs, outputs):
    """Follows weights through an operation, or notes what it did with them."""
    name = eqn.primitive.name
    if not outputs:
        return  # a print
    if name == "optimization_barrier" and len(inputs) == len(outputs):
        for values in (program.views, program.joined, program.made_of):
            values |= {b: values[a] for a, b in zip(inputs, outputs, strict=True) if a in values}
        return
    views = [program.views[i] for i in inputs if i in program.views]
    if len(views) == 1 == len(eqn.invars):
        if name == "split":
            found = _views.split(views[0], eqn.params)
        else:
            found = [_views.moved(views[0], name, eqn.params, eqn.outvars[0].aval.shape)]
        if len(found) == len(outputs) and None not in found:
            program.views |= dict(zip(outputs, found, strict=True))
            return
    if name == "concatenate" and len(views) == len(eqn.invars):
        program.joined[outputs[0]] = eqn.params["dimension"], tuple(views)
    if name == "convert_element_type" and inputs and inputs[0] in program.joined:
        program.joined[outputs[0]] = program.joined[inputs[0]]
    leaves = {v.leaf: name for v in views}
    for i in inputs:
        leaves |= program.made_of.get(i, {})
    if not leaves:
        return
    if program.depth[outputs[0]] == FIXED:
        program.made_of |= dict.fromkeys(outputs, leaves)
        return
    for leaf, how in leaves.items():
        as_it_is = leaf in {v.leaf for v in views}
        program.note(
            leaf, f"read by {how}" if as_it_is else f"changed by {how} before it meets data"
        )


def _scan(program: Program, eqn, inputs) -> list[int]:
    """A loop: unrolled over stacked layers; else one equation, and one more that sees inside."""
    body = eqn.params["jaxpr"]
    consts, carried = scan_arity(eqn)
    whole = consts + carried
    loop = _Loop(eqn, body, consts, whole)
    views = [program.views.get(i) for i in inputs]
    stacked = [v for v in views[whole:] if v is not None and v.leaf in program.orders]
    length = eqn.params["length"]
    if stacked and length and all(_views.at(v, 0) is not None for v in stacked):
        return _unrolled(program, loop, inputs)
    key = (eqn.primitive, _hashable(eqn.params))
    seen = _tapped(program, loop, inputs, key)
    run = functools.partial(_bind, eqn, {})
    outputs = program.add(run, key, inputs, len(eqn.outvars), 1 if seen else 0)
    # What the body was not seen to read as weights.
    rest = inputs[loop.consts :] if seen else inputs
    leaves = {program.views[i].leaf for i in rest if i in program.views}
    leaves |= {leaf for i in rest for leaf in program.made_of.get(i, {})}
    fixed = [i for i in outputs if program.depth[i] == FIXED]
    program.made_of |= dict.fromkeys(fixed, dict.fromkeys(leaves, "scan"))
    if len(fixed) < len(outputs):
        for leaf in sorted(leaves):
            program.note(leaf, "read by scan")
    return outputs


class _Loop(NamedTuple):
    """A scan: arguments are constants, then what is carried, then what is scanned over."""

    eqn: Any
    body: Any
    consts: int
    whole: int  # constants and carried

    @property
    def carried(self):
        return self.whole - self.consts


def _unrolled(program: Program, loop: _Loop, inputs) -> list[int]:
    """A copy of the body for each layer."""
    length = loop.eqn.params["length"]
    steps = range(length - 1, -1, -1) if loop.eqn.params["reverse"] else range(length)
    carry, made = list(inputs[loop.consts : loop.whole]), {}
    for i in steps:
        index = program.constant(np.array([i], np.int32))
        layer = [_indexed(program, x, i, index) for x in inputs[loop.whole :]]
        outputs = flatten(program, loop.body, [*inputs[: loop.consts], *carry, *layer])
        carry, made[i] = outputs[: loop.carried], outputs[loop.carried :]
    stacks = []
    for parts in zip(*(made[i] for i in range(length)), strict=True):
        stacks += program.add(_stack, ("stack",), parts, 1)
    return carry + stacks


def _indexed(program, number, i, index):
    """One index of the first axis of a value."""
    (made,) = program.add(_at, ("index",), (number, index), 1)
    if number in program.views:
        view = _views.at(program.views[number], i)
        if view is not None:
            program.views[made] = view
        else:
            program.note(program.views[number].leaf, "taken apart by a loop")
    elif number in program.made_of:
        program.made_of[made] = program.made_of[number]
    return made


def _at(x, i):
    return [lax.dynamic_index_in_dim(x, i[0], keepdims=False)]


def _stack(*parts):
    return [jnp.stack(parts)]


def _tapped(program: Program, loop: _Loop, inputs, key) -> bool:
    """Adds an equation that runs the loop and gives, stacked, the X that weights meet in it.

    Returns:
      Whether there are such weights.
    """
    if all(program.depth[i] == FIXED for i in inputs):
        return False  # it makes other weights
    watched = Program(program.orders)
    arguments = []
    for i, number in enumerate(inputs):
        fixed = i < loop.consts and program.depth[number] == FIXED
        arguments.append(watched.argument(FIXED if fixed else 0))
        if fixed and number in program.views:
            watched.views[arguments[i]] = program.views[number]
        elif fixed and number in program.made_of:
            watched.made_of[arguments[i]] = program.made_of[number]
            if number in program.joined:
                watched.joined[arguments[i]] = program.joined[number]
    outputs = flatten(watched, loop.body, arguments)
    for leaf, uses in watched.uses.items():
        for use in uses:
            program.note(leaf, f"{use}, in a loop")
    if not watched.sites:
        return False
    sources = list(dict.fromkeys((site.value, site.rows) for site in watched.sites))
    params = loop.eqn.params

    def taps(*arrays):
        consts, carry = arrays[: loop.consts], arrays[loop.consts : loop.whole]

        def step(carry, xs):
            known = dict(zip(arguments, [*consts, *carry, *xs], strict=True))
            known = run_all(watched, known)
            seen = [_products.read_rows(known[value], rows) for value, rows in sources]
            return [known[i] for i in outputs[: loop.carried]], seen

        start, stacked = list(carry), list(arrays[loop.whole :])
        length, backwards = params["length"], params["reverse"]
        return lax.scan(step, start, stacked, length=length, reverse=backwards)[1]

    made = program.add(taps, ("taps", key, tuple(sources)), inputs, len(sources))
    for site in watched.sites:
        value = made[sources.index((site.value, site.rows))]
        rows = _products.stacked(site.rows)
        program.sites.append(Site(site.leaf, site.matrix, value, rows, program.depth[value]))
    return True
