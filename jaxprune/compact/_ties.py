"""Which axes of a program are tied: every value gets axes, and operations unite them."""

import dataclasses

import numpy as np

from jaxprune.compact import _axes
from jaxprune.compact._axes import Axis, cut, freeze, new, same, size, unite
from jaxprune.compact._graph import Body, Graph, Node, loop

MOVES = frozenset({"slice", "split", "squeeze", "transpose", "reshape", "convert_element_type"})
"""Operations that use of their operand what is used of their result."""


@dataclasses.dataclass(eq=False)
class Ties:
    """The axes of all values.

    Attributes:
      graph: the program.
      axes: number of a value -> its axes.
      groups: a convolution with groups -> the axis of its groups.
      used: axes that something is computed from.
      made: axes of what the program makes of nothing, and why their order counts.
    """

    graph: Graph
    axes: dict[int, list[Axis]]
    groups: dict[Node, Axis] = dataclasses.field(default_factory=dict)
    used: list[Axis] = dataclasses.field(default_factory=list)
    made: list[Axis] = dataclasses.field(default_factory=list)

    def fresh(self, number: int, frozen: str | None = None) -> list[Axis]:
        """Axes of which nothing is known."""
        return [new(_whole_number(n), frozen) for n in self.graph.shapes[number]]

    def of(self, number: int) -> list[Axis]:
        """The axes of a value; those of a constant are made when it is first read."""
        if number not in self.axes:
            self.axes[number] = self.fresh(number)
            self.made += self.axes[number]
        return self.axes[number]


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
            outputs = _unknown(ties, node)
        ties.axes |= dict(zip(node.outputs, outputs, strict=True))


def _unknown(ties: Ties, node: Node):
    for number in node.inputs:
        for axis in ties.of(number):
            freeze(axis, f"{node.name} reads it")
    return [ties.fresh(number, f"{node.name} makes it") for number in node.outputs]


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
    arity = loop(node.eqn)
    whole = arity.constants + arity.carried
    for axes in inputs[whole:]:
        freeze(axes[0], "a loop runs along it")
    carry = inputs[arity.constants : whole]
    made = _enter(ties, node.bodies[0], [*inputs[:whole], *(axes[1:] for axes in inputs[whole:])])
    _unite_all(carry, made[: arity.carried])
    stacked = new(node.params["length"], "a loop runs along it")
    return [*carry, *([stacked, *axes] for axes in made[arity.carried :])]


def _dot(ties: Ties, node: Node):
    lhs, rhs = (ties.of(number) for number in node.inputs)
    (left, right), (left_batch, right_batch) = node.params["dimension_numbers"]
    for i, j in [*zip(left, right, strict=True), *zip(left_batch, right_batch, strict=True)]:
        unite(lhs[i], rhs[j])
    free = [axis for i, axis in enumerate(lhs) if i not in (*left, *left_batch)]
    free += [axis for i, axis in enumerate(rhs) if i not in (*right, *right_batch)]
    return [[lhs[i] for i in left_batch] + free]


