"""Masks, cuts and comparisons in NumPy, by the members of groups: no axes, no programs."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import compact
from jaxprune._tree import flatten, replaced

FORWARD = {"raw while loop"}  # no gradient goes back through it


def some(groups, seed, flagged=False):
    """A plan of random units of each group, one at least."""
    rng = np.random.default_rng(zlib.crc32(str(seed).encode()))
    kept = {}
    for group in groups:
        if flagged or not group.flags:
            kept[group.name] = rng.random(group.size) < rng.uniform(0.3, 0.9)
            kept[group.name][rng.integers(group.size)] = True
    return compact.Plan(groups, kept)


def halves(groups):
    """A plan of the first half of each group."""
    return compact.Plan(groups, {g.name: np.arange(g.size) < g.size // 2 for g in groups})


def indices(plan):
    """Path -> axis -> bool, the indices of it of which no unit is removed."""
    found = {}
    for name, kept in plan.kept.items():
        for member in plan.groups[name].members:
            own = kept[np.maximum(member.units, 0)] | (member.units < 0)
            axes = found.setdefault(member.path, {})
            axes[member.axis] = axes.get(member.axis, True) & own
    return found


def masks(plan, under=""):
    """Path -> mask, of the leaves that are weights and lose something."""
    made = {}
    weights = {leaf.path: leaf.shape for leaf in plan.groups.leaves if leaf.weight}
    for path, axes in indices(plan).items():
        if path in weights and not all(own.all() for own in axes.values()):
            mask = np.ones(weights[path], bool)
            for axis, own in axes.items():
                mask &= np.moveaxis(
                    np.broadcast_to(own, np.moveaxis(mask, axis, -1).shape), -1, axis
                )
            made[path.removeprefix(under)] = mask
    return made


def leaves(tree):
    """Path -> NumPy array."""
    paths, values, _ = flatten(tree)
    return {path: np.asarray(x) for path, x in zip(paths, values, strict=True)}


def masked(plan, tree):
    """Zeros in the place of what the plan removes."""
    paths, values, structure = flatten(tree)
    own = masks(plan)
    new = {
        p: np.where(own[p], x, np.zeros((), x.dtype))
        for p, x in zip(paths, values, strict=True)
        if p in own
    }
    return replaced(structure, paths, values, new)


def smaller(plan, arrays):
    """Path -> what is kept of an array."""
    found = indices(plan)

    def one(path, x):
        for axis, own in found.get(path, {}).items():
            x = np.compress(own, x, axis)
        return x

    return {path: one(path, x) for path, x in arrays.items()}


def weights_of(groups):
    """Paths of the leaves that are weights."""
    return frozenset(leaf.path for leaf in groups.leaves if leaf.weight)


def program(function, weights, gradients):
    """Compiled (tree, args) -> results, and path -> gradient of their squares by the weights."""

    def run(tree, args):
        paths, own, structure = flatten(tree)
        moving = {path: x for path, x in zip(paths, own, strict=True) if path in weights}

        def loss(moving):
            made = jax.tree.leaves(function(replaced(structure, paths, own, moving), *args))
            return sum(jnp.square(x).sum() for x in made), made

        if not gradients:
            return loss(moving)[1], {}
        (_, made), grads = jax.value_and_grad(loss, has_aux=True)(moving)
        return made, grads

    return jax.jit(run)


_kept = functools.lru_cache(maxsize=256)(program)


def whole_program(groups, gradients=True):
    """The same of the network that was traced; tests that ask for it again compile nothing."""
    return _kept(groups.apply, weights_of(groups), gradients)


def errors(plan, params, args, gradients=True, function=None):
    """(of results, of gradients): the largest difference over the largest value, of each array.

    Gradients below a hundredth of the largest count as that large: sums that cancel have rounding.
    """
    weights = weights_of(plan.groups)
    whole, run = whole_program(plan.groups, gradients), plan.apply
    if function is not None:
        whole, run = program(function, weights, gradients), plan.wrap(function)
    zeros = masked(plan, params)
    small = plan.cut(zeros)
    for path, x in smaller(plan, leaves(zeros)).items():
        np.testing.assert_array_equal(leaves(small)[path], x)
    expected, slopes = jax.device_get(whole(zeros, args))
    got, small_slopes = jax.device_get(program(run, weights, gradients)(small, args))
    slopes = smaller(plan, slopes)
    largest = max((np.abs(g).max(initial=0) for g in slopes.values()), default=0)
    forward = [error(a, b) for a, b in zip(got, expected, strict=True)]
    backward = [error(small_slopes[path], g, largest / 100) for path, g in slopes.items()]
    return np.max(forward), np.max([0.0, *backward])


def error(got, expected, floor=0.0):
    assert got.shape == expected.shape
    difference = np.abs(got.astype(np.float64) - expected).max(initial=0)
    largest = max(np.abs(expected).max(initial=0), floor)
    return difference / largest if difference else 0.0
