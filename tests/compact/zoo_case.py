"""What an entry of the zoo is, and how each library makes one."""

import dataclasses
import functools
import math
from collections.abc import Callable

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


@dataclasses.dataclass(frozen=True)
class Case:
    """A network: `make(key)` gives (apply, params, args)."""

    name: str
    make: Callable


def normal(*shape):
    """An input of noise."""
    return lambda key: jax.random.normal(key, shape)


def tokens(vocabulary, *shape):
    """An input of integers."""
    return lambda key: jax.random.randint(key, shape, 0, vocabulary)


def linen(body, *inputs, rngs=(), mutable=False):
    """A function that makes layers.

    With the name of a stream in `rngs`, a key is its argument. What is `mutable` changes during the
    call and is dropped.
    """
    module = Net(body)

    def make(key):
        args, keys = _args(key, inputs), jax.random.split(key, 1 + len(rngs))
        streams = dict(zip(rngs, keys[1:], strict=True))
        variables = jax.jit(module.init)({"params": keys[0], **streams}, *args)

        def apply(variables, *args):
            given = dict(zip(rngs, args[len(inputs) :], strict=True))
            own = args[: len(inputs)]
            answer = module.apply(variables, *own, rngs=given, mutable=mutable)
            return answer[0] if mutable else answer

        return _plain(apply), _perturbed(key, variables), (*args, *streams.values())

    return Case(_name("linen", body), make)


class Net(nn.Module):
    body: Callable

    @nn.compact
    def __call__(self, *args):
        return self.body(*args)


def nnx_case(build, *inputs):
    """A module of NNX: its parameters and statistics are the state."""

    def make(key):
        model = build(nnx.Rngs(key))
        model.eval()
        graph, state, rest = nnx.split(model, nnx.Any(nnx.Param, nnx.BatchStat), ...)

        def apply(state, *args):
            return nnx.merge(graph, state, rest)(*args)

        return _plain(apply), _perturbed(key, state), _args(key, inputs)

    return Case(_name("nnx", build), make)


def equinox_case(build, *inputs):
    """A module of Equinox over examples; what is no array is not among the parameters."""

    def make(key):
        params, rest = eqx.partition(build(key), eqx.is_inexact_array)

        def apply(params, *args):
            return jax.vmap(eqx.combine(params, rest))(*args)

        return _plain(apply), _perturbed(key, params), _args(key, inputs)

    return Case(_name("equinox", build), make)


def raw(apply, shapes, *inputs):
    """A function of a tree of arrays, drawn by their shapes."""

    def make(key):
        leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
        keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
        params = [_drawn(*each) for each in zip(keys, leaves, strict=True)]
        return _plain(apply), jax.tree.unflatten(treedef, params), _args(key, inputs)

    return Case(_name("raw", apply), make)


def _drawn(key, shape):
    fan_in = math.prod(shape[:-1])  # 1 for a vector
    return jax.random.normal(key, shape) * (math.sqrt(1.5 / fan_in) if len(shape) > 1 else 0.5)


def _perturbed(key, tree):
    """Zeros and ones become random, ones stay positive."""

    def one(key, leaf):
        uniform = jax.random.uniform(key, leaf.shape, minval=0.5, maxval=1.5)
        shifted = jnp.where(leaf == 0, (uniform - 1.0) * 0.7, leaf)
        return jnp.where(leaf == 1, uniform, shifted).astype(leaf.dtype)

    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.fold_in(key, 2), len(leaves))
    return jax.tree.unflatten(treedef, map(one, keys, leaves))


def _args(key, inputs):
    keys = jax.random.split(jax.random.fold_in(key, 3), len(inputs))
    return tuple(make(key) for make, key in zip(inputs, keys, strict=True))


def _plain(apply):
    """Networks may add a vector to a matrix, as their authors do."""

    @functools.wraps(apply)
    def wrapped(params, *args):
        with jax.numpy_rank_promotion("allow"):
            return apply(params, *args)

    return wrapped


def _name(library, function):
    return f"{library} {function.__name__.replace('_', ' ').strip()}"
