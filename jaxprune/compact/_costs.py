"""What a program costs when parts of it are kept: parameters, bytes, multiply-adds."""

import math
from collections.abc import Iterator

import jax.numpy as jnp

from jaxprune.compact._graph import Body, Node
from jaxprune.compact._groups import Groups
from jaxprune.compact._keep import Keep
from jaxprune.compact._ties import Ties


def parameters(groups: Groups, keep: Keep) -> int:
    """How many weights are left; state does not count."""
    return sum(n for n, _ in _weights(groups, keep))


def num_bytes(groups: Groups, keep: Keep) -> int:
    """How many bytes the weights that are left take, each in its own dtype."""
    return sum(n * size for n, size in _weights(groups, keep))


def _weights(groups: Groups, keep: Keep) -> Iterator[tuple[int, int]]:
    for leaf in groups.leaves:
        if leaf.weight:
            axes = groups._ties.of(groups._numbers[leaf.path])
            yield math.prod(keep.size(axis) for axis in axes), jnp.dtype(leaf.dtype).itemsize


def macs(groups: Groups, keep: Keep) -> int:
    """Multiply-adds of a call with the arguments that were traced.

    Loops over stacked layers count each pass; of branches the most expensive one counts, and a
    while loop as one pass.
    """
    return _macs(groups._ties, keep, groups._ties.graph.body)


def _macs(ties: Ties, keep: Keep, body: Body) -> int:
    total = 0
    for node in body.nodes:
        if node.bodies:
            inner = [_macs(ties, keep, each) for each in node.bodies]
            times = node.params["length"] if node.name == "scan" else 1
            total += times * (max(inner) if node.name == "cond" else sum(inner))
        elif node.name in ("dot_general", "conv_general_dilated"):
            total += _product(ties, keep, node)
    return total


def _product(ties: Ties, keep: Keep, node: Node) -> int:
    """Elements of the result times the length of their sums."""
    if node.name == "dot_general":
        operand, numbers = node.inputs[0], node.params["dimension_numbers"]
        summed = numbers[0][0]
    else:
        operand = node.inputs[1]
        summed = node.params["dimension_numbers"].rhs_spec[1:]
    axes = ties.of(operand)
    result = math.prod(keep.size(axis) for axis in ties.of(node.outputs[0]))
    return result * math.prod(keep.size(axes[i]) for i in summed)
