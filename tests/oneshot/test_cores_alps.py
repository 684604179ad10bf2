"""ALPS: how much better its support is, and what holds for any."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cores_oracle import damped, layer, least_squares, loss, quadratic, sparsegpt
from draws import put

from jaxprune.oneshot import cores


def single(*arrays):
    return [put(x, jnp.float32) for x in arrays]


W, X = layer(128, 48)
H = damped(X.T @ X)
CASES = {
    "50 %": (W.size // 2, cores.Cut()),
    "70 %": (W.size * 3 // 10, cores.Cut()),
    "2:4": (0, cores.Cut(nm=(2, 4))),
    "blocks": (cores.Cut(rows=4).num_units(W.shape) // 2, cores.Cut(rows=4)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_better_than_sparsegpt_and_than_a_refit_of_its_mask(name):
    keep, cut = CASES[name]
    pruned, mask = cores.alps(*single(W, H), keep, cut)
    expected, kept = sparsegpt(W, H, keep, rows=cut.rows, columns=cut.columns, nm=cut.nm)
    assert mask.sum() == kept.sum()
    assert not np.asarray(pruned)[~np.asarray(mask)].any()
    base = loss(expected, W, X)
    assert loss(pruned, W, X) <= 0.6 * base
    assert loss(pruned, W, X) < loss(least_squares(W, H, kept), W, X)
    best = quadratic(least_squares(W, H, np.asarray(mask)), W, H).sum()
    assert quadratic(pruned, W, H).sum() == pytest.approx(best, rel=1e-3)


def test_of_few_inputs_it_is_near_to_the_best_support():
    """All supports of 5 of 10 inputs, by exhaustion, of single outputs."""
    ratios = []
    supports = [np.isin(np.arange(10), k)[:, None] for k in itertools.combinations(range(10), 5)]
    for seed in range(20):
        w, x = layer(10, 1, seed=seed)
        square = damped(x.T @ x)
        best = min(quadratic(least_squares(w, square, m), w, square)[0] for m in supports)
        found = [core(*single(w, square), 5, cores.Cut())[0] for core in (cores.alps, cores.obc)]
        found.append(sparsegpt(w, square, 5)[0])
        ratios.append([quadratic(x, w, square)[0] / best for x in found])
    alps, obc, gpt = np.mean(ratios, axis=0)
    assert np.min(ratios) > 0.999
    assert obc < 1.1
    assert alps < 1.3
    assert gpt > 1.6


@pytest.mark.parametrize("keep", [0, 1, 61, 119, 120])
def test_the_count_is_exact(keep):
    w, x = layer(20, 6)
    pruned, mask = cores.alps(*single(w, damped(x.T @ x)), keep, cores.Cut())
    assert mask.sum() == keep
    if keep == 120:
        np.testing.assert_allclose(pruned, w, rtol=1e-4, atol=1e-5)


def test_it_is_never_worse_than_sparsegpt():
    """Without a step its support is refitted; independent inputs leave nothing to gain."""
    w, h = single(W, H)
    keep = W.size // 2
    base = float(cores.loss(cores.sparsegpt(w, h, keep, cores.Cut())[0] - w, h))
    for steps in (0, 3):
        pruned, mask = cores.alps(w, h, keep, cores.Cut(), steps=steps)
        assert float(cores.loss(pruned - w, h)) <= base
        assert mask.sum() == keep
    pruned, mask = cores.alps(w, jnp.eye(len(W)), keep, cores.Cut())
    alone, kept = cores.sparsegpt(w, jnp.eye(len(W)), keep, cores.Cut(), block=len(W))
    assert float(cores.loss(pruned - w, jnp.eye(len(W)))) <= float(jnp.sum(jnp.square(alone - w)))
    assert (mask != kept).sum() <= 2


def test_scales_of_inputs_do_not_matter():
    """Twice the data is the same, and so is another unit of an input."""
    w, x = layer(20, 6)
    square = damped(x.T @ x)
    pruned, mask = cores.alps(*single(w, square), 60, cores.Cut())
    _, twice = cores.alps(*single(w, 2 * square), 60, cores.Cut())
    assert (mask == twice).all()
    unit = 2.0 ** np.random.default_rng(5).integers(-3, 4, (20, 1))
    other, same = cores.alps(*single(w / unit, unit * square * unit.T), 60, cores.Cut())
    assert (same == mask).all()
    np.testing.assert_allclose(other * unit, pruned, rtol=1e-3, atol=1e-4)


def test_stacked_layers_bfloat16_and_traced_counts():
    stack = [layer(20, 6, seed=seed) for seed in range(2)]
    w = jnp.stack([put(w, jnp.bfloat16) for w, _ in stack])
    h = jnp.stack(single(*(damped(x.T @ x) for _, x in stack)))
    keep = jnp.array([40, 61])
    one = jax.jit(lambda w, h, k: cores.alps(w, h, k, cores.Cut()))
    pruned, mask = jax.vmap(one)(w, h, keep)
    assert pruned.dtype == jnp.bfloat16
    for i in range(2):
        alone = one(w[i], h[i], keep[i])
        assert mask[i].sum() == keep[i]
        assert (mask[i] == alone[1]).all()
        assert jnp.allclose(pruned[i].astype(jnp.float32), alone[0].astype(jnp.float32), 0.02)
    assert one._cache_size() == 1
