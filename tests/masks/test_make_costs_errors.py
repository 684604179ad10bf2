"""What is said of costs that cannot be used."""

import re
from fractions import Fraction

import jax
import numpy as np
import pytest

from jaxprune import NM, Block, Rule, masks, plan, prune, prune_params

PARAMS = {
    "a": {"kernel": np.arange(24, dtype=np.float32).reshape(6, 4)},
    "b": {"kernel": np.ones((4, 4), np.float32)},
}
GOOD = {"a/kernel": 240, "b/kernel": 16}


def both(cost):
    return {"a/kernel": cost, "b/kernel": 16}


ERRORS = {
    "a list": ([1, 2], {}, TypeError, r"cost=\[1, 2\] must be a mapping from the path"),
    "by leaf": (GOOD, {"scope": "leaf"}, ValueError, 'cost divides .*scope="leaf".*scope="global"'),
    "bool": (both(True), {}, TypeError, "cost of a/kernel is True; give a number"),
    "text": (both("1"), {}, TypeError, "cost of a/kernel is '1'; give a number"),
    "an array": (both(np.ones(2)), {}, TypeError, "cost of a/kernel is array"),
    "negative": (both(-1), {}, ValueError, "cost of a/kernel is -1; it must be a finite number"),
    "negative fraction": (both(Fraction(-1, 3)), {}, ValueError, "cost of a/kernel is Fraction"),
    "nan": (both(float("nan")), {}, ValueError, "cost of a/kernel is nan; it must be a finite"),
    "inf": (both(float("inf")), {}, ValueError, "cost of a/kernel is inf; it must be a finite"),
    "missing": (
        {"b/kernel": 16, "c": 1},
        {},
        ValueError,
        r"nothing for a/kernel, which scope global ranks.*Rule\('a/kernel', sparsity=.*b/kernel, c",
    ),
    "all zero": (
        {"a/kernel": 0, "b/kernel": 0},
        {},
        ValueError,
        "cost is 0 for all of scope global",
    ),
    "too fine": (
        {"a/kernel": 0.12345678901234, "b/kernel": 16},
        {},
        ValueError,
        r"cost of scope global is \d+ times .* less than 2\*\*45. Round what one unit costs",
    ),
    "edges": (
        GOOD,
        {"pattern": Block((4, 4))},
        ValueError,
        r"cost of a/kernel: Block\(shape=\(4, 4\).* does not divide its shape \(6, 4\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_costs_that_do_not_fit(case):
    cost, options, error, message = ERRORS[case]
    options = {"scope": "global"} | options
    entries = (masks.make, prune_params, plan, lambda p, s, **o: prune(sparsity=s, **o).init(p))
    for entry in entries:
        with pytest.raises(error, match=message):
            entry(PARAMS, 0.5, cost=cost, **options)


def test_a_traced_cost():
    run = jax.jit(lambda c: masks.make(PARAMS, 0.5, scope="global", cost=both(c)))
    with pytest.raises(TypeError, match="cost of a/kernel is traced"):
        run(3)


def test_rounding_what_a_unit_costs_is_the_way_out():
    units, step = {"a/kernel": 24, "b/kernel": 16}, 1e-3
    cost = {"a/kernel": 0.12345678901234, "b/kernel": 16}
    cost = {path: units[path] * round(cost[path] / units[path] / step) for path in cost}
    made = masks.make(PARAMS, 0.5, scope="global", cost=cost)
    assert cost == {"a/kernel": 120, "b/kernel": 16000}
    paid = 5 * int(made["a"]["kernel"].sum()) + 1000 * int(made["b"]["kernel"].sum())
    assert 8060 - 1000 < paid <= 8060


@pytest.mark.parametrize(
    ("sparsity", "bound", "message"),
    [
        # 24 weights of 10 and 16 of 1: 256. At most 18 of a and 12 of b, or at least 6 and 4.
        (0.1, {"min_sparsity": 0.25}, "min_sparsity allows 0.25 to 1."),
        (0.9, {"max_sparsity": 0.75}, "max_sparsity allows 0 to 0.75."),
    ],
)
def test_bounds_that_leave_no_room(sparsity, bound, message):
    message = re.escape(
        f"sparsity={sparsity} of the cost is out of reach in scope global: {message} Change one"
    )
    with pytest.raises(ValueError, match=message):
        masks.make(PARAMS, sparsity, scope="global", cost=GOOD, **bound)


def test_a_pattern_that_leaves_no_room():
    options = {"scope": "global", "cost": GOOD, "pattern": NM(2, 4, axis=-1)}
    with pytest.raises(ValueError, match=r"2:4 axis -1 allows in a/kernel; .* at least 0\.5"):
        masks.make(PARAMS, 0.25, **options)
    with pytest.raises(ValueError, match=r"of the cost keeps more .* allows in scope global"):
        masks.make(PARAMS, 0.495, **options)
    # 12 of a's members cost 120 and 4 of b 4; the budget is 128, which bounds alone would allow.
    rules = [Rule("b/.*", min_sparsity=0.75)]
    with pytest.raises(ValueError, match=r"of the cost is out of reach .* leaves no room"):
        masks.make(PARAMS, 0.5, **options, rules=rules)
