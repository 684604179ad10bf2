"""What products, reductions and windows do to axes."""

from jaxprune.compact._axes import freeze, new, size, unite
from jaxprune.compact._graph import Node
from jaxprune.compact._ties import Ties, unknown


def dot(ties: Ties, node: Node):
    lhs, rhs = (ties.of(number) for number in node.inputs)
    (left, right), (left_batch, right_batch) = node.params["dimension_numbers"]
    for i, j in [*zip(left, right, strict=True), *zip(left_batch, right_batch, strict=True)]:
        unite(lhs[i], rhs[j])
    free = [axis for i, axis in enumerate(lhs) if i not in (*left, *left_batch)]
    free += [axis for i, axis in enumerate(rhs) if i not in (*right, *right_batch)]
    return [[lhs[i] for i in left_batch] + free]


def convolution(ties: Ties, node: Node):
    params = node.params
    numbers, number = params["dimension_numbers"], params["feature_group_count"]
    lhs, rhs = (ties.of(number) for number in node.inputs)
    if params["batch_group_count"] != 1:
        return unknown(ties, node)
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


def reduce(ties: Ties, node: Node):
    axes = node.params["axes"]
    kept = [axis for i, axis in enumerate(ties.of(node.inputs[0])) if i not in axes]
    return [kept] * len(node.outputs)


def index_of(ties: Ties, node: Node):
    axes = ties.of(node.inputs[0])
    for i in node.params["axes"]:
        freeze(axes[i], f"{node.name} gives an index along it")
    return reduce(ties, node)


def window(ties: Ties, node: Node):
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


def along(ties: Ties, node: Node):
    """What runs along one axis and leaves the others alone: sums so far, sorting."""
    params = node.params
    i = params["axis"] if "axis" in params else params["dimension"]
    made = ties.of(node.inputs[0])
    for number in node.inputs[1:]:
        for x, y in zip(made, ties.of(number), strict=True):
            unite(x, y)
    freeze(made[i], f"{node.name} runs along it")
    return [made] * len(node.outputs)
