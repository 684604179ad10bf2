"""Constant fan-in: neurons that live all have as many inputs, and others have none."""

import math

import jax.numpy as jnp

from jaxprune._sharding import with_auto_axes
from jaxprune.masks._compute import Given, scores_of
from jaxprune.masks._counts import Counts
from jaxprune.masks._exchange import exchanged
from jaxprune.masks._setup import Setup
from jaxprune.patterns import Unstructured
from jaxprune.scores import Criterion
from jaxprune.select import _wide, top_k_mask


def fan_in_exchange(
    setup: Setup, grow: Criterion, leaves, given: Given, alive, stay, counts: Counts, share: float
):
    """Masks after an exchange in which neurons without enough salient inputs lose all of them.

    Salient is what stays or grows in an exchange of the whole leaf. A neuron lives where that is at
    least `share` of the inputs that neurons have now. What the leaf keeps is divided among those
    that live: of each stays what stays, and then its highest gradients grow.

    Args:
      setup, grow, leaves, given, alive, stay, counts: as in `exchange`; neurons are the last axis.
      share: from 0 to 1.

    Returns:
      A list of bool arrays.
    """
    stays, salient, scores = exchanged(setup, grow, leaves, given, alive, stay, counts)
    masks = []
    for i, (target, w) in enumerate(zip(setup.targets, leaves, strict=True)):
        size = scores_of(target, target.criterion, w, given, i)
        fan = _fan_in(target, counts.num_keep[target.group])

        def divide(fan, *arrays):
            matrices = [x.reshape(-1, x.shape[-1]) for x in arrays]
            return [_divided(matrices, fan, share).reshape(arrays[0].shape)]

        arrays = stays[i], salient[i], size, scores[i], alive[i]
        masks += with_auto_axes(divide, fan, *arrays, like=[w])
    return masks


def _fan_in(target, num_keep):
    """How many inputs each neuron has while all live; at least one, where that is not checked."""
    return jnp.maximum(_wide.to_int32(num_keep) // target.shape[-1], 1)


def _divided(matrices, fan, share):
    """The mask of a matrix [inputs, neurons]."""
    stays, salient, size, grow, alive = matrices
    inputs, neurons = stays.shape
    now = alive.sum(0, dtype=jnp.int32).max()
    number = salient.sum(0, dtype=jnp.int32)
    lives = number >= jnp.ceil(share * now.astype(jnp.float32)).astype(jnp.int32)
    lives |= number == number.max()
    each = jnp.minimum(fan * neurons // lives.sum(dtype=jnp.int32), inputs)
    first = top_k_mask(jnp.where(stays, size, -jnp.inf), each, axis=0) & stays
    return top_k_mask(jnp.where(first, jnp.inf, grow), each, axis=0) & lives[None]


def fan_in_start(setup: Setup, start: Criterion, leaves, counts: Counts):
    """Masks to start from: all neurons have as many inputs."""
    masks = []
    for i, (target, w) in enumerate(zip(setup.targets, leaves, strict=True)):
        scores = scores_of(target, start, w, Given(), i)
        fan = _fan_in(target, jnp.asarray(counts.num_keep)[target.group])

        def highest(fan, scores):
            matrix = scores.reshape(-1, scores.shape[-1])
            return [top_k_mask(matrix, fan, axis=0).reshape(scores.shape)]

        masks += with_auto_axes(highest, fan, scores, like=[w])
    return masks


def check_matrices(setup: Setup):
    """Neurons have inputs, few enough to count, and no other structure."""
    for target in setup.targets:
        if len(target.shape) < 2 or math.prod(target.shape) >= 2**31:
            raise ValueError(
                f"{target.path} has shape {target.shape}; a constant fan-in needs two axes or "
                f"more, and fewer than 2**31 weights. Leave it out by Rule({target.path!r}, "
                "dense=True)."
            )
        if target.pattern != Unstructured():
            raise ValueError(
                f"{target.path} has the pattern {target.pattern}, and a constant fan-in is one of "
                "its own; take the pattern out of its rule, or use rigl."
            )


def check_enough(setup: Setup, num_keep):
    """Each neuron has an input, at every event. `num_keep`: limbs [..., groups, 2]."""
    for target in setup.targets:
        least = int(_wide.to_int64(num_keep[..., target.group, :]).min())
        if least < target.shape[-1]:
            raise ValueError(
                f"{target.path} keeps {least} weights at its sparsity, fewer than its "
                f"{target.shape[-1]} neurons, which have an input each at least; lower the "
                f"sparsity, or leave it out by Rule({target.path!r}, dense=True)."
            )
