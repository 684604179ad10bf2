"""SparseGPT against the published algorithm, with its inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cores_oracle import damped, layer, loss, sparsegpt
from draws import put

from jaxprune.oneshot import cores

CASES = {
    "50 %": (0.5, cores.Cut()),
    "70 %": (0.7, cores.Cut()),
    "90 %": (0.9, cores.Cut()),
    "2:4": (0.5, cores.Cut(nm=(2, 4))),
    "blocks": (0.5, cores.Cut(rows=4, columns=2)),
}


def near(pruned, mask, expected, kept, W, X):
    """Nearly the same mask, exactly the same number, and the same loss."""
    pruned, mask = np.asarray(pruned, np.float64), np.asarray(mask)
    assert mask.sum() == kept.sum()
    assert (mask != kept).mean() < 2e-3
    assert not pruned[~mask].any()
    assert loss(pruned, W, X) == pytest.approx(loss(expected, W, X), rel=0.01)
    same = (mask == kept).all(0)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(pruned[:, same], expected[:, same], atol=2e-3 * scale)


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_published_algorithm(name):
    """300 inputs: two blocks and a shorter one."""
    sparsity, cut = CASES[name]
    W, X = layer(300, 24)
    H = damped(X.T @ X)
    keep = round(cut.num_units(W.shape) * (1 - sparsity))
    pruned, mask = cores.sparsegpt(put(W), put(H), keep, cut)
    expected, kept = sparsegpt(W, H, keep, rows=cut.rows, columns=cut.columns, nm=cut.nm)
    near(pruned, mask, expected, kept, W, X)


@pytest.mark.parametrize(("inputs", "block"), [(1100, 128), (96, 16), (96, 500), (70, 7)])
def test_many_blocks(inputs, block):
    """Large products of all inputs before, of several spans and a shorter one."""
    W, X = layer(inputs, 8)
    H = damped(X.T @ X)
    keep = W.size // 2 + 1
    pruned, mask = cores.sparsegpt(put(W), put(H), keep, cores.Cut(), block=block)
    expected, kept = sparsegpt(W, H, keep, block=min(block, inputs))
    near(pruned, mask, expected, kept, W, X)


def test_in_float64_it_is_the_same_to_the_last_digits():
    W, X = layer(90, 10)
    H = damped(X.T @ X)
    with jax.enable_x64(True):
        for nm in (None, (2, 3)):
            cut = cores.Cut(nm=nm)
            pruned, mask = cores.sparsegpt(put(W), put(H), 401, cut, block=32)
            assert pruned.dtype == jnp.float64
            expected, kept = sparsegpt(W, H, 401, nm=nm, block=32 if nm is None else 30)
            assert (np.asarray(mask) == kept).all()
            np.testing.assert_allclose(pruned, expected, rtol=1e-8, atol=1e-10)


def test_it_is_better_than_wanda_which_is_better_than_magnitude():
    W, X = layer(256, 64)
    H = put(X.T @ X, jnp.float32)
    w = put(W, jnp.float32)
    for keep in (W.size // 2, W.size * 3 // 10):
        gpt, _ = cores.sparsegpt(w, cores.damped(H), keep, cores.Cut())
        wanda = cores.wanda(w, jnp.diagonal(H), keep, cores.Cut())
        magnitude = cores.magnitude(w, keep, cores.Cut())
        found = [gpt, jnp.where(wanda, w, 0), jnp.where(magnitude, w, 0)]
        losses = [loss(x, W, X) for x in found]
        assert 1.5 * losses[0] < losses[1] < losses[2] / 1.2, losses


SMALL = layer(20, 6)


def small(keep, cut=cores.Cut(), scale=1.0, dtype=jnp.float32, **options):  # noqa: B008
    W, X = SMALL
    H = cores.damped(put(scale * X.T @ X, jnp.float32))
    return cores.sparsegpt(put(W, dtype), H, keep, cut, **options)


@pytest.mark.parametrize("keep", [0, 1, 61, 119, 120, 999, -3])
def test_the_count_is_exact(keep):
    pruned, mask = small(keep, block=8)
    assert mask.sum() == min(max(keep, 0), 120)
    assert not pruned[~mask].any()
    if keep >= 120:
        assert (pruned == put(SMALL[0], jnp.float32)).all()


def test_weights_that_are_all_equal_keep_the_exact_count():
    H = jnp.eye(20)
    _, mask = cores.sparsegpt(jnp.ones((20, 6)), H, 61, cores.Cut(), block=8)
    assert mask.sum() == 61


def test_twice_the_data_is_the_same():
    for (a, m), (b, n) in [(small(60), small(60, scale=2.0))]:
        assert (m == n).all()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_weights_come_back_as_such():
    pruned, mask = small(60, dtype=jnp.bfloat16)
    assert pruned.dtype == jnp.bfloat16
    assert mask.sum() == 60
    W = np.asarray(put(SMALL[0], jnp.bfloat16), np.float64)
    expected, kept = sparsegpt(W, damped(SMALL[1].T @ SMALL[1]), 60)
    assert (np.asarray(mask) != kept).sum() <= 2
    np.testing.assert_allclose(np.asarray(pruned, np.float64)[kept], expected[kept], rtol=0.02)


def test_one_token():
    """H of rank 1: with damping there is an answer, and it moves weights onto what is kept."""
    W, X = SMALL[0], SMALL[1][:1]
    H = damped(X.T @ X)
    expected, kept = sparsegpt(W, H, 60)
    pruned, mask = cores.sparsegpt(put(W), put(H), 60, cores.Cut())
    near(pruned, mask, expected, kept, W, X)


def test_dead_inputs_go_first():
    W, X = SMALL
    X = np.where(np.isin(np.arange(20), [3, 11]), 0, X)
    dead = np.abs(X).sum(0) == 0
    big = np.where(dead[:, None], 1000, W)
    H = damped(X.T @ X)
    pruned, mask = cores.sparsegpt(put(big), put(H), 60, cores.Cut(), dead=dead)
    expected, kept = sparsegpt(big, H, 60, dead=dead)
    assert not np.asarray(mask)[dead].any()
    near(pruned, mask, expected, kept, big, X)
    every, mask = cores.sparsegpt(put(big), put(H), 120, cores.Cut(), dead=dead)
    np.testing.assert_allclose(every, big, rtol=1e-6)


def test_stacked_layers_and_traced_counts():
    stack = [layer(20, 6, seed=seed) for seed in range(3)]
    W = jnp.stack([put(w, jnp.float32) for w, _ in stack])
    H = jnp.stack([cores.damped(put(x.T @ x, jnp.float32)) for _, x in stack])
    keep = jnp.array([13, 60, 119])
    one = jax.jit(lambda w, h, k: cores.sparsegpt(w, h, k, cores.Cut(rows=2), block=8))
    pruned, mask = jax.vmap(one)(W, H, keep)
    for i in range(3):
        alone = one(W[i], H[i], keep[i])
        assert (mask[i] == alone[1]).all()
        np.testing.assert_allclose(pruned[i], alone[0], rtol=1e-5, atol=1e-6)
    assert one._cache_size() == 1


def test_where_h_is_not_positive_definite_the_count_is_exact():
    pruned, mask = cores.sparsegpt(jnp.ones((8, 3)), -jnp.eye(8), 7, cores.Cut())
    assert mask.sum() == 7
    assert jnp.isnan(pruned[mask]).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda W, H: cores.sparsegpt(W[0], H, 1, cores.Cut()), ValueError, "use jax.vmap"),
        (lambda W, H: cores.sparsegpt(W.T, H, 1, cores.Cut()), ValueError, r"H has shape \(8, 8\)"),
        (lambda W, H: cores.sparsegpt(W.astype(int), H, 1, cores.Cut()), TypeError, "W has dtype"),
        (lambda W, H: cores.sparsegpt(W, H, 0.5, cores.Cut()), TypeError, "keep must be a whole"),
        (lambda W, H: cores.sparsegpt(W, H, 1, cores.Cut(rows=3)), ValueError, "must divide W"),
        (lambda W, H: cores.sparsegpt(W, H, 1, cores.Cut(), block=0), ValueError, "block=0 must"),
        (lambda W, H: cores.sparsegpt(W, H, 1, cores.Cut(), dead=W), ValueError, "dead has shape"),
    ],
)
def test_it_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.ones((8, 3)), jnp.eye(8))
