"""A walk through a jaxpr that counts the multiply-adds of its products, leaf by leaf."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from jaxprune.analysis import _origins
from jaxprune.analysis._origins import Kind, Origin, shape_of, size_of

MOVES = frozenset(
    {"all_gather", "bitcast_convert_type", "broadcast_in_dim", "broadcast_to", "concatenate"}
    | {"dynamic_slice", "dynamic_update_slice", "expand_dims", "gather", "get", "pad", "reshape"}
    | {"scatter", "scatter-add", "slice", "split", "squeeze", "stack", "tile", "transpose"}
    | {"unstack"}
)
"""Operations that put elements elsewhere and leave them what they are."""

OPAQUE = frozenset(
    {"call_exported", "dot_product_attention_fwd_wrapper", "ffi_call", "io_callback"}
    | {"pure_callback", "scaled_dot", "scaled_matmul_wrapper", "symmetric_product"}
)
"""Operations that may hold products that cannot be read off the program."""

RANDOM = ("random_", "threefry", "philox", "rng_")


@dataclasses.dataclass(frozen=True)
class Count:
    """Multiply-adds.

    Attributes:
      leaves: number of a leaf -> its multiply-adds.
      others: multiply-adds of products in which no leaf takes part.
      partial: operations that are not counted in full.
    """

    leaves: Mapping[int, int] = dataclasses.field(default_factory=dict)
    others: int = 0
    partial: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        """All multiply-adds."""
        return sum(self.leaves.values()) + self.others

    def __add__(self, other: "Count") -> "Count":
        both = self.leaves.keys() | other.leaves.keys()
        leaves = {i: self.leaves.get(i, 0) + other.leaves.get(i, 0) for i in both}
        return Count(leaves, self.others + other.others, self.partial | other.partial)

    def times(self, n: int) -> "Count":
        """The count of n calls."""
        leaves = {i: n * macs for i, macs in self.leaves.items()}
        return Count(leaves, n * self.others, self.partial)


def walk(jaxpr, inputs: Sequence[Origin]) -> tuple[list[Origin], Count]:
    """The origins of what a jaxpr returns, and its count, given the origins of its arguments."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom):
        return Origin(Kind.CONSTANT, size_of(atom.aval)) if hasattr(atom, "val") else known[atom]

    for var in jaxpr.constvars:
        known[var] = Origin(Kind.CONSTANT, size_of(var.aval))
    counts = Count()
    for eqn in jaxpr.eqns:
        outputs, count = _equation(eqn, [read(atom) for atom in eqn.invars])
        for var, origin in zip(eqn.outvars, outputs, strict=True):
            known[var] = _origins.settled(origin, var.aval)
        if count is not None:
            counts += count
    return [read(atom) for atom in jaxpr.outvars], counts


def _equation(eqn, inputs) -> tuple[Sequence[Origin], Count | None]:
    name = eqn.primitive.name
    if name in _PRODUCTS:
        macs = _PRODUCTS[name](eqn)
        made, shares = _origins.product(inputs[:2], size_of(eqn.outvars[0].aval))
        return [made], Count(_split(macs, shares), 0 if shares else macs)
    if name in _CONTROL:
        return _CONTROL[name](eqn, inputs)
    if name.startswith(RANDOM):
        return [Origin(Kind.MASK, size_of(v.aval)) for v in eqn.outvars], None
    if name in MOVES:
        return [_moved(eqn, name, inputs)] * len(eqn.outvars), None
    return _other(eqn, name, inputs)


def _other(eqn, name, inputs):
    """A call, an operation on elements, or an unknown one."""
    shapes = [shape_of(atom.aval) for atom in eqn.invars]
    made = [shape_of(var.aval) for var in eqn.outvars]
    inner = list(_jaxprs(eqn.params))
    for jaxpr in inner:
        if [shape_of(v.aval) for v in jaxpr.invars] == shapes and len(jaxpr.outvars) == len(made):
            return walk(jaxpr, inputs)
    hidden = name in OPAQUE or any(_has_products(jaxpr) for jaxpr in inner)
    count = Count(partial=frozenset([name])) if hidden else None
    if not hidden and len(made) > 1 and made == shapes:
        return inputs, None  # each goes through by itself
    if not hidden and len(set(made)) <= 1 and all(_fits(shape, made) for shape in shapes):
        return [_origins.elementwise(inputs, made[0])] * len(made) if made else [], None
    return [_origins.mixed(inputs)] * len(made), count


def _fits(shape, made) -> bool:
    """Whether an operand meets each element of the results: of their shape, 1 where repeated."""
    whole = made[0] if made else ()
    return not shape or (
        len(shape) == len(whole) and all(n in (1, m) for n, m in zip(shape, whole, strict=True))
    )


def _jaxprs(params):
    """Programs among the parameters of an equation."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else [value]:
            jaxpr = _opened(each)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr


def _opened(jaxpr):
    """A program without the values of its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def _has_products(jaxpr) -> bool:
    count = walk(jaxpr, [_origins.argument(v.aval) for v in jaxpr.invars])[1]
    return bool(count.total or count.partial)


def _split(macs: int, shares: Sequence[tuple[int, Fraction]]) -> dict[int, int]:
    """Whole numbers in the ratio of the shares; what is over goes to the first."""
    parts = {number: math.floor(macs * share) for number, share in shares}
    for number in list(parts)[: macs - sum(parts.values())]:
        parts[number] += 1
    return parts


