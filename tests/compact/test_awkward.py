"""Networks with axes that cannot be cut, or not as if masked: what is found in each."""

import cut_oracle as oracle
import jax
import numpy as np
import pytest
import zoo
from zoo import AWKWARD

from jaxprune import compact

MAX = "reduce_max runs over it"
SUM = "reduce_sum adds it up where it is not 0"
ALIKE = "axes are tied that do not divide alike"
INDEX = "argmax gives an index along it"
LOOKED = "it is looked up in"
ITSELF = "it is multiplied with itself"
SLICE = "a part is taken that moves"

EXPECTED = {
    "raw softmax over features": ({"in[1]": (12, (MAX, SUM))}, {}),
    "raw layer norm of a residual stream": ({"in[1]": (12, (SUM,)), "up[1]": 10}, {}),
    "raw unit length": ({"in[1]": 12}, {}),
    "raw maxout": ({"in[1].0": 4, "in[1].1": (3, (MAX,))}, {}),
    "raw max over features": ({"in[1]": (12, (MAX,))}, {}),
    "raw sort": ({}, {"in[1]": "sort runs along it", "out[0]": "sort runs along it"}),
    "raw top k": (
        {},
        {
            "in[1]": "top_k reads it",
            "out[0]": "top_k makes it",
            "by_index[0]": "it is looked up in",
        },
    ),
    "raw cumsum": ({}, {"in[1]": "cumsum runs along it", "out[0]": "cumsum runs along it"}),
    "raw fixed gather": ({"out[0]": 5}, {"in[1]": "it is looked up in"}),
    "raw permuted": ({"out[0]": 12}, {"in[1]": "it is looked up in"}),
    "raw reversed features": ({}, {"in[1]": "it is reversed", "out[0]": "it is reversed"}),
    "raw rolled": ({"in[1].0": 7, "in[1].1": 5}, {}),
    "raw padded": ({"in[1]": 12, "out[0].0": 2, "out[0].2": 3}, {}),
    "raw strided": ({"in[1]": 6}, {"in[1]": "every so many are taken"}),
    "raw flattened products": ({}, {"in[1]": ITSELF, "out[0]": ITSELF}),
    "raw mixed reshape": (
        {},
        dict.fromkeys(["in[1]", "out[0]"], "a reshape cuts it where it does not divide"),
    ),
    "raw fft": ({}, {"in[1]": "fft reads it", "out[0]": "fft makes it"}),
    "raw position weights": ({"in[1]": 12}, {}),
    "raw size of features": ({"in[1]": 12}, {}),
    "raw inverse": (
        {},
        dict.fromkeys(["in[1]", "out[0]"], "custom_linear_solve makes it")
        | dict.fromkeys(["square[0]", "square[1]"], "lu reads it"),
    ),
    "raw while loop": ({"in[1]": 12}, {}),
    "raw fori loop": ({"in[1]": 12}, {}),
    "raw cond": ({"in[1]": (12, (MAX,))}, {}),
    "raw custom vjp": ({"in[1]": 12}, {}),
    "raw custom jvp": ({"in[1]": 12}, {}),
    "raw weight norm": (
        {"in[1]": 12, "square[1]": (12, ("div is not finite where it is 0",)), "other[1]": 12},
        {},
    ),
    "raw standardized weights": ({"in[1]": (12, (SUM,)), "square[1]": 12}, {}),
    "raw unused": (
        {"in[1]": 12},
        dict.fromkeys(["forgotten[0]", "forgotten[1]", "lost[0]"], "the call does not use it"),
    ),
    "raw dynamic slice": (
        {},
        {
            "in[1]": SLICE,
            "out[0]": "a part that moves",
            "scale[0]": INDEX,
        },
    ),
    "raw argmax": (
        {},
        dict.fromkeys(["in[1]", "out[0]", "square[1]"], INDEX)
        | {"square[0]": "it is looked up in"},
    ),
    "raw kronecker": ({"in[1].0": 3, "in[1].1": 4, "small[1]": 2, "little[1]": 6}, {}),
    "raw triangular": ({"in[1]": 12, "square[1]": 12}, {}),
    "raw added eye": ({"in[1]": 12, "square[1]": 12}, {}),
    "raw quadratic": ({"in[1]": 12}, {}),
    "raw in place": (
        {},
        {"in[1]": "scatter reads it", "three[0]": "scatter reads it", "out[0]": "scatter makes it"},
    ),
    "raw tied transposed": ({"first[1]": 16, "second[1]": 10}, {}),
    "raw indices as parameters": (
        {},
        {"in[1]": "it is looked up in", "out[0]": "the leaf is int32"},
    ),
    "linen channel shuffle": (
        {"params/Conv_1/kernel[3]": 4, "params/Conv_3/kernel[3]": 6},
        {"params/Conv_0/kernel[3]": ALIKE, "params/Conv_2/kernel[3]": ALIKE},
    ),
    "linen padded shortcut": (
        {
            "params/Conv_0/kernel[3]": 8,
            "params/Conv_2/kernel[3]": 10,
            "params/Conv_1/kernel[3].0": 3,
            "params/Conv_1/kernel[3].2": 3,
        },
        {},
    ),
    "linen local response": (
        {},
        dict.fromkeys(
            ["params/Conv_0/kernel[3]", "params/Dense_0/kernel[0]"], "a window moves along it"
        ),
    ),
    "linen linen weight norm": ({"params/Dense_0/kernel[1]": 16}, {}),
    "linen spectral norm": ({"params/Dense_0/kernel[1]": 16}, {}),
    "linen statistics as output": ({}, {"params/Dense_0/kernel[1]": "a result"}),
}
"""Name -> (group -> size, with its flags if it has some; axis -> why a part of it stays whole)."""

