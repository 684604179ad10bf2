"""Axes as products and concatenations, against programs whose elements are followed one by one."""

import axes_programs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune.compact import _axes
from jaxprune.compact._evaluate import evaluate
from jaxprune.compact._graph import graph
from jaxprune.compact._keep import Keep
from jaxprune.compact._tie import tie


def tied(function, *shapes):
    """The axes of a program, those of its arguments, those of its results."""
    structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    jaxpr = jax.make_jaxpr(function)(*structs)
    ties = tie(graph(jaxpr))
    body = ties.graph.body
    return jaxpr, [ties.of(n) for n in body.inputs], [ties.of(n) for n in body.outputs]


def free(axes):
    """Sizes of the parts of axes that can be cut."""
    roots = dict.fromkeys(root for axis in axes for root in _axes.roots(axis))
    return [root.size for root in roots if not root.frozen]


def drawn(rng, axes):
    """Some indices of each free part."""
    kept = {}
    for root in dict.fromkeys(root for axis in axes for root in _axes.roots(axis)):
        if not root.frozen:
            kept[root] = rng.random(root.size) < 0.6
            kept[root][rng.integers(root.size)] = True
    return Keep(kept)


def vectors(keep, axes):
    made = [keep.vector(axis) for axis in axes]
    return [
        np.ones(_axes.size(a), bool) if v is None else v for a, v in zip(axes, made, strict=True)
    ]


@settings(max_examples=300)
@given(axes_programs.programs(), st.integers(0, 2**31))
def test_what_is_kept_of_a_value_is_what_is_kept_of_its_sources(program, seed):
    """And sizes that are kept are those of what is kept."""
    shape, steps = program
    _, (own,), results = tied(lambda x: axes_programs.run(jnp, steps, x), shape)
    keep = drawn(np.random.default_rng(seed), own)
    kept = axes_programs.outer(vectors(keep, own)).reshape(-1)
    for axes, sets in zip(results, axes_programs.sources(steps, shape), strict=True):
        assert tuple(map(_axes.size, axes)) == sets.shape
        found = axes_programs.outer(vectors(keep, axes))
        for here, indices in zip(found.reshape(-1), sets.reshape(-1), strict=True):
            assert all(kept[i] == here for i in indices)
        assert [keep.size(axis) for axis in axes] == [v.sum() for v in vectors(keep, axes)]


@settings(max_examples=40)
@given(axes_programs.programs(most=4), st.integers(0, 2**31))
def test_a_program_of_what_is_kept_gives_what_is_kept_of_its_results(program, seed):
    shape, steps = program
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 100, shape).astype(np.float32)
    jaxpr, (own,), results = tied(lambda x: axes_programs.run(jnp, steps, x), shape)
    keep = drawn(rng, own)
    small = evaluate(jaxpr, [vectors(keep, own)], ["x"], [put(keep.cut(x, own))])
    whole = axes_programs.run(np, steps, x)
    for got, value, axes in zip(small, whole, results, strict=True):
        np.testing.assert_array_equal(got, value[np.ix_(*vectors(keep, axes))])


@pytest.mark.parametrize(
    ("function", "shape", "parts"),
    [
        (lambda x: x.reshape(3, 4), (12,), [3, 4]),
        (lambda x: x.reshape(2, 2, 3), (4, 3), [2, 2, 3]),
        (lambda x: x.reshape(6, 2).reshape(3, 4), (12,), [3, 2, 2]),
        (lambda x: x.reshape(4, 3).reshape(3, 4), (12,), []),
        (lambda x: jnp.split(x, 3), (12,), [4, 4, 4]),
        (lambda x: jnp.split(x, [3, 5]), (12,), [3, 2, 7]),
        (lambda x: sum(jnp.split(x, 3)), (12,), [4]),
        (lambda x: x[:9] + x[3:], (12,), [3]),
        (lambda x: x[:8] + x[4:], (12,), [4]),
        (lambda x: x.reshape(3, 4) + x.reshape(4, 3).T, (12,), []),
        (lambda x: jnp.concatenate([x, x]).reshape(2, 12), (12,), [12]),
        (lambda x: jnp.concatenate([x, x]).reshape(12, 2), (12,), [6, 2]),
        (lambda x: jnp.repeat(x, 2), (12,), [12]),
        (lambda x: jnp.tile(x, 2), (12,), [12]),
        (lambda x: jnp.stack([x, 2 * x], -1).reshape(24), (12,), [12]),
        (lambda x: jnp.unstack(x.reshape(3, 4)), (12,), [4]),
        (lambda x: jax.device_put(x) + x, (12,), [12]),
        (lambda x: jax.grad(lambda x: jnp.tanh(x).sum())(x) * jnp.log2(x), (12,), [12]),
        (lambda x: jnp.roll(x, 3), (12,), [9, 3]),
        (lambda x: x + jnp.roll(x, 3), (12,), [3]),
        (lambda x: x + jnp.roll(x, 5), (12,), []),
        (lambda x: x[::2], (12,), [6]),
        (lambda x: x[1::3], (12,), [4]),
        (lambda x: x[::5], (12,), []),
        (lambda x: x[::-1], (12,), []),
        (lambda x: x + x.T, (12, 12), [12]),
        (lambda x: x.reshape(2, 6).T.reshape(12), (12,), [2, 6]),
        (lambda x: x[:, :3].reshape(-1) * x[:, 3:].reshape(-1), (4, 6), [4, 3]),
    ],
)
def test_parts_that_can_be_cut(function, shape, parts):
    _, (own,), _ = tied(function, shape)
    assert free(own) == parts


def test_more_than_one_argument():
    """A concatenation is tied to a product, to its parts, and over the parts to one another."""

    def function(a, b, c, d):
        both = jnp.concatenate([a, b])
        return both + c, both.reshape(2, 4) * d[:, None]

    _, (a, b, c, d), _ = tied(function, (4,), (4,), (8,), (2,))
    assert free(a) == free(b) == free(c) == [4]
    assert _axes.roots(a[0]) == _axes.roots(b[0])
    assert free(d) == []


def test_why_the_first_reason_to_freeze_stays():
    _, (own,), _ = tied(lambda x: jnp.cumsum(x[::-1]), (12,))
    assert {root.frozen for root in _axes.roots(own[0])} == {"it is reversed"}


def test_indices_that_do_not_go_together_are_refused():
    _, (own,), _ = tied(lambda x: x.reshape(2, 3), (6,))
    with pytest.raises(ValueError, match="indices are kept there that do not go together"):
        Keep().assign(own[0], np.array([True, True, False, False, True, True]))
