"""Units that have weights in several leaves: their sums, their masks, and what is refused."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import tied_oracle as oracle
from draws import put

from jaxprune.patterns import Group, Member, Tied

TREES = {"mlp": (oracle.mlp(), oracle.MLP), "net": (oracle.net(), oracle.NET)}
every_tree = pytest.mark.parametrize("name", TREES)
BIAS = Member("a/bias", (2,), 0, 0, [0, 1])


def arrays(leaves):
    return {path: put(w) for path, w in leaves.items()}


@every_tree
@pytest.mark.parametrize("nan", [0.0, 0.05])
def test_sums_of_whole_numbers_are_exact(name, nan):
    tied, shapes = TREES[name]
    leaves = oracle.integers(0, shapes, nan=nan)
    for got, expected in zip(
        tied.sums(arrays(leaves)), oracle.unit_scores(tied, leaves), strict=True
    ):
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, expected)


def test_sums_of_any_numbers():
    tied, shapes = TREES["net"]
    rng = np.random.default_rng(1)
    leaves = {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}
    for got, expected in zip(
        tied.sums(arrays(leaves)), oracle.unit_scores(tied, leaves), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_sums_do_not_depend_on_the_order():
    """Of members, of the indices of an axis, and of what is summed along it."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(7, 64)).astype(np.float32), rng.normal(size=(64,)).astype(np.float32)
    units, rows, columns = rng.integers(0, 3, 64), rng.permutation(7), rng.permutation(64)

    def tied(units, first):
        members = [Member("a", (7, 64), 1, 0, units), Member("b", (64,), 0, 0, units)]
        return Tied([Group("g", 3)], members[::first])

    one = tied(units, 1).sums({"a": put(a), "b": put(b)})[0]
    moved = {"a": put(a[rows][:, columns]), "b": put(b[columns])}
    two = tied(units[columns], -1).sums(moved)[0]
    np.testing.assert_array_equal(one, two)


@every_tree
def test_masks_of_leaves(name):
    tied, shapes = TREES[name]
    rng = np.random.default_rng(3)
    kept = [rng.random(group.size) < 0.6 for group in tied.groups]
    masks = tied.expand([put(x) for x in kept])
    assert set(masks) <= set(shapes)
    oracle.assert_masks(masks, oracle.expand(tied, kept))


def test_a_leaf_without_weights():
    tied = Tied([Group("g", 2)], [Member("w", (0, 2), 1, 0, [0, 1]), BIAS])
    sums = tied.sums({"w": jnp.zeros((0, 2)), "a/bias": jnp.array([3.0, -1.0])})
    assert sums[0].tolist() == [3.0, -1.0]
    assert tied.expand([jnp.array([True, False])])["w"].shape == (0, 2)


def test_equal_groups_are_equal_and_hash_alike():
    one, two = oracle.net(), oracle.net()
    assert one == two
    assert hash(one) == hash(two)
    assert one != oracle.net(left=2)
    other = Member("a/bias", (2,), 0, 0, np.array([1, 0]))
    assert Member("a/bias", (2,), -1, 0, np.array([0, 1], np.int64)) == BIAS != other
    assert repr(BIAS).endswith("units=[0, 1])")
    assert not BIAS.units.array.flags.writeable
    assert str(one) == "tied"


def test_an_array_of_the_caller_stays_its_own():
    units = np.array([0, 1], np.int32)
    member = Member("a/bias", (2,), 0, 0, units)
    units[0] = 1
    assert member == BIAS


def test_planned():
    tied = oracle.net(left=2)
    assert tied.planned({"left": 2}) is tied
    assert tied.planned(None) == oracle.net()
    assert tied.planned({"stream": 3, "right": 0}) == oracle.net(stream=3, right=0)
    with pytest.raises(ValueError, match=r"keep names 'tail', which is no group; they are stream"):
        tied.planned({"tail": 1})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Group(3, 2), TypeError, "Group: name=3 must be a string"),
        (lambda: Group("g", 2.0), TypeError, "Group 'g': size=2.0 must be a whole number"),
        (lambda: Group("g", 0), ValueError, "Group 'g': size=0 must be from 1"),
        (lambda: Group("g", 2, True), TypeError, "Group 'g': keep=True must be a whole number"),
        (lambda: Group("g", 2, -1), ValueError, "Group 'g': keep=-1 must be from 0"),
        (lambda: Group("g", 2, 3), ValueError, "Group 'g': keep=3 of 2 units"),
        (
            lambda: Member("w", (2, 3), 2, 0, [0, 1, 2]),
            ValueError,
            "Member w: axis=2 of a leaf of shape (2, 3)",
        ),
        (
            lambda: Member("w", (2, 3), None, 0, [0, 1, 2]),
            TypeError,
            "Member w: axis=None must be a whole number",
        ),
        (
            lambda: Member("w", (2, 3), 1, "g", [0, 1, 2]),
            TypeError,
            "Member w: group='g' must be a whole number",
        ),
        (
            lambda: Member("w", (2, 3), 1, 0, [0, 1]),
            ValueError,
            "Member w: units has 2 numbers, but axis 1 of shape (2, 3) has 3 indices",
        ),
        (
            lambda: Member("w", (2,), 0, 0, [0.0, 1.0]),
            TypeError,
            "units=[0.0, 1.0] must be whole numbers, one for each index of the axis",
        ),
        (
            lambda: Member("w", (2,), 0, 0, [[0, 1]]),
            TypeError,
            "units=[[0, 1]] must be whole numbers",
        ),
        (lambda: Tied([("g", 2)], [BIAS]), TypeError, "groups holds ('g', 2); give Groups"),
        (lambda: Tied([Group("g", 2)], ["a"]), TypeError, "members holds 'a'; give Members"),
        (
            lambda: Tied([Group("g", 2), Group("g", 2)], [BIAS]),
            ValueError,
            "two groups have the name 'g'",
        ),
        (
            lambda: Tied([Group("g", 2)], [BIAS, Member("b", (1,), 0, 1, [0])]),
            ValueError,
            "b is in group 1, but there are 1",
        ),
        (
            lambda: Tied([Group("g", 2)], [BIAS, BIAS]),
            ValueError,
            "axis 0 of a/bias is twice a member of 'g'; put its units into one",
        ),
        (
            lambda: Tied([Group("g", 1)], [BIAS]),
            ValueError,
            "axis 0 of a/bias has unit 1 of 'g', whose units are 0 to 0, and -1 for none",
        ),
        (
            lambda: Tied([Group("g", 2)], [Member("a/bias", (2,), 0, 0, [0, -2])]),
            ValueError,
            "has unit -2 of 'g'",
        ),
        (
            lambda: Tied([Group("g", 3)], [BIAS]),
            ValueError,
            "unit 2 of 'g' has no weights; every unit is at an index of some member",
        ),
    ],
)
def test_what_is_wrong_is_said(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
