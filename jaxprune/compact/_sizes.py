"""Parameters of operations that carry sizes, when these are of what is kept.

`run` is an `Evaluation`.
"""

from jaxprune.compact import _axes
from jaxprune.compact._graph import Node


def _slice(run, node: Node):
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
            starts.append(int(vector[:start].sum()))
            limits.append(int(vector[:limit].sum()))
        else:  # the first of every so many, which are all kept
            starts.append(start)
            limits.append(size)
    return {"start_indices": tuple(starts), "limit_indices": tuple(limits)}


def _pad(run, node: Node):
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


def _window_sizes(run, node: Node):
    """Slices of an operand: where they took all of an axis, all that is kept."""
    shape, sizes = run.ties.graph.shapes[node.inputs[0]], run.sizes(node.inputs[0])
    old = node.params["slice_sizes"]
    new = [b if _axes.same(n, a) else n for n, a, b in zip(old, shape, sizes, strict=True)]
    return {"slice_sizes": tuple(new)}


def _tile(run, node: Node):
    (number,), (result,) = node.inputs, node.outputs
    pairs = zip(run.sizes(result), run.sizes(number), strict=True)
    return {"reps": tuple(whole // one for whole, one in pairs)}


PARAMS = {
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
