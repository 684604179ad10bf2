"""Masks on params: exact zeros, whatever stood there; and what masks say about themselves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import Rule, apply_masks, masks

MASK = np.array([[True, False, True], [False, True, False]])
DTYPES = ["float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int32", "int8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_where_not_times(dtype, transform):
    w = jnp.array([[1, -1, 2], [-3, 4, -5]], dtype)
    applied = transform(masks.apply)({"kernel": w}, {"kernel": MASK})["kernel"]
    assert applied.dtype == w.dtype
    np.testing.assert_array_equal(applied.astype(float), [[1, 0, 2], [0, 4, 0]])
    assert not np.signbit(np.asarray(applied.astype(float))).any()  # -1 * 0 would be -0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_zero_or_stays(bad):
    w = jnp.full((2, 3), bad)
    applied = apply_masks({"kernel": w}, {"kernel": MASK})["kernel"]
    np.testing.assert_array_equal(applied, np.where(MASK, bad, 0))


def test_none_leaves_a_leaf_as_it_is():
    kernel, step, key = jnp.ones((2, 3)), np.int32(3), jax.random.key(0)
    params = {"kernel": kernel, "step": step, "key": key, "name": "x"}
    applied = masks.apply(params, {"kernel": None, "step": None, "key": None, "name": None})
    assert applied["kernel"] is kernel
    assert applied["step"] is step
    assert applied["key"] is key
    assert applied["name"] == "x"


def test_masked_nodes_of_optax_stand_for_none():
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    applied = masks.apply(params, {"kernel": MASK, "bias": optax.MaskedNode()})
    np.testing.assert_array_equal(applied["bias"], 1)


@pytest.mark.parametrize(
    "params",
    [
        {"kernel": np.eye(3, dtype=np.float32), "bias": None},
        [np.eye(3, dtype=np.float32), None],
        eqx.nn.Linear(3, 2, use_bias=False, key=jax.random.key(0)),
    ],
    ids=["dict", "list", "equinox"],
)
def test_params_with_none_in_them(params):
    made = masks.from_zeros(params)
    applied = masks.apply(params, made)
    (mask,) = jax.tree.leaves(made)
    (before,), (after,) = jax.tree.leaves(params), jax.tree.leaves(applied)
    assert jax.tree.structure(applied) == jax.tree.structure(params)
    np.testing.assert_array_equal(after, np.where(mask, before, 0))
    assert masks.overlap(made, made) == 1


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (MASK[0], ValueError, r"mask of enc/kernel has shape \(3,\), the leaf \(2, 3\)"),
        (MASK[:, :1], ValueError, r"mask of enc/kernel has shape \(2, 1\)"),
        (MASK.T, ValueError, r"mask of enc/kernel has shape \(3, 2\)"),
        (MASK.astype(np.float32), TypeError, "mask of enc/kernel is float32"),
        (MASK.astype(np.uint8), TypeError, "mask of enc/kernel is uint8"),
        (True, TypeError, "mask of enc/kernel is True"),
    ],
)
def test_a_mask_that_does_not_fit(mask, error, message):
    with pytest.raises(error, match=message):
        masks.apply({"enc": {"kernel": np.ones((2, 3))}}, {"enc": {"kernel": mask}})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"enc": {}}, "lacks 'enc/kernel'"),
        ({"enc": {"kernel": MASK, "w": MASK}}, "has 'enc/w', which params lack"),
        ({"dec": {"kernel": MASK}}, "has 'dec/kernel', which params lack"),
    ],
)
def test_masks_of_another_tree(tree, message):
    with pytest.raises(ValueError, match=message):
        masks.apply({"enc": {"kernel": np.ones((2, 3))}}, tree)


# --- from zeros ---------------------------------------------------------------------------------


def test_zeros_make_the_masks_that_made_them():
    rng = np.random.default_rng(0)
    params = {
        "a": {"kernel": rng.normal(size=(4, 6)).astype(np.float32), "bias": np.zeros(6)},
        "b": {"kernel": rng.normal(size=(3, 8)).astype(jnp.bfloat16)},
    }
    made = masks.make(params, 0.75)
    again = masks.from_zeros(masks.apply(params, made))
    assert jax.tree.structure(again) == jax.tree.structure(made)
    jax.tree.map(np.testing.assert_array_equal, again, made)
    assert again["a"]["bias"] is None


def test_of_zeros_both_signs_count_and_nan_does_not():
    w = np.array([[0.0, -0.0], [np.nan, -np.inf]], np.float32)
    np.testing.assert_array_equal(masks.from_zeros({"w": w})["w"], [[False, False], [True, True]])


def test_from_zeros_follows_the_rules():
    w = np.zeros((2, 2), np.float32)
    found = masks.from_zeros({"w1": w, "w2": w}, rules=[Rule("w2", dense=True)])
    assert found["w2"] is None
    assert not found["w1"].any()


# --- density, overlap ---------------------------------------------------------------------------


def test_density_by_hand():
    assert masks.density({"a": MASK, "b": None}) == 0.5
    assert masks.density([MASK, np.ones((2, 2), bool)]) == 0.7
    assert masks.density({"a": None}) == 1
    assert masks.density([np.ones((0, 3), bool)]) == 1


def test_overlap_by_hand():
    a = {"x": np.array([True, True, False, False]), "y": np.array([True, False])}
    b = {"x": np.array([True, False, True, False]), "y": np.array([True, False])}
    assert masks.overlap(a, b) == masks.overlap(b, a) == 2 / 4
    assert masks.overlap(a, a) == 1
    assert masks.overlap(a, jax.tree.map(np.logical_not, a)) == 0
    nothing = jax.tree.map(np.zeros_like, a)
    assert masks.overlap(nothing, nothing) == 1


def test_overlap_skips_what_is_dense_in_both():
    a = {"kernel": np.array([True, True]), "bias": None}
    b = {"kernel": np.array([True, False]), "bias": None}
    assert masks.overlap(a, b) == 0.5


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"x": np.ones(3, bool)}, "mask of x has shape"),
        ({"y": np.ones(2, bool)}, "'y', which params lack"),
        ({"x": None}, "mask of x is missing"),
    ],
)
def test_overlap_of_trees_that_differ(other, message):
    with pytest.raises(ValueError, match=message):
        masks.overlap({"x": np.ones(2, bool)}, other)
