"""Selection inside jit, vmap, scan, grad and x64: one program, no copy of the scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from select_oracle import top_k

from jaxprune import select


def tied(shape, seed=0):
    return np.round(np.random.default_rng(seed).normal(size=shape) * 8).astype(np.float32)


def test_one_program_for_every_k():
    traces = []

    @jax.jit
    def mask(scores, k):
        traces.append(k)
        return select.top_k_mask(scores, k)

    scores = tied((40, 9))
    for k in range(0, scores.size + 1, 30):
        np.testing.assert_array_equal(mask(scores, k), top_k([scores], k)[0])
    assert len(traces) == 1


def test_one_program_for_every_k_of_groups():
    traces = []

    @jax.jit
    def masks(leaves, k):
        traces.append(k)
        return select.top_k_masks(leaves, k, groups=(0, 1, 0))

    leaves = [tied((40, 9)), tied(50, 1), tied((3, 4, 5), 2)]
    for k in ([0, 0], [17, 50], [420, 3]):
        first, second, third = masks(leaves, k)
        for mask, expected in zip([first, third], top_k(leaves[::2], k[0]), strict=True):
            np.testing.assert_array_equal(mask, expected)
        np.testing.assert_array_equal(second, top_k([leaves[1]], k[1])[0])
    assert len(traces) == 1


def test_vmap_over_scores_and_k():
    scores, k = tied((6, 11, 13)), np.array([0, 1, 70, 71, 142, 143])
    masks = jax.jit(jax.vmap(select.top_k_mask))(scores, k)
    for mask, row, n in zip(masks, scores, k, strict=True):
        np.testing.assert_array_equal(mask, top_k([row], n)[0])


def test_vmap_over_k_alone():
    scores, k = tied((11, 13)), np.arange(0, 144, 11)
    masks = jax.jit(jax.vmap(select.top_k_mask, in_axes=(None, 0)))(scores, k)
    for mask, n in zip(masks, k, strict=True):
        np.testing.assert_array_equal(mask, top_k([scores], n)[0])


def test_vmap_of_groups():
    first, second, k = tied((4, 30)), tied((4, 5, 5), 1), np.array([0, 20, 33, 55])
    masks = jax.jit(jax.vmap(lambda a, b, k: select.top_k_masks([a, b], [k], groups=(0, 0))))
    for i, (mask, other) in enumerate(zip(*masks(first, second, k), strict=True)):
        expected = top_k([first[i], second[i]], k[i])
        np.testing.assert_array_equal(mask, expected[0])
        np.testing.assert_array_equal(other, expected[1])


def test_scan():
    scores, k = tied((5, 60)), np.array([0, 10, 33, 59, 60])

    @jax.jit
    def masks(scores, k):
        return lax.scan(lambda carry, x: (carry, select.top_k_mask(*x)), 0, (scores, k))[1]

    for mask, row, n in zip(masks(scores, k), scores, k, strict=True):
        np.testing.assert_array_equal(mask, top_k([row], n)[0])


def test_inside_a_cond_of_a_loop():
    scores = tied(60)

    @jax.jit
    def final(scores):
        def body(step, mask):
            return lax.cond(step % 2 == 0, lambda: select.top_k_mask(scores, step), lambda: mask)

        return lax.fori_loop(0, 40, body, jnp.zeros(60, bool))

    np.testing.assert_array_equal(final(scores), top_k([scores], 38)[0])


def test_no_gradient_through_the_choice():
    scores = jnp.array([3.0, 1.0, 2.0])
    masked = jax.jit(jax.grad(lambda x: jnp.sum(jnp.where(select.top_k_mask(x, 2), x, 0) ** 2)))
    np.testing.assert_array_equal(masked(scores), [6.0, 0.0, 4.0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_copy_of_the_scores(dtype):
    scores = jax.ShapeDtypeStruct((2048, 2048), dtype)
    compiled = jax.jit(select.top_k_mask).lower(scores, 1000).compile()
    size = 2048 * 2048 * jnp.dtype(dtype).itemsize
    assert compiled.memory_analysis().temp_size_in_bytes < 0.02 * size


# --- float64 ------------------------------------------------------------------------------------


def test_float64_is_compared_in_full():
    with jax.enable_x64(True):
        scores = 1 + np.random.default_rng(0).integers(0, 40, (9, 11)) * 2.0**-52
        scores.flat[:4] = [np.nan, -np.inf, 5e-324, -0.0]
        mask = jax.jit(select.top_k_mask)
        for k in range(0, 100, 7):
            np.testing.assert_array_equal(mask(scores, k), top_k([scores], k)[0])


def test_float32_under_x64():
    with jax.enable_x64(True):
        scores = tied((9, 11))
        mask = jax.jit(select.top_k_mask)
        for k in (0, 13, np.int64(50), 99):
            np.testing.assert_array_equal(mask(scores, k), top_k([scores], k)[0])


def test_mixed_with_float64():
    with jax.enable_x64(True):
        small = np.array([2.0**-100, 3.0, 1.0, 0.0], np.float32)
        leaves = [np.array([1 + 2.0**-40, 1.0, 2.0**-101]), small, np.array([1, 2], np.float16)]
        masks = jax.jit(lambda x, k: select.top_k_masks(x, [k], groups=(0, 0, 0)))
        for k in range(10):
            for mask, expected in zip(masks(leaves, k), top_k(leaves, k), strict=True):
                np.testing.assert_array_equal(mask, expected, err_msg=f"k={k}")
