"""Weights whose zeros come in whole blocks."""

import math

import jax
import numpy as np
from draws import put

from jaxprune import sparse

PLAIN = sparse.Matrix()


def blocky(seed, shape, matrix=PLAIN, block=(4, 4), density=0.4):
    """Float32 weights of which some blocks of each matrix are 0, columns unevenly."""
    rng = np.random.default_rng(seed)
    end = matrix.stack + matrix.inputs
    m, n = math.prod(shape[matrix.stack : end]), math.prod(shape[end:])
    stack = math.prod(shape[: matrix.stack])
    kept = rng.random((stack, -(-m // block[0]), -(-n // block[1]))) < density
    mask = np.kron(kept, np.ones((1, *block)))[:, :m, :n]
    return (rng.normal(size=mask.shape) * mask).reshape(shape).astype(np.float32)


def blocks_of(w, matrix=PLAIN, block=(4, 4)):
    """One array as blocks."""
    return sparse.to_blocks({"w": put(w)}, block=block, rules={"w": matrix})["w"]


def count_blocks(tree):
    """How many leaves are stored as blocks."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, sparse.BlockELL))
    return sum(isinstance(x, sparse.BlockELL) for x in leaves)
