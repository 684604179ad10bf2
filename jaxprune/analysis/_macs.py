"""Multiply-adds of one call, leaf by leaf, read off the program."""

from jaxprune import _program
from jaxprune.analysis import _origins
from jaxprune.analysis._walk import Count, walk
from jaxprune.masks._targets import check_distinct


def macs(function, params, *args) -> dict[str, int]:
    """Multiply-adds of `function(params, *args)` in which each leaf takes part, while dense.

        matrix product:  elements of the result * length of the sum
        convolution:     elements of the result * taps of the kernel * input channels of a group

    The program is traced and read; nothing is computed. Of a leaf that is called k times, or in a
    `scan` of length k, each call counts.

    Args:
      function: what is called. Pass data as arguments: what it closes over is taken for constant.
      params: any pytree. Its leaves are arrays or `jax.ShapeDtypeStruct`; others, such as
        functions, are handed over as they are.
      *args: pytrees, likewise.

    Returns:
      Path -> multiply-adds, for every leaf; 0 of a leaf that takes part in no product, such as a
      bias, a norm's scale or an embedding that is looked up. `flops` reports more.

    Raises:
      TypeError: function is not callable.
      ValueError: two leaves have one path.

    What a leaf is:
      - It stays what it is through casts, transposes, reshapes, slices, loops, and operations with
        constants, bools, random numbers and scalars: `w * mask` is w. A mask of floats among the
        args is data, and what it touches is data.
      - Of leaves that meet element by element the largest counts: in g * v / norm(v) it is v.
        Leaves that are equally large share, concatenated ones by their elements, and leaves that
        are multiplied with each other by their sizes. Shares are whole and add up.
      - What a product or a sum makes is no leaf.
      - What data looks up in a leaf is data where it is vectors, an embedding, and the leaf where
        it is matrices, such as experts.

    What a product is: matrix products and convolutions alone; not `jnp.sum(w * x)`, an FFT or a
    solver. A position in the padding is a position. In a transposed convolution each element of
    the input meets each tap once, along the axes that have a stride, and the zeros between them
    cost nothing. `cond` counts its largest branch and `while` one pass. A product counts also
    where its result is not used.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import analysis
      >>> params = {"kernel": jnp.ones((8, 32)), "bias": jnp.ones(32)}
      >>> x = jax.ShapeDtypeStruct((8,), jnp.float32)
      >>> analysis.macs(lambda p, x: x @ p["kernel"] + p["bias"], params, x)
      {'bias': 0, 'kernel': 256}
    """
    paths, count = trace(function, params, args)
    return {path: count.leaves.get(i, 0) for i, path in enumerate(paths)}


def trace(function, params, args) -> tuple[list[str], Count]:
    """The paths of params, and the count of a call, in which leaves have their place as number."""
    traced = _program.trace(function, params, args)
    check_distinct(traced.paths)
    jaxpr = traced.jaxpr.jaxpr
    origins = [
        _origins.leaf(i, var.aval) if i < len(traced.leaves) else _origins.argument(var.aval)
        for i, var in zip(traced.places, jaxpr.invars, strict=True)
    ]
    return traced.paths, walk(jaxpr, origins)[1]
