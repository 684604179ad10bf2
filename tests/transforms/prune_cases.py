"""The transforms of the contract table, and one small run that all of them make.

Weights, gradients and learning rates are dyadic, so that arithmetic is exact and programs that fuse
differently agree to the bit. Everything shares one tree and one course: few programs compile.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from draws import put

import jaxprune as jp

TARGET = 0.75
BEGIN, END, N = 1, 5, 2
EVENTS = (1, 3, 5)
STEPS = 7
COURSE = {"sparsity": jp.polynomial(TARGET, begin=BEGIN, end=END), "when": jp.every(N)}


def dyadic(seed, shape, dtype=jnp.float32):
    """Normal numbers, rounded to 64ths, none of them 0."""
    x = np.round(np.random.default_rng(seed).normal(size=shape) * 64)
    return put((np.where(x == 0, 1, x) / 64).astype(dtype))


def make_params(dtype=jnp.float32, seed=0):
    return {
        "a": {"bias": dyadic(seed + 2, (8,), dtype), "kernel": dyadic(seed, (16, 8), dtype)},
        "b": {"kernel": dyadic(seed + 1, (8, 12), dtype)},
    }


def make_grads(step, params, dtype=None):
    """Gradients that depend on the step alone, and are the same number in any program."""

    def one(w):
        index = jnp.arange(w.size, dtype=jnp.int32).reshape(w.shape)
        value = (index * 37 + jnp.int32(step) * 101) % 31 - 15
        return (value.astype(jnp.float32) / 16).astype(dtype or w.dtype)

    return jax.tree.map(one, params)


def sgd():
    return optax.sgd(0.125, momentum=0.5)


def adam():
    return optax.adam(2**-6)


def _wrap(default, **options):
    return lambda inner=None: jp.prune(inner or default(), **COURSE, **options)


def _chained(inner=None):
    return optax.chain(inner or adam(), jp.prune(**COURSE))


def _moving(transform, **options):
    """Sparse from start to end; the same events as the others'."""
    when, key = jp.every(N, begin=BEGIN, end=END), jax.random.key(4)
    course = {"sparsity": TARGET, "when": when, "fraction": 0.5, "key": key} | options
    return lambda inner=None: transform(inner or sgd(), **course)


def _static(inner=None):
    return jp.static(inner or sgd(), sparsity=TARGET, score=jp.scores.random(jax.random.key(4)))


def _keep(inner=None):
    return jp.keep(inner or adam(), jp.masks.make(make_params(), TARGET))


TRANSFORMS = {
    "sgd": _wrap(sgd),
    "adam": _wrap(adam),
    "chained": _chained,
    "global": _wrap(adam, scope="global"),
    "nm": _wrap(sgd, pattern=jp.NM(2, 4)),
    "block": _wrap(sgd, pattern=jp.Block((2, 2))),
    "channel": _wrap(sgd, pattern=jp.Channel()),
    "random": _wrap(sgd, score=jp.scores.random(jax.random.key(3))),
    "erk": _wrap(sgd, allocate=jp.allocate.erdos_renyi_kernel),
    "saliency": _wrap(sgd, score=jp.scores.saliency),
    "movement": _wrap(sgd, score=jp.scores.movement),
    "obd": _wrap(sgd, score=jp.scores.obd(), scope="global"),
    "obs": _wrap(sgd, score=jp.scores.obs(4, damp=0.5, window=1)),
    "rigl": _moving(jp.rigl),
    "rigl nm": _moving(jp.rigl, pattern=jp.NM(1, 4), allocate=jp.allocate.uniform),
    "rigl block": _moving(jp.rigl, pattern=jp.Block((2, 2)), scope="global"),
    "granet": _moving(jp.rigl, **COURSE, scope="global"),
    "set": _moving(jp.set_),
    "srigl": _moving(jp.srigl, allocate=jp.allocate.uniform),
    "static": _static,
    "keep": _keep,
}
NAMES = list(TRANSFORMS)
FIXED = ["keep", "static"]
CONSTANT = ["rigl", "rigl nm", "rigl block", "set", "srigl"]
GRADUAL = [name for name in NAMES if name not in FIXED + CONSTANT]


OPTIMIZERS = {
    "sgd momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "nesterov": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(1e-2),
    "adamw": lambda: optax.adamw(1e-2, weight_decay=0.1),
    "amsgrad": lambda: optax.amsgrad(1e-2),
    "adabelief": lambda: optax.adabelief(1e-2),
    "lion": lambda: optax.lion(1e-2),
    "rmsprop": lambda: optax.rmsprop(1e-2, momentum=0.9),
    "lamb": lambda: optax.lamb(1e-2),
    "l2": lambda: optax.chain(optax.add_decayed_weights(0.125), optax.sgd(0.125, momentum=0.5)),
    "schedule free": lambda: optax.contrib.schedule_free_adamw(1e-2),
    "muon": lambda: optax.contrib.muon(1e-2),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)),
    "masked": lambda: optax.masked(
        optax.adam(1e-2), {"a": {"bias": False, "kernel": True}, "b": {"kernel": True}}
    ),
    "partition": lambda: optax.partition(
        {"one": optax.adam(1e-2), "two": optax.sgd(0.1, momentum=0.9)},
        {"a": {"bias": "two", "kernel": "one"}, "b": {"kernel": "two"}},
    ),
    "adagrad": lambda: optax.adagrad(1e-2),
    "adadelta": lambda: optax.adadelta(1e-2),
    "finite": lambda: optax.apply_if_finite(optax.adam(1e-2), 3),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(1e-2),
}


@functools.cache
def transform(name):
    return TRANSFORMS[name]()


class Moment(NamedTuple):
    """What a run is after a step."""

    params: object
    state: object


def advance(tx, step, params, state, grads=None, **extra):
    """One step of training."""
    grads = make_grads(step, params) if grads is None else grads
    updates, state = tx.update(grads, state, params, **extra)
    return Moment(optax.apply_updates(params, updates), state)


def train(tx, params, steps=STEPS, *, state=None, start=0):
    """The moments of a run in a Python loop without jit."""
    state = tx.init(params) if state is None else state
    moments = []
    for step in range(start, start + steps):
        params, state = moment = advance(tx, step, params, state)
        moments.append(moment)
    return moments


@functools.cache
def reference(name, seed=0):
    """The run of a transform of the table, made once."""
    return train(transform(name), make_params(seed=seed))


def masks_by_path(masks):
    """Path -> numpy mask; dense leaves are left out."""
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(m)
        for p, m in jax.tree_util.tree_flatten_with_path(masks)[0]
    }


def assert_same(a, b):
    """Two trees are equal bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(
        jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True
    ):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype, path
        assert x.shape == y.shape, path
        assert x.tobytes() == y.tobytes(), jax.tree_util.keystr(path)


def assert_zeros(params, masks):
    """Pruned weights are +0 in their own dtype, and there are masks."""
    flat = masks_by_path(masks)
    assert flat
    leaves = {
        jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(w)
        for p, w in jax.tree_util.tree_flatten_with_path(params)[0]
    }
    for path, mask in flat.items():
        assert mask.dtype == np.bool_
        pruned = leaves[path][~mask].astype(np.float32)
        assert (pruned == 0).all(), path
        assert not np.signbit(pruned).any(), path


def expected_keep(size, sparsity):
    return round(size * (1 - sparsity))
