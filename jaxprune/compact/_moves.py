"""What operations that put elements elsewhere do to axes."""

from jaxprune.compact import _axes
from jaxprune.compact._axes import Axis, cut, freeze, new, same, size, unite
from jaxprune.compact._graph import Node
from jaxprune.compact._ties import Ties, unknown, whole_number


def broadcast(ties: Ties, node: Node):
    made = ties.fresh(node.outputs[0])
    for axis, i in zip(ties.of(node.inputs[0]), node.params["broadcast_dimensions"], strict=True):
        if axis:
            made[i] = axis
    return [made]


def transpose(ties: Ties, node: Node):
    axes = ties.of(node.inputs[0])
    return [[axes[i] for i in node.params["permutation"]]]


def squeeze(ties: Ties, node: Node):
    dropped = node.params["dimensions"]
    return [[axis for i, axis in enumerate(ties.of(node.inputs[0])) if i not in dropped]]


def reshape(ties: Ties, node: Node):
    """Axes of old and new sizes, from the left, where the products of their sizes agree."""
    old, sizes = ties.of(node.inputs[0]), ties.graph.shapes[node.outputs[0]]
    if node.params["dimensions"] is not None:
        return unknown(ties, node)
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
                return unknown(ties, node)
        why = "a reshape cuts it where it does not divide"
        unite(tuple(atom for axis in a for atom in axis), tuple(x for axis in b for x in axis), why)
    return [made]


def _total(axes):
    return size(tuple(atom for axis in axes for atom in axis))


def _less(a, b) -> bool:
    return a < b if isinstance(a, int) and isinstance(b, int) else isinstance(a, int)


def slice_(ties: Ties, node: Node):
    params, shape = node.params, ties.graph.shapes[node.inputs[0]]
    made = []
    strides = params["strides"] or (1,) * len(shape)
    for i, axis in enumerate(ties.of(node.inputs[0])):
        start, limit, stride = params["start_indices"][i], params["limit_indices"][i], strides[i]
        made.append(_sliced(axis, start, limit, stride, ties.graph.shapes[node.outputs[0]][i]))
    return [made]


def _sliced(axis: Axis, start, limit, stride, length) -> Axis:
    start, limit, whole = whole_number(start), whole_number(limit), size(axis)
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


def split(ties: Ties, node: Node):
    axes, i = ties.of(node.inputs[0]), node.params["axis"]
    made, start = [], 0
    for n in map(int, node.params["sizes"]):
        piece = _sliced(axes[i], start, start + n, 1, n)
        made.append([*axes[:i], piece, *axes[i + 1 :]])
        start += n
    return made


def concatenate(ties: Ties, node: Node):
    values = [ties.of(number) for number in node.inputs]
    i = node.params["dimension"]
    made = list(values[0])
    for axes in values[1:]:
        for j, axis in enumerate(axes):
            if j != i:
                unite(made[j], axis)
    made[i] = _axes.joined([axes[i] for axes in values])
    return [made]


def pad(ties: Ties, node: Node):
    made: list[Axis | None] = []
    for axis, config in zip(ties.of(node.inputs[0]), node.params["padding_config"], strict=True):
        low, high, inner = map(whole_number, config)
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


def gather(ties: Ties, node: Node):
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


def dynamic_slice(ties: Ties, node: Node):
    made = ties.fresh(node.outputs[0], "a part that moves")
    for i, axis in enumerate(ties.of(node.inputs[0])):
        if same(size(axis), node.params["slice_sizes"][i]):
            made[i] = axis
        else:
            freeze(axis, "a part is taken that moves")
    return [made]


def dynamic_update(ties: Ties, node: Node):
    operand, update = ties.of(node.inputs[0]), ties.of(node.inputs[1])
    for axis, part in zip(operand, update, strict=True):
        if same(size(axis), size(part)):
            unite(axis, part)
        else:
            freeze(axis, "a part is replaced that moves")
            freeze(part, "a part is replaced that moves")
    return [operand]


def tile(ties: Ties, node: Node):
    """Copies one after the other: the number of the copy runs before the index in it."""
    reps = map(whole_number, node.params["reps"])
    return [[(*new(n), *axis) for n, axis in zip(reps, ties.of(node.inputs[0]), strict=True)]]


def stack(ties: Ties, node: Node):
    """Values side by side along a new axis."""
    made, *others = (list(ties.of(number)) for number in node.inputs)
    for axes in others:
        for x, y in zip(made, axes, strict=True):
            unite(x, y)
    made.insert(node.params["axis"], new(len(node.inputs), "values are stacked along it"))
    return [made]


def unstack(ties: Ties, node: Node):
    made = list(ties.of(node.inputs[0]))
    freeze(made.pop(node.params["axis"]), "it is unstacked")
    return [made] * len(node.outputs)


def reverse(ties: Ties, node: Node):
    axes = ties.of(node.inputs[0])
    for i in node.params["dimensions"]:
        freeze(axes[i], "it is reversed")
    return [axes]


def select(ties: Ties, node: Node):
    which, *cases = node.inputs
    made = list(ties.of(cases[0]))
    for number in [*cases[1:], which]:
        for i, axis in enumerate(ties.of(number)):
            unite(made[i], axis)
    return [made]
