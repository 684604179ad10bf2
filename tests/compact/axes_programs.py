"""Programs that move elements about, drawn at random, and where each element came from.

A program is a list of steps; a step makes a value of those before it, the first of which is the
argument. `run` runs it with NumPy or jax.numpy, `sources` says for every element of every value
which elements of the argument are added up in it.
"""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

KINDS = ["reshape", "transpose", "slice", "beside", "deal", "tile", "stack", "take", "pad", "add"]
SHAPES = [(12,), (6, 4), (4, 6), (2, 3, 4), (3, 8)]


def run(module, steps, x):
    """All values of a program."""
    values = [x]
    for step in steps:
        values.append(_step(module, values, *step))
    return values


def _step(module, values, kind, number, given):
    x = values[number]
    if kind == "reshape":
        return x.reshape(given)
    if kind == "transpose":
        return module.transpose(x, given)
    if kind == "slice":
        axis, start, limit, stride = given
        return x[(slice(None),) * axis + (slice(start, limit, stride),)]
    if kind == "beside":
        other, axis = given
        return module.concatenate([values[other], x], axis)
    if kind == "deal":
        axis, cuts, order = given
        parts = module.split(x, cuts, axis)
        return module.concatenate([parts[i] for i in order], axis)
    if kind == "stack":
        other, axis = given
        return module.stack([values[other], x], axis)
    if kind == "take":
        axis, index = given
        parts = jnp.unstack(x, axis=axis) if module is jnp else np.moveaxis(x, axis, 0)
        return parts[index]
    if kind == "tile":
        return module.tile(x, given)
    if kind == "pad":
        axis, low, high = given
        return module.pad(x, [(low, high) if i == axis else (0, 0) for i in range(x.ndim)])
    return x + values[given]


def sources(steps, shape):
    """For each value an array of sets of flat indices of the argument."""
    x = np.empty(shape, object)
    for i, index in enumerate(np.ndindex(*shape)):
        x[index] = _Set({i})
    return run(_WithSets, steps, x)


class _Set(frozenset):
    """Adding joins."""

    def __add__(self, other):
        return _Set(self | other)


class _WithSets:
    transpose = staticmethod(np.transpose)
    concatenate = staticmethod(np.concatenate)
    split = staticmethod(np.split)
    tile = staticmethod(np.tile)
    stack = staticmethod(np.stack)

    @staticmethod
    def pad(x, widths):
        whole = np.full([n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)], _Set())
        whole[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))] = x
        return whole


def _factors(n):
    """All shapes of up to three axes of n elements."""
    pairs = [(a, n // a) for a in range(1, n + 1) if n % a == 0]
    triples = [(a, b, c // b) for a, c in pairs for b in range(1, c + 1) if c % b == 0]
    return [(n,), *pairs, *triples]


@st.composite
def programs(draw, most=6):
    """(shape of the argument, steps)."""
    shape = draw(st.sampled_from(SHAPES))
    shapes, steps = [shape], []
    for _ in range(draw(st.integers(1, most))):
        number = draw(st.integers(0, len(shapes) - 1))
        step = draw(_steps(shapes, number))
        new = _step(np, [np.empty(s) for s in shapes], *step).shape
        if 0 < math.prod(new) <= 60:
            steps.append(step)
            shapes.append(new)
    return shape, steps


@st.composite
def _steps(draw, shapes, number):
    shape = shapes[number]
    axis = draw(st.integers(0, len(shape) - 1))
    n = shape[axis]
    kind = draw(st.sampled_from([kind for kind in KINDS if kind != "take" or len(shape) > 1]))
    if kind == "reshape":
        given = draw(st.sampled_from(_factors(math.prod(shape))))
    elif kind == "transpose":
        given = tuple(draw(st.permutations(range(len(shape)))))
    elif kind == "slice":
        start = draw(st.integers(0, n - 1))
        given = axis, start, draw(st.integers(start + 1, n)), draw(st.sampled_from([1, 1, 1, 2]))
    elif kind == "deal":
        cuts = draw(st.lists(st.integers(1, max(1, n - 1)), max_size=2, unique=True).map(sorted))
        cuts = [cut for cut in cuts if cut < n]
        given = axis, cuts, draw(st.permutations(range(len(cuts) + 1)))
    elif kind == "stack":
        same = [i for i, s in enumerate(shapes) if s == shape]
        given = draw(st.sampled_from(same)), draw(st.integers(0, len(shape)))
    elif kind == "take":
        given = axis, draw(st.integers(0, n - 1))
    elif kind == "tile":
        given = tuple(2 if i == axis else 1 for i in range(len(shape)))
    elif kind == "pad":
        given = axis, draw(st.integers(0, 2)), draw(st.integers(0, 2))
    elif kind == "beside":
        fit = [i for i, s in enumerate(shapes) if _beside(s, shape, axis)]
        given = draw(st.sampled_from(fit)), axis
    else:
        given = draw(st.sampled_from([i for i, s in enumerate(shapes) if s == shape]))
    return kind, number, given


def _beside(a, b, axis):
    return len(a) == len(b) and all(
        x == y for i, (x, y) in enumerate(zip(a, b, strict=True)) if i != axis
    )


def outer(vectors):
    """Which elements of an array are kept, of which indices are along each axis."""
    made = [list(np.asarray(v)) for v in vectors]
    return np.array([all(p) for p in itertools.product(*made)]).reshape([len(v) for v in made])
