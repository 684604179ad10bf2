"""Optimal brain compression against a search that solves every candidate anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cores_oracle import damped, greedy, layer, least_squares, quadratic
from draws import put

from jaxprune.oneshot import cores

W, X = layer(12, 5)
H = damped(X.T @ X)


def run(keep, cut=cores.Cut(), W=W, H=H):  # noqa: B008
    return cores.obc(put(W, jnp.float32), put(H, jnp.float32), keep, cut)


def test_it_is_greedy_removal_with_the_whole_leaf_ranked():
    turn, growth = greedy(W, H)
    ranks = np.maximum.accumulate(growth, axis=0)
    cost = np.take_along_axis(ranks, turn, axis=0)
    order = np.lexsort((turn.ravel(), cost.ravel()))  # of one output, earlier removals first
    for keep in (0, 1, 17, 30, 59, 60):
        expected = np.ones(W.size, bool)
        expected[order[: W.size - keep]] = False
        expected = expected.reshape(W.shape)
        pruned, mask = run(keep)
        assert (np.asarray(mask) == expected).all(), keep
        best = least_squares(W, H, expected)
        np.testing.assert_allclose(pruned, best, atol=1e-3 * np.abs(W).max())
        assert not np.asarray(pruned)[~expected].any()


@pytest.mark.parametrize("nm", [(2, 4), (1, 3), (3, 3)])
def test_n_of_m(nm):
    turn, growth = greedy(W, H, m=nm[1], n=nm[0])
    expected = turn == len(growth)
    pruned, mask = run(None, cores.Cut(nm=nm))
    assert (np.asarray(mask) == expected).all()
    np.testing.assert_allclose(pruned, least_squares(W, H, expected), atol=1e-3 * np.abs(W).max())


def test_more_removals_than_are_read_back_at_once():
    """Against downdates of an explicit inverse, in float64."""
    wide, inputs = layer(150, 2)
    square = damped(inputs.T @ inputs)
    expected = np.ones(wide.shape, bool)
    for o in range(2):
        w, C = wide[:, o].copy(), np.linalg.inv(square)
        left = np.ones(150, bool)
        for _ in range(100):
            cost = np.where(left, w**2 / np.where(left, np.diag(C), 1), np.inf)
            p = int(np.argmin(cost))
            w -= C[:, p] * w[p] / C[p, p]
            C -= np.outer(C[:, p], C[p]) / C[p, p]
            left[p] = False
        expected[:, o] = left
    with jax.enable_x64(True):
        # One output at a time: so many are kept of each.
        for o in range(2):
            one = wide[:, o : o + 1]
            _, mask = cores.obc(put(one), put(square), 50, cores.Cut())
            assert (np.asarray(mask) == expected[:, o : o + 1]).all()
    _, mask = run(100, W=wide, H=square)
    assert mask.sum() == 100


def test_equal_weights_and_independent_inputs_keep_the_exact_count():
    _, mask = run(31, W=np.ones((12, 5)), H=np.eye(12))
    assert mask.sum() == 31


def test_it_is_better_than_sparsegpt():
    wide, inputs = layer(64, 16)
    square = damped(inputs.T @ inputs)
    for keep in (wide.size // 2, wide.size * 3 // 10):
        pruned, _ = run(keep, W=wide, H=square)
        other, _ = cores.sparsegpt(
            put(wide, jnp.float32), put(square, jnp.float32), keep, cores.Cut()
        )
        ratio = quadratic(pruned, wide, square).sum() / quadratic(other, wide, square).sum()
        assert ratio < 0.6


def test_stacked_layers_bfloat16_and_traced_counts():
    w = jnp.stack([put(W, jnp.bfloat16), put(-2 * W[::-1], jnp.bfloat16)])
    h = jnp.stack([put(H, jnp.float32)] * 2)
    keep = jnp.array([20, 41])
    one = jax.jit(lambda w, h, k: cores.obc(w, h, k, cores.Cut()))
    pruned, mask = jax.vmap(one)(w, h, keep)
    assert pruned.dtype == jnp.bfloat16
    for i in range(2):
        alone = one(w[i], h[i], keep[i])
        assert (mask[i] == alone[1]).all()
        assert mask[i].sum() == keep[i]
        assert jnp.allclose(pruned[i].astype(jnp.float32), alone[0].astype(jnp.float32), 0.02)
    assert one._cache_size() == 1


def test_it_says_what_is_wrong():
    with pytest.raises(ValueError, match="obc removes single weights"):
        run(1, cores.Cut(rows=2))
    with pytest.raises(TypeError, match="keep must be a whole number"):
        run(0.5)
