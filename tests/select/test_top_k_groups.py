"""Many arrays ranked against each other where they lie, against one stable sort."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from select_oracle import DTYPES, special_bits, top_k

from jaxprune import select

SHAPES = [(7, 5), (0, 3), (), (64,), (2, 3, 4), (1,)]
MIXED = ["float32", "bfloat16", "float16", "float32", "float16", "bfloat16"]
GROUPS = {
    "one": (0,) * 6,
    "own": None,
    "two": (0, 1, 0, 1, 1, 0),
    "reversed": (2, 2, 1, 1, 0, 0),
}


@functools.cache
def jitted(groups):
    return jax.jit(functools.partial(select.top_k_masks, groups=groups))


def check(leaves, k, groups):
    masks = jitted(groups)([put(x) for x in leaves], k)
    member = range(len(leaves)) if groups is None else groups
    for group, num_keep in enumerate(k):
        own = [i for i, g in enumerate(member) if g == group]
        expected = top_k([leaves[i] for i in own], num_keep)
        for i, mask in zip(own, expected, strict=True):
            np.testing.assert_array_equal(masks[i], mask, err_msg=f"leaf {i}, {k=}, {groups=}")


def group_sizes(leaves, groups):
    member = range(len(leaves)) if groups is None else groups
    sizes = [0] * (max(member) + 1)
    for leaf, group in zip(leaves, member, strict=True):
        sizes[group] += leaf.size
    return sizes


@pytest.mark.parametrize("dtypes", [["float32"] * 6, ["bfloat16"] * 6, MIXED], ids="-".join)
@pytest.mark.parametrize("name", GROUPS)
@given(data=st.data())
def test_any_scores(name, dtypes, data):
    leaves = []
    for shape, dtype in zip(SHAPES, dtypes, strict=True):
        kind, unsigned, _ = DTYPES[dtype]
        bits = st.sampled_from(special_bits(dtype)) | hnp.from_dtype(np.dtype(unsigned))
        leaves.append(data.draw(hnp.arrays(unsigned, shape, elements=bits)).view(kind))
    sizes = group_sizes(leaves, GROUPS[name])
    check(leaves, [data.draw(st.integers(0, size)) for size in sizes], GROUPS[name])


@pytest.mark.parametrize("name", GROUPS)
def test_all_equal_goes_to_the_earlier(name):
    leaves = [np.full(shape, 0.5, np.float32) for shape in SHAPES]
    sizes = group_sizes(leaves, GROUPS[name])
    for fraction in (0, 0.3, 0.5, 0.9, 1):
        check(leaves, [int(size * fraction) for size in sizes], GROUPS[name])


def test_every_k_across_leaves():
    rng = np.random.default_rng(0)
    leaves = [np.round(rng.normal(size=s) * 2).astype(np.float32) for s in SHAPES]
    for k in range(sum(x.size for x in leaves) + 1):
        check(leaves, [k], GROUPS["one"])


def test_a_mixed_group_is_compared_without_loss():
    # 1 + 2**-8 is between two bfloat16, 1 + 2**-12 between two float16.
    leaves = [
        jnp.array([1.0, 1.0 + 2**-7], jnp.bfloat16),
        jnp.array([1.0 + 2**-8, 1.0 + 2**-12], jnp.float32),
        jnp.array([1.0 + 2**-10, 65504.0], jnp.float16),
    ]
    check([np.asarray(x) for x in leaves], [5], (0, 0, 0))
    masks = select.top_k_masks(leaves, [5], groups=(0, 0, 0))
    assert [m.tolist() for m in masks] == [[False, True], [True, True], [True, True]]


def test_subnormals_of_a_mixed_group_keep_their_order():
    tiny = np.array([1, 3, 2, 0], np.uint32).view(np.float32)
    narrow = np.array([1, 2, 0], np.uint16).view(DTYPES["bfloat16"][0])
    half = np.array([1, 2, 0], np.uint16).view(np.float16)
    for k in range(11):
        check([tiny, narrow, half], [k], (0, 0, 0))


def test_python_k_beyond_int32():
    leaves = [jnp.arange(5.0), jnp.ones(3)]
    masks = select.top_k_masks(leaves, [2**40], groups=(0, 0))
    assert all(mask.all() for mask in masks)


def test_no_arrays():
    assert select.top_k_masks([], []) == []


@pytest.mark.parametrize("shapes", [[(0,)], [(0, 3), (2, 0)]], ids=str)
def test_only_empty_arrays(shapes):
    masks = select.top_k_masks([jnp.zeros(s) for s in shapes], [0], groups=(0,) * len(shapes))
    assert [m.shape for m in masks] == shapes


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "groups", "message"),
    [
        ([1], (0,), "groups has 1 entries for 2 arrays"),
        ([1], (0, 0, 0), "groups has 3 entries for 2 arrays"),
        ([1], (0, 1), "k has 1 entries"),
        ([1], None, "k has 1 entries"),
        ([1, 1, 1], None, "k has 3 entries"),
        ([1, 1], (0, -1), "k has 2 entries"),
    ],
)
def test_groups_fit(k, groups, message):
    with pytest.raises(ValueError, match=message):
        select.top_k_masks([jnp.ones(2), jnp.ones(3)], k, groups=groups)


def test_the_error_says_which_array():
    with pytest.raises(TypeError, match=r"leaves\[1\] has dtype int32"):
        select.top_k_masks([jnp.ones(2), jnp.ones(2, "int32")], [1, 1])
