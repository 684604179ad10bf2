"""Leaves stored as blocks and back, which are converted, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import heard
from draws import put
from sparse_cases import blocks_of, blocky, count_blocks

import jaxprune
from jaxprune import sparse
from jaxprune.sparse import Matrix

SHAPES = [
    ((12, 16), Matrix(), (4, 4)),
    ((13, 10), Matrix(), (4, 3)),  # blocks that reach beyond
    ((3, 12, 8), Matrix(1, 1), (4, 4)),
    ((8, 2, 6), Matrix(0, 1), (4, 4)),
    ((2, 6, 8), Matrix(0, 2), (4, 4)),
    ((2, 3, 8, 2, 4), Matrix(2, 1), (4, 4)),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "matrix", "block"), SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_there_and_back(shape, matrix, block, density, dtype):
    w = put(blocky(0, shape, matrix, block, density), dtype)
    leaf = blocks_of(w, matrix, block)
    back = sparse.to_dense({"w": leaf})["w"]
    assert leaf.shape == back.shape == shape
    assert leaf.dtype == back.dtype == w.dtype
    np.testing.assert_array_equal(np.asarray(back, np.float32), np.asarray(w, np.float32))


def test_what_is_not_finite_comes_back():
    w = blocky(1, (8, 8)) + np.diag([np.nan, np.inf, *[0] * 6]).astype(np.float32)
    np.testing.assert_array_equal(sparse.to_dense(blocks_of(w)), w)


def test_dense_again_is_one_program_for_a_layout():
    w = blocky(0, (36, 44))  # of no other test
    leaf = blocks_of(w)
    with heard() as compiled:
        np.testing.assert_array_equal(sparse.to_dense(leaf), w)
        sparse.to_dense(leaf)
    assert len(compiled) == 1


def test_groups_store_as_few_blocks_as_any_four():
    rng = np.random.default_rng(0)
    kept = rng.random((10, 12)) < 0.3
    leaf = blocks_of(np.kron(kept, np.ones((4, 4))).astype(np.float32))
    most = np.sort(kept.sum(0))[::-1]
    used = np.count_nonzero(most)
    ends = ([0, *cuts, used] for cuts in itertools.combinations(range(1, used), 3))
    least = min(sum((b - a) * most[a] for a, b in itertools.pairwise(e)) for e in ends)
    assert leaf.stored == least < most[0] * 12
    assert leaf.stored == sum(x.shape[0] * x.shape[1] for x in leaf.blocks)
    assert len(leaf.blocks) <= 4


def test_balanced_columns_store_nothing_else():
    kept = np.stack([np.roll([1, 0, 1, 0, 0, 0], i) for i in range(6)])
    leaf = blocks_of(np.kron(kept, np.ones((4, 4))).astype(np.float32))
    assert leaf.stored == 12
    assert repr(leaf) == "BlockELL((24, 24), float32, blocks of 4x4, 12 of 36 stored)"


def test_what_pays_is_converted():
    params = {
        "sparse": {"kernel": blocky(0, (128, 128), block=(32, 32), density=0.1)},
        "half": {"kernel": blocky(1, (128, 128), block=(32, 32), density=0.6)},
        "scattered": {"kernel": blocky(2, (128, 128), block=(1, 1), density=0.1)},
        "norm": {"scale": np.zeros((128, 128), np.float32)},
        "conv": {"kernel": np.zeros((3, 3, 64, 64), np.float32)},
        "step": np.int32(3),
        "name": "x",
    }
    made = sparse.to_blocks(params, block=32)
    assert isinstance(made["sparse"]["kernel"], sparse.BlockELL)
    assert count_blocks(made) == 1
    assert made["half"]["kernel"] is params["half"]["kernel"]
    assert count_blocks(sparse.to_blocks(params, block=32, min_sparsity=0.1)) == 2
    ruled = sparse.to_blocks(
        params, block=32, rules={"half/.*": True, "(half|sparse)/.*": False, "conv/.*": Matrix(2)}
    )
    assert isinstance(ruled["half"]["kernel"], sparse.BlockELL)
    assert isinstance(ruled["conv"]["kernel"], sparse.BlockELL)
    assert count_blocks(ruled) == 2
    assert ruled["step"] == 3


def test_masks_are_applied_and_say_what_is_prunable():
    params = {"a": jnp.full((64, 64), jnp.nan), "b": jnp.zeros((64, 64))}
    mask = np.zeros((64, 64), bool)
    made = sparse.to_blocks(params, {"a": mask, "b": None}, block=(32, 32))
    assert isinstance(made["a"], sparse.BlockELL)
    assert made["b"] is params["b"]
    np.testing.assert_array_equal(sparse.to_dense(made)["a"], 0)


@pytest.mark.parametrize(
    ("shape", "block", "matrix"),
    [((2, 64, 64), (32, 32), Matrix(1, 1)), ((64, 2, 48), (32, 96), Matrix(0, 1))],
)
def test_three_axes_are_read_as_the_zeros_say(shape, block, matrix):
    w = blocky(0, shape, matrix, block, 0.3)
    made = sparse.to_blocks({"kernel": w}, block=block, min_sparsity=0.0)["kernel"]
    assert made.layout.matrix == matrix


def test_layouts_are_equal_where_blocks_are():
    a, b = blocks_of(blocky(0, (12, 16))), blocks_of(2 * blocky(0, (12, 16)))
    other = blocks_of(blocky(1, (12, 16)))
    assert jax.tree.structure(a) == jax.tree.structure(b) != jax.tree.structure(other)
    assert hash(jax.tree.structure(a)) == hash(jax.tree.structure(b))


def test_an_optimizer_sees_a_pytree_of_arrays():
    w = blocky(0, (12, 16))
    params = {"w": blocks_of(w)}
    tx = optax.adam(0.1)
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    after = optax.apply_updates(params, updates)
    assert jax.tree.structure(after) == jax.tree.structure(params)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"block": 2.5}, TypeError, r"block=2.5 must be \(rows, columns\)"),
        ({"block": (4,)}, TypeError, r"block=\(4,\) must be \(rows, columns\)"),
        ({"block": (4, 2.0)}, TypeError, "must hold whole numbers"),
        ({"block": (4, 0)}, ValueError, "at least 1 each way"),
        ({"min_sparsity": 1.5}, ValueError, "min_sparsity=1.5"),
        ({"rules": [("a", True)]}, TypeError, "must be a mapping from paths"),
        ({"rules": {"a/kernel": 2}}, TypeError, "the rule 'a/kernel' is 2; give a bool or Matrix"),
        ({"rules": {"c/.*": True}}, ValueError, "'c/.*' matches no leaf; paths are a/bias, a/kern"),
        (
            {"rules": {"a(": True}},
            ValueError,
            "the rule 'a\\(' is not a regular expression: missing",
        ),
        ({"rules": {"a/.*": True}}, ValueError, "would convert a/bias, which is no floating array"),
        (
            {"rules": {"a/kernel": Matrix(1, 1)}},
            ValueError,
            r"Matrix\(stack=1, inputs=1\) does not fit a/kernel of shape \(8, 8\)",
        ),
        ({"masks": {"a": {"kernel": None}}}, ValueError, "lacks 'a/bias'"),
    ],
)
def test_what_is_refused(options, error, message):
    params = {"a": {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}}
    with pytest.raises(error, match=message):
        sparse.to_blocks(params, **options)


def test_it_runs_on_the_host():
    with pytest.raises(TypeError, match="kernel is traced; call it outside of jit"):
        jax.jit(sparse.to_blocks)({"kernel": jnp.eye(8)})


def test_pruned_in_blocks_is_stored_in_blocks():
    params = {"kernel": jax.random.normal(jax.random.key(0), (256, 256))}
    masks = jaxprune.masks.make(params, 0.75, pattern=jaxprune.Block((32, 32)))
    leaf = sparse.to_blocks(params, masks, block=(32, 32), min_sparsity=0.0)["kernel"]
    assert 16 <= leaf.stored <= 20
    np.testing.assert_array_equal(
        sparse.to_dense(leaf), jaxprune.apply_masks(params, masks)["kernel"]
    )
