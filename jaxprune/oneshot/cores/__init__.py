"""The array cores of one-shot pruning: a layer's weights and the Gram matrix of its inputs.

Letters, in every core: W [inputs, outputs] are dense weights, the transpose of the papers' W, as
Flax kernels lie. X [tokens, inputs] are what the layer saw. H [inputs, inputs] = X^T X, at any
scale, positive definite after `damped`. Ŵ are pruned weights, and what they cost is

    loss(Ŵ - W, H) = ||X W - X Ŵ||_F^2 = tr((Ŵ - W)^T H (Ŵ - W))

All are pure functions of arrays, for `jax.jit` and `jax.vmap` (stacked layers, experts, groups of
a convolution). They compute in float32 with full-precision products, in float64 where an array is,
and nothing recompiles when `keep` changes.
"""

from jaxprune.oneshot.cores._alps import alps as alps
from jaxprune.oneshot.cores._cut import Cut as Cut
from jaxprune.oneshot.cores._cut import choose as choose
from jaxprune.oneshot.cores._cut import choose_per_output as choose_per_output
from jaxprune.oneshot.cores._cut import magnitude as magnitude
from jaxprune.oneshot.cores._cut import wanda as wanda
from jaxprune.oneshot.cores._gram import damped as damped
from jaxprune.oneshot.cores._gram import loss as loss
from jaxprune.oneshot.cores._gram import target as target
from jaxprune.oneshot.cores._obc import obc as obc
from jaxprune.oneshot.cores._refit import refit as refit
from jaxprune.oneshot.cores._sparsegpt import sparsegpt as sparsegpt

__all__ = [
    "Cut",
    "alps",
    "choose",
    "choose_per_output",
    "damped",
    "loss",
    "magnitude",
    "obc",
    "refit",
    "sparsegpt",
    "target",
    "wanda",
]
