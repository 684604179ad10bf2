"""Small networks of every kind and library, as pure functions of their parameters.

`make(key)` gives (apply, params, args), and `apply(params, *args)` an array or a tuple of arrays.
Every float parameter is random, also biases, scales and running statistics: nothing is zero or one
by convention, so that what is cut wrongly shows. Widths within a network differ where they may.
`CASES` are ordinary networks. `AWKWARD` have axes that cannot be cut, or not without a warning.
"""

import functools

import jax
import zoo_awkward
import zoo_awkward_linen
import zoo_decoders
import zoo_equinox
import zoo_linen
import zoo_linen_sequences
import zoo_nnx
import zoo_raw

from jaxprune import compact

CASES = [
    *zoo_linen.CASES,
    *zoo_linen_sequences.CASES,
    *zoo_nnx.CASES,
    *zoo_equinox.CASES,
    *zoo_raw.CASES,
    *zoo_decoders.CASES,
]
AWKWARD = [*zoo_awkward.CASES, *zoo_awkward_linen.CASES]


@functools.cache
def traced(case):
    """(groups, params, args) of a network."""
    apply, params, args = case.make(jax.random.key(3))
    return compact.trace_groups(apply, params, *args), params, args
