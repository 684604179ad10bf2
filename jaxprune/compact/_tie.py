"""Which axes of a program are tied: every value gets axes, and operations unite them."""

from jaxprune._program import scan_arity
from jaxprune.compact import _moves, _sums
from jaxprune.compact._axes import Axis, freeze, new, same, size, unite
from jaxprune.compact._graph import Body, Graph, Node
from jaxprune.compact._ties import Ties, unknown

MOVES = frozenset({"slice", "split", "squeeze", "transpose", "reshape", "convert_element_type"})
"""Operations that use of their operand what is used of their result."""


def tie(graph: Graph) -> Ties:
    """The axes of all values of a program. Nothing is said about its arguments and results."""
    ties = Ties(graph, {})
    for number in graph.body.inputs:
        ties.axes[number] = ties.fresh(number)
    _body(ties, graph.body)
    for number in graph.body.outputs:
        ties.used += ties.of(number)
    return ties


def _body(ties: Ties, body: Body):
    for node in body.nodes:
        name = node.name
        if name not in MOVES and not node.bodies:
            for number in node.inputs:
                ties.used += ties.of(number)
        if node.bodies:
            outputs = _nested(ties, node)
        elif name in ELEMENTWISE and _alike(ties, node):
            outputs = [_elementwise(ties, node)] * len(node.outputs)
        elif name in RULES:
            outputs = RULES[name](ties, node)
        else:
            outputs = unknown(ties, node)
        ties.axes |= dict(zip(node.outputs, outputs, strict=True))


def _alike(ties: Ties, node: Node) -> bool:
    """Whether operands are scalars or have the rank of the result; casts of bits may not."""
    rank = len(ties.graph.shapes[node.outputs[0]])
    return all(len(ties.of(number)) in (0, rank) for number in node.inputs)


def _elementwise(ties: Ties, node: Node) -> list[Axis]:
    made: list[Axis] = ties.fresh(node.outputs[0])
    first = [True] * len(made)
    for number in node.inputs:
        for i, axis in enumerate(ties.of(number)):
            if same(size(axis), 1):
                continue
            if first[i]:
                made[i], first[i] = axis, False
            else:
                unite(made[i], axis)
    return made


def _nested(ties: Ties, node: Node):
    if node.name == "scan":
        return _scan(ties, node)
    inputs = [ties.of(number) for number in node.inputs]
    if node.name == "while":
        n, m = node.params["cond_nconsts"], node.params["body_nconsts"]
        test, body = node.bodies
        carry = inputs[n + m :]
        _enter(ties, test, [*inputs[:n], *carry])
        made = _enter(ties, body, [*inputs[n : n + m], *carry])
        _unite_all(carry, made)
        return carry
    if node.name == "cond":
        first, *others = [_enter(ties, body, inputs[1:]) for body in node.bodies]
        for made in others:
            _unite_all(first, made)
        return first
    return _enter(ties, node.bodies[0], inputs)


def _enter(ties: Ties, body: Body, inputs):
    """The axes of what a body returns, given those of its arguments."""
    ties.axes |= dict(zip(body.inputs, inputs, strict=True))
    _body(ties, body)
    return [ties.of(number) for number in body.outputs]


def _unite_all(values, others):
    for a, b in zip(values, others, strict=True):
        for x, y in zip(a, b, strict=True):
            unite(x, y)


def _scan(ties: Ties, node: Node):
    inputs = [ties.of(number) for number in node.inputs]
    constants, carried = scan_arity(node.eqn)
    whole = constants + carried
    for axes in inputs[whole:]:
        freeze(axes[0], "a loop runs along it")
    carry = inputs[constants:whole]
    made = _enter(ties, node.bodies[0], [*inputs[:whole], *(axes[1:] for axes in inputs[whole:])])
    _unite_all(carry, made[:carried])
    stacked = new(node.params["length"], "a loop runs along it")
    return [*carry, *([stacked, *axes] for axes in made[carried:])]


def _same(ties: Ties, node: Node):
    return [ties.of(number) for number in node.inputs]


def _made(ties: Ties, node: Node):
    outputs = [ties.fresh(number) for number in node.outputs]
    ties.made += [axis for axes in outputs for axis in axes]
    return outputs


ELEMENTWISE = frozenset(
    {"abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh"}
    | {"bitcast_convert_type", "cbrt", "ceil", "clamp", "clz", "complex", "conj", "copy", "copy_p"}
    | {"convert_element_type", "cos", "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc"}
    | {"exp", "exp2", "expm1", "floor", "ge", "gt", "igamma", "imag", "integer_pow", "is_finite"}
    | {"le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "name", "ne", "neg"}
    | {"nextafter", "not", "or", "population_count", "pow", "real", "reduce_precision", "rem"}
    | {"round", "rsqrt", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign"}
    | {"sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor"}
    | {"bessel_i0e", "bessel_i1e", "eq_to", "igamma_grad_a", "igammac", "le_to", "log2", "lt_to"}
    | {"mulhi", "one_minus_square", "polygamma", "polynomial", "regularized_incomplete_beta"}
    | {"zeta"}
)
"""Each element of the result is made of the elements at its place alone."""


MADE = frozenset({"iota", "random_bits"})
"""Made of nothing but their shape: made whole, then cut."""


RULES = {
    "argmax": _sums.index_of,
    "argmin": _sums.index_of,
    "broadcast_in_dim": _moves.broadcast,
    "concatenate": _moves.concatenate,
    "conv_general_dilated": _sums.convolution,
    "cumlogsumexp": _sums.along,
    "cummax": _sums.along,
    "cummin": _sums.along,
    "cumprod": _sums.along,
    "cumsum": _sums.along,
    "device_put": _same,
    "dot_general": _sums.dot,
    "dynamic_slice": _moves.dynamic_slice,
    "dynamic_update_slice": _moves.dynamic_update,
    "gather": _moves.gather,
    "optimization_barrier": _same,
    "pad": _moves.pad,
    "reduce_and": _sums.reduce,
    "reduce_max": _sums.reduce,
    "reduce_min": _sums.reduce,
    "reduce_or": _sums.reduce,
    "reduce_prod": _sums.reduce,
    "reduce_sum": _sums.reduce,
    "reduce_window_max": _sums.window,
    "reduce_window_min": _sums.window,
    "reduce_window_sum": _sums.window,
    "reshape": _moves.reshape,
    "rev": _moves.reverse,
    "select_n": _moves.select,
    "sharding_constraint": _same,
    "slice": _moves.slice_,
    "sort": _sums.along,
    "split": _moves.split,
    "squeeze": _moves.squeeze,
    "stack": _moves.stack,
    "tile": _moves.tile,
    "transpose": _moves.transpose,
    "unstack": _moves.unstack,
    **dict.fromkeys(MADE, _made),
}
"""What the other operations do to axes."""