def _convolution(ties: Ties, node: Node):
    params = node.params
    numbers, number = params["dimension_numbers"], params["feature_group_count"]
    lhs, rhs = (ties.of(number) for number in node.inputs)
    if params["batch_group_count"] != 1:
        return _unknown(ties, node)
    made = ties.fresh(node.outputs[0], "a window moves along it")
    for i in range(2, len(lhs)):
        freeze(lhs[numbers.lhs_spec[i]], "a window moves along it")
        freeze(rhs[numbers.rhs_spec[i]], "positions of a window")
    channels, inputs = lhs[numbers.lhs_spec[1]], rhs[numbers.rhs_spec[1]]
    outputs = rhs[numbers.rhs_spec[0]]
    if number == 1:
        unite(channels, inputs)
    else:
        groups = new(number)
        ties.groups[node] = groups
        unite(channels, (*groups, *inputs))
        unite(outputs, (*groups, *new(size(outputs) // number)))
    made[numbers.out_spec[0]] = lhs[numbers.lhs_spec[0]]
    made[numbers.out_spec[1]] = outputs
    return [made]


def _broadcast(ties: Ties, node: Node):
    made = ties.fresh(node.outputs[0])
    for axis, i in zip(ties.of(node.inputs[0]), node.params["broadcast_dimensions"], strict=True):
        if axis:
            made[i] = axis
    return [made]


def _transpose(ties: Ties, node: Node):
    axes = ties.of(node.inputs[0])
    return [[axes[i] for i in node.params["permutation"]]]


def _squeeze(ties: Ties, node: Node):
    dropped = node.params["dimensions"]
    return [[axis for i, axis in enumerate(ties.of(node.inputs[0])) if i not in dropped]]


def _reduce(ties: Ties, node: Node):
    axes = node.params["axes"]
    kept = [axis for i, axis in enumerate(ties.of(node.inputs[0])) if i not in axes]
    return [kept] * len(node.outputs)


def _index_of(ties: Ties, node: Node):
    axes = ties.of(node.inputs[0])
    for i in node.params["axes"]:
        freeze(axes[i], f"{node.name} gives an index along it")
    return _reduce(ties, node)


def _reshape(ties: Ties, node: Node):
    """Axes of old and new sizes, from the left, where the products of their sizes agree."""
    old, sizes = ties.of(node.inputs[0]), ties.graph.shapes[node.outputs[0]]
    if node.params["dimensions"] is not None:
        return _unknown(ties, node)
    made = [new(n) for n in sizes]
    i = j = 0
    while i < len(old) and j < len(made):
        a, b = [old[i]], [made[j]]
        i, j = i + 1, j + 1
        while not same(_total(a), _total(b)):
            if i < len(old) and (j == len(made) or _less(_total(a), _total(b))):
                a, i = [*a, old[i]], i + 1
            elif j < len(made):
                b, j = [*b, made[j]], j + 1
            else:
                return _unknown(ties, node)
        why = "a reshape cuts it where it does not divide"
        unite(tuple(atom for axis in a for atom in axis), tuple(x for axis in b for x in axis), why)
    return [made]


def _total(axes):
    return size(tuple(atom for axis in axes for atom in axis))


def _less(a, b) -> bool:
    return a < b if isinstance(a, int) and isinstance(b, int) else isinstance(a, int)


def _slice(ties: Ties, node: Node):
    params, shape = node.params, ties.graph.shapes[node.inputs[0]]
    made = []
    strides = params["strides"] or (1,) * len(shape)
    for i, axis in enumerate(ties.of(node.inputs[0])):
        start, limit, stride = params["start_indices"][i], params["limit_indices"][i], strides[i]
        made.append(_sliced(axis, start, limit, stride, ties.graph.shapes[node.outputs[0]][i]))
    return [made]


def _whole_number(n):
    """Sizes of jaxprs may be NumPy's."""
    return int(n) if isinstance(n, np.integer) else n


def _sliced(axis: Axis, start, limit, stride, length) -> Axis:
    start, limit, whole = _whole_number(start), _whole_number(limit), size(axis)
    if same(whole, length):
        return axis
    if stride != 1 and isinstance(whole, int) and whole == length * stride and start < stride:
        taken = new(length)
        unite(axis, (*taken, *new(stride, "every so many are taken")))
        return taken
    if stride == 1:
        head = cut(axis, limit) if not same(limit, whole) else (axis, ())
        tail = None if head is None else cut(head[0], start) if start else ((), head[0])
        if tail is not None:
            return tail[1]
    freeze(axis, "a slice takes a part of it")
    return new(length, "a slice of what stays whole")


def _split(ties: Ties, node: Node):
    axes, i = ties.of(node.inputs[0]), node.params["axis"]
    made, start = [], 0
    for n in map(int, node.params["sizes"]):
        piece = _sliced(axes[i], start, start + n, 1, n)
        made.append([*axes[:i], piece, *axes[i + 1 :]])
        start += n
    return made


def _concatenate(ties: Ties, node: Node):
    values = [ties.of(number) for number in node.inputs]
    i = node.params["dimension"]
    made = list(values[0])
    for axes in values[1:]:
        for j, axis in enumerate(axes):
            if j != i:
                unite(made[j], axis)
    made[i] = _axes.joined([axes[i] for axes in values])
    return [made]


def _pad(ties: Ties, node: Node):
    made: list[Axis | None] = []
    for axis, config in zip(ties.of(node.inputs[0]), node.params["padding_config"], strict=True):
        low, high, inner = map(_whole_number, config)
        if inner or low < 0 or high < 0:
            freeze(axis, "padding changes it")
            made.append(None)
        else:
            parts = [new(low)] if low else []
            parts += [axis]
            parts += [new(high)] if high else []
            made.append(_axes.joined(parts))
    fresh = ties.fresh(node.outputs[0], "padding changes it")
    return [[b if a is None else a for a, b in zip(made, fresh, strict=True)]]


def _window(ties: Ties, node: Node):
    """A reduction of windows: axes along which a window is one index stay what they are."""
    params, number = node.params, node.inputs[0]
    plain = zip(
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params.get("base_dilation") or (1,) * len(params["window_strides"]),
        strict=True,
    )
    made = ties.fresh(node.outputs[0], "a window moves along it")
    for i, (axis, one) in enumerate(zip(ties.of(number), plain, strict=True)):
        if one[0] == one[1] == one[3] == 1 and tuple(one[2]) == (0, 0):
            made[i] = axis
        else:
            freeze(axis, "a window moves along it")
    return [made] * len(node.outputs)


def _along(ties: Ties, node: Node):
    """What runs along one axis and leaves the others alone: sums so far, sorting."""
    params = node.params
    i = params["axis"] if "axis" in params else params["dimension"]
    made = ties.of(node.inputs[0])
    for number in node.inputs[1:]:
        for x, y in zip(made, ties.of(number), strict=True):
            unite(x, y)
    freeze(made[i], f"{node.name} runs along it")
    return [made] * len(node.outputs)


def _reverse(ties: Ties, node: Node):
    axes = ties.of(node.inputs[0])
    for i in node.params["dimensions"]:
        freeze(axes[i], "it is reversed")
    return [axes]


def _gather(ties: Ties, node: Node):
    """Axes that are taken whole pass through; those that are looked up in stay whole."""
    numbers, sizes = node.params["dimension_numbers"], node.params["slice_sizes"]
    operand, indices = (ties.of(number) for number in node.inputs)
    batching = list(numbers.operand_batching_dims)
    made = ties.fresh(node.outputs[0], "a part of what is looked up")
    dropped = {*numbers.collapsed_slice_dims, *batching}
    offsets = iter(numbers.offset_dims)
    for i, axis in enumerate(operand):
        whole = same(sizes[i], size(axis)) and i not in numbers.start_index_map
        place = None if i in dropped else next(offsets)
        if i in batching:
            continue
        if whole and place is not None:
            made[place] = axis
        else:
            freeze(axis, "it is looked up in")
    freeze(indices[-1], "indices of a lookup")
    places = [i for i in range(len(made)) if i not in numbers.offset_dims]
    for j, (place, axis) in enumerate(zip(places, indices[:-1], strict=True)):
        made[place] = axis
        if j in numbers.start_indices_batching_dims:
            unite(operand[batching[numbers.start_indices_batching_dims.index(j)]], axis)
    return [made]


def _dynamic_slice(ties: Ties, node: Node):
    made = ties.fresh(node.outputs[0], "a part that moves")
    for i, axis in enumerate(ties.of(node.inputs[0])):
        if same(size(axis), node.params["slice_sizes"][i]):
            made[i] = axis
        else:
            freeze(axis, "a part is taken that moves")
    return [made]


def _dynamic_update(ties: Ties, node: Node):
    operand, update = ties.of(node.inputs[0]), ties.of(node.inputs[1])
    for axis, part in zip(operand, update, strict=True):
        if same(size(axis), size(part)):
            unite(axis, part)
        else:
            freeze(axis, "a part is replaced that moves")
            freeze(part, "a part is replaced that moves")
    return [operand]


def _stack(ties: Ties, node: Node):
    """Values side by side along a new axis, which is tied by nothing else."""
    first, *others = (ties.of(number) for number in node.inputs)
    _unite_all([first] * len(others), others)
    made = list(first)
    made.insert(node.params["axis"], new(len(node.inputs), "values are stacked along it"))
    return [made]


def _unstack(ties: Ties, node: Node):
    made = list(ties.of(node.inputs[0]))
    freeze(made.pop(node.params["axis"]), "it is unstacked")
    return [made] * len(node.outputs)


def _same(ties: Ties, node: Node):
    return [ties.of(number) for number in node.inputs]


def _tile(ties: Ties, node: Node):
    """Copies one after the other: the number of the copy runs before the index in it."""
    reps = map(_whole_number, node.params["reps"])
    return [[(*new(n), *axis) for n, axis in zip(reps, ties.of(node.inputs[0]), strict=True)]]


def _made(ties: Ties, node: Node):
    outputs = [ties.fresh(number) for number in node.outputs]
    ties.made += [axis for axes in outputs for axis in axes]
    return outputs


def _select(ties: Ties, node: Node):
    which, *cases = node.inputs
    made = list(ties.of(cases[0]))
    for number in [*cases[1:], which]:
        for i, axis in enumerate(ties.of(number)):
            unite(made[i], axis)
    return [made]


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
    | {
        "mulhi",
        "one_minus_square",
        "polygamma",
        "polynomial",
        "regularized_incomplete_beta",
        "zeta",
    }
)
"""Each element of the result is made of the elements at its place alone."""

MADE = frozenset({"iota", "random_bits"})
"""Made of nothing but their shape: made whole, then cut."""

RULES = {
    "argmax": _index_of,
    "argmin": _index_of,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "cumlogsumexp": _along,
    "cummax": _along,
    "cummin": _along,
    "cumprod": _along,
    "cumsum": _along,
    "device_put": _same,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "gather": _gather,
    "optimization_barrier": _same,
    "pad": _pad,
    "reduce_and": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_or": _reduce,
    "reduce_prod": _reduce,
    "reduce_sum": _reduce,
    "reduce_window_max": _window,
    "reduce_window_min": _window,
    "reduce_window_sum": _window,
    "reshape": _reshape,
    "rev": _reverse,
    "select_n": _select,
    "sharding_constraint": _same,
    "slice": _slice,
    "sort": _along,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
    "unstack": _unstack,
    **dict.fromkeys(MADE, _made),
}
"""What the other operations do to axes."""