CASES = {case.name: case for case in AWKWARD}
ORDERED = {"raw fixed gather", "raw permuted", "raw padded", "raw position weights"}
ORDERED |= {"raw triangular", "raw added eye"}
DIFFERENT = {
    "raw softmax over features": ["in[1]"],
    "raw layer norm of a residual stream": ["in[1]"],
    "raw maxout": ["in[1].1"],
    "raw weight norm": ["square[1]"],
    "raw standardized weights": ["in[1]"],
}


def traced(name):
    return zoo.traced(CASES[name])


def test_every_one_is_judged():
    assert {*EXPECTED, "raw complex parameters"} == set(CASES)


@pytest.mark.parametrize("name", EXPECTED)
def test_groups_and_flags(name):
    groups, _, _ = traced(name)
    found = {g.name: (g.size, g.flags) if g.flags else g.size for g in groups}
    assert found == EXPECTED[name][0]
    assert {bool(g.ordered) for g in groups} <= {name in ORDERED}


@pytest.mark.parametrize("name", [name for name, (_, frozen) in EXPECTED.items() if frozen])
def test_what_stays_whole(name):
    groups, _, _ = traced(name)
    found = {(f"{f.path}[{f.axis}]", f.reason) for f in groups.frozen}
    assert set(EXPECTED[name][1].items()) <= found


def test_complex_weights_are_none():
    apply, params, args = CASES["raw complex parameters"].make(jax.random.key(3))
    with pytest.raises(ValueError, match="uses no real floating leaf"):
        compact.trace_groups(apply, params, *args)


@pytest.mark.parametrize("name", DIFFERENT)
def test_flagged_groups_differ_when_cut(name):
    groups, params, args = traced(name)
    kept = {group: np.arange(groups[group].size) < 2 for group in DIFFERENT[name]}
    plan = compact.Plan(groups, kept)
    found = compact.verify(plan, params, *args, key=jax.random.key(0), tolerance=None)
    assert not found.forward < 1e-3  # also NaN
    with pytest.raises(ValueError, match=r"cut and masked differ by .*tolerance=0\.0001. Flags of"):
        compact.verify(plan, params, *args, key=jax.random.key(0))


@pytest.mark.parametrize("name", ["raw max over features", "raw cond"])
def test_flagged_groups_of_which_masks_decide_a_comparison(name):
    """A masked unit is 0, and 0 may be the largest: then, and then alone, the two differ."""
    groups, params, args = traced(name)
    params = {**params, "in": -abs(params["in"])}
    plan = compact.Plan(groups, {"in[1]": np.arange(12) < 6})
    different = [abs(args[0]), *args[1:]]  # all features are below 0
    found = oracle.errors(plan, params, different, gradients=False)[0]
    assert (found > 1e-3) == (name == "raw max over features")
    assert oracle.errors(plan, params, [-different[0]], gradients=False)[0] < 1e-5
