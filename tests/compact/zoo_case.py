"""What an entry of the zoo is, and how each library makes one.

Layers are initialized as shapes alone and NumPy draws the values: nothing is compiled.
"""

import dataclasses
import functools
from collections.abc import Callable

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from draws import drawn
from flax import nnx


@dataclasses.dataclass(frozen=True)
class Case:
    """A network: `make(key)` gives (apply, params, args)."""

    name: str
    make: Callable


def normal(*shape):
    """An input of noise."""
    return lambda rng: rng.standard_normal(shape, np.float32)


def tokens(vocabulary, *shape):
    """An input of integers."""
    return lambda rng: rng.integers(vocabulary, size=shape, dtype=np.int32)


def prng_key(rng):
    """An input that is a key."""
    return jax.random.key(rng.integers(2**31))


def linen(body, *inputs, rngs=(), mutable=False):
    """A function that makes layers.

    With the name of a stream in `rngs`, a key is its last argument. What is `mutable` changes
    during the call and is dropped.
    """
    module, number = Net(body), len(inputs)

    def make(key):
        rng = generator(key)
        args = [make(rng) for make in (*inputs, *[prng_key] * len(rngs))]
        streams = dict(zip(rngs, args[number:], strict=True))
        shapes = jax.eval_shape(module.init, {"params": key, **streams}, *args[:number])

        def apply(variables, *args):
            streams = dict(zip(rngs, args[number:], strict=True))
            answer = module.apply(variables, *args[:number], rngs=streams, mutable=mutable)
            return answer[0] if mutable else answer

        return _plain(apply), drawn(rng, shapes), tuple(args)

    return Case(_name("linen", body), make)


class Net(nn.Module):
    body: Callable

    @nn.compact
    def __call__(self, *args):
        return self.body(*args)


def nnx_case(build, *inputs):
    """A module of NNX: its parameters and statistics are the state."""

    def make(key):
        rng = generator(key)
        model = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
        model.eval()
        graph, state, rest = nnx.split(model, nnx.Any(nnx.Param, nnx.BatchStat), ...)
        rest = jax.tree.map(_start, rest)

        def apply(state, *args):
            return nnx.merge(graph, state, rest, copy=True)(*args)

        return _plain(apply), drawn(rng, state), tuple(make(rng) for make in inputs)

    return Case(_name("nnx", build), make)


def _start(leaf):
    """Keys and counters of NNX."""
    counts = jnp.issubdtype(leaf.dtype, jnp.integer)
    return jnp.zeros(leaf.shape, leaf.dtype) if counts else jax.random.key(0)


def equinox_case(build, *inputs):
    """A module of Equinox over examples; what is no array is not among the parameters."""

    def make(key):
        rng = generator(key)
        shapes, rest = eqx.partition(
            eqx.filter_eval_shape(build, key), lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
        )

        def apply(params, *args):
            return jax.vmap(eqx.combine(params, rest))(*args)

        return _plain(apply), drawn(rng, shapes), tuple(make(rng) for make in inputs)

    return Case(_name("equinox", build), make)


def raw(apply, shapes, *inputs):
    """A function of a tree of arrays, drawn by their shapes."""

    def make(key):
        rng = generator(key)
        structs = jax.tree.map(
            lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
            shapes,
            is_leaf=lambda leaf: isinstance(leaf, tuple),
        )
        return _plain(apply), drawn(rng, structs), tuple(make(rng) for make in inputs)

    return Case(_name("raw", apply), make)


def generator(key):
    """NumPy's generator from a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _plain(apply):
    """Networks may add a vector to a matrix, as their authors do."""

    @functools.wraps(apply)
    def wrapped(params, *args):
        with jax.numpy_rank_promotion("allow"):
            return apply(params, *args)

    return wrapped


def _name(library, function):
    return f"{library} {function.__name__.replace('_', ' ').strip()}"