def _moved(eqn, name, inputs):
    """What an operation of MOVES makes of its operands."""
    if name in ("gather", "dynamic_slice"):
        return _origins.looked_up(inputs[0], inputs[1:], eqn.params["slice_sizes"])
    if name in ("concatenate", "stack", "dynamic_update_slice", "pad") or "scatter" in name:
        held = {"dynamic_update_slice": slice(2), "pad": slice(1)}.get(name, slice(None))
        held = slice(0, None, 2) if "scatter" in name else held  # the others are indices
        sizes = [size_of(atom.aval) for atom in eqn.invars]
        return _origins.joined(inputs[held], sizes[held], size_of(eqn.outvars[0].aval))
    return inputs[0]


def _dot(eqn) -> int:
    """Elements of the product times the length of their sums."""
    (axes, _), _ = eqn.params["dimension_numbers"]
    shape = shape_of(eqn.invars[0].aval)
    return size_of(eqn.outvars[0].aval) * math.prod(shape[i] for i in axes)


def _ragged_dot(eqn) -> int:
    """Each row meets the matrix of one group."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (axes, _), _ = numbers.dot_dimension_numbers
    lhs, _, groups = (shape_of(atom.aval) for atom in eqn.invars[:3])
    macs = size_of(eqn.outvars[0].aval) * math.prod(lhs[i] for i in axes)
    # Where the summed axis is cut into groups, each group's matrix sums over its part.
    return macs // groups[-1] if set(numbers.lhs_ragged_dimensions) & set(axes) else macs


def _convolution(eqn) -> int:
    """Positions times the taps and inputs of a kernel; a transposed one meets inputs instead."""
    numbers = eqn.params["dimension_numbers"]
    lhs, kernel = (shape_of(atom.aval) for atom in eqn.invars)
    out = shape_of(eqn.outvars[0].aval)
    batch_axis, channel_axis, *axes = numbers.out_spec
    macs = out[batch_axis] * out[channel_axis] * kernel[numbers.rhs_spec[1]]
    for i, axis in enumerate(axes):
        n, taps = lhs[numbers.lhs_spec[2 + i]], kernel[numbers.rhs_spec[2 + i]]
        macs *= _meetings(eqn.params, i, n, taps) if _spread(eqn.params, i) else out[axis] * taps
    return macs


def _spread(params, i) -> bool:
    return params["lhs_dilation"] is not None and params["lhs_dilation"][i] > 1


def _meetings(params, i, n, taps) -> int:
    """How often an element of a spread input meets a tap, also beyond the edge of the output."""
    spread, stride = params["lhs_dilation"][i], params["window_strides"][i]
    if stride == 1:
        return n * taps
    dilation = params["rhs_dilation"][i] if params["rhs_dilation"] is not None else 1
    at = np.arange(n)[:, None] * spread + params["padding"][i][0] - np.arange(taps) * dilation
    return int(np.count_nonzero(at % stride == 0))


def _scan(eqn, inputs):
    """The body, once for each pass."""
    body, length = next(_jaxprs(eqn.params)), eqn.params["length"]
    carried = [
        outer.aval.shape == inner.aval.shape
        for outer, inner in zip(eqn.outvars, body.outvars, strict=True)
    ].count(True)
    whole = [
        outer.aval.shape == inner.aval.shape
        for outer, inner in zip(eqn.invars, body.invars, strict=True)
    ].count(True)
    first = whole - carried  # constants, then what is carried, then what is scanned over
    cut = [_origins.settled(o, v.aval) for o, v in zip(inputs, body.invars, strict=True)]
    outputs, count = _loop(body, cut[:first], cut[first:whole], cut[whole:])
    stacked = [dataclasses.replace(o, size=o.size * length) for o in outputs[carried:]]
    return outputs[:carried] + stacked, count.times(length)


def _loop(body, constants, carry, scanned):
    """A body of which the carry is what goes in or what comes out of a pass."""
    while True:
        outputs, count = walk(body, [*constants, *carry, *scanned])
        pairs = zip(carry, outputs[: len(carry)], strict=True)
        after = [_origins.either(pair) for pair in pairs]
        if after == carry:
            return after + outputs[len(carry) :], count
        carry = after


def _while(eqn, inputs):
    """One pass: how many there will be is not known."""
    test, body = (_opened(eqn.params[name]) for name in ("cond_jaxpr", "body_jaxpr"))
    n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    carry, count = _loop(body, inputs[n : n + m], inputs[n + m :], [])
    count += walk(test, [*inputs[:n], *carry])[1]
    return carry, count + Count(partial=frozenset(["while"] if count.total else []))


def _cond(eqn, inputs):
    """The branch with the most multiply-adds."""
    made, counts = zip(*(walk(b, inputs[1:]) for b in _jaxprs(eqn.params)), strict=True)
    partial = frozenset().union(*(count.partial for count in counts))
    largest = max(counts, key=lambda count: count.total)
    outputs = [_origins.either(each) for each in zip(*made, strict=True)]
    return outputs, largest + Count(partial=partial)


def _shard_map(eqn, inputs):
    """The program of one device, for each device along the axes that divide an argument."""
    body = next(_jaxprs(eqn.params))
    parts = [part for spec in eqn.params["in_specs"] for part in spec if part is not None]
    axes = {axis for part in parts for axis in (part if isinstance(part, tuple) else (part,))}
    cut = [_origins.settled(o, v.aval) for o, v in zip(inputs, body.invars, strict=True)]
    outputs, count = walk(body, cut)
    whole = [
        dataclasses.replace(o, size=o.size * max(1, size_of(v.aval) // max(1, size_of(b.aval))))
        for o, v, b in zip(outputs, eqn.outvars, body.outvars, strict=True)
    ]
    return whole, count.times(math.prod(eqn.params["mesh"].shape[axis] for axis in axes))


_PRODUCTS = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "ragged_dot_general": _ragged_dot,
}
_CONTROL = {"cond": _cond, "scan": _scan, "shard_map": _shard_map, "while": _while}
