"""Least squares: on a mask, and from the outputs of a dense network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cores_oracle import damped, layer, least_squares, loss, quadratic, sparsegpt
from draws import put

from jaxprune.oneshot import cores

W, X = layer(48, 10)
H = damped(X.T @ X)
MASK = np.random.default_rng(1).uniform(size=W.shape) < 0.5


def single(*arrays):
    return [put(x, jnp.float32) for x in arrays]


def test_loss_is_that_of_the_outputs():
    D = np.random.default_rng(2).normal(size=W.shape)
    w, h = single(D, X.T @ X)
    assert float(cores.loss(w, h)) == pytest.approx(loss(W + D, W, X), rel=1e-5)
    assert cores.loss(w.astype(jnp.bfloat16), h).dtype == jnp.float32
    assert cores.loss(w, -h) == 0


def test_damped():
    np.testing.assert_allclose(cores.damped(*single(X.T @ X), 0.03), damped(X.T @ X, 0.03), 1e-5)


def test_refit_is_least_squares_of_each_output():
    w, h = single(W, H)
    got = cores.refit(w, h, MASK, steps=500, tol=1e-6)
    expected = least_squares(W, H, MASK)
    np.testing.assert_allclose(got, expected, atol=1e-3 * np.abs(expected).max())
    assert not np.asarray(got)[~MASK].any()
    by_default = cores.refit(w, h, MASK)
    best = quadratic(expected, W, H)
    np.testing.assert_allclose(quadratic(by_default, W, H), best, rtol=1e-3)


def test_refit_in_float64_is_exact():
    with jax.enable_x64(True):
        got = cores.refit(put(W), put(H), MASK, steps=1000, tol=1e-12)
        np.testing.assert_allclose(got, least_squares(W, H, MASK), rtol=1e-7, atol=1e-9)


def test_refit_is_never_worse_than_its_start():
    w, h = single(W, H)
    best = least_squares(W, H, MASK)
    for start in (best, 0 * W, 100 * W):
        (x,) = single(start)
        for steps in (0, 1, 3, 100):
            got = cores.refit(w, h, MASK, start=x, steps=steps)
            before = quadratic(np.where(MASK, x, 0), W, H)
            assert (quadratic(got, W, H) <= before * (1 + 1e-5)).all()
            if not steps:
                assert (got == jnp.where(MASK, x, 0)).all()


def test_refit_of_a_sparsegpt_mask():
    """A pass over the inputs moves only later ones: least squares is better by a third or more."""
    wide, inputs = layer(256, 64)
    square = damped(inputs.T @ inputs)
    for keep in (wide.size // 2, wide.size * 3 // 10):
        pruned, mask = sparsegpt(wide, square, keep)
        got = cores.refit(*single(wide, square), mask)
        assert loss(got, wide, inputs) < 0.7 * loss(pruned, wide, inputs)


def test_refit_of_all_and_of_nothing():
    w, h = single(W, H)
    assert (cores.refit(w, h, np.ones(W.shape, bool)) == w).all()
    assert not cores.refit(w, h, np.zeros(W.shape, bool)).any()


def test_refit_keeps_bfloat16():
    got = cores.refit(put(W, jnp.bfloat16), *single(H), MASK)
    rounded = np.asarray(put(W, jnp.bfloat16), np.float64)
    expected = least_squares(rounded, H, MASK)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(got, np.float64), expected, atol=0.01 * np.abs(expected).max()
    )


def test_refit_of_stacked_layers():
    """To a tolerance below that of the comparison: rounding may change how many steps one takes."""
    w, h = single(W, damped(H, 0.05))
    stack = jnp.stack([w, 2 * w]), jnp.stack([h, 2 * h]), jnp.stack([MASK, ~MASK])
    refit = functools.partial(cores.refit, tol=1e-6)
    together = jax.vmap(refit)(*stack)
    for i in range(2):
        alone = refit(*(x[i] for x in stack))
        np.testing.assert_allclose(together[i], alone, rtol=1e-4, atol=1e-4)


def test_target_is_least_squares_with_the_old_weights_as_more_data():
    """[X_p; sqrt(lam) I] W* against [X_d W; sqrt(lam) W]."""
    seen = X + 0.3 * np.random.default_rng(3).normal(size=X.shape) * X.std(0)
    G, C, damp = seen.T @ seen, seen.T @ X, 0.02
    more = (damp * np.trace(G) / len(G)) ** 0.5
    rows = np.concatenate([seen, more * np.eye(len(G))])
    expected = np.linalg.lstsq(rows, np.concatenate([X @ W, more * W]), rcond=None)[0]
    got = cores.target(*single(W, G, C), damp)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    assert cores.target(put(W, jnp.bfloat16), *single(G, C)).dtype == jnp.float32

    # What is lost beyond it is the quadratic form that cores minimise.
    def objective(x):
        return np.sum((X @ W - seen @ x) ** 2) + more**2 * np.sum((x - W) ** 2)

    other = expected + np.random.default_rng(4).normal(size=W.shape)
    grown = objective(other) - objective(expected)
    assert grown == pytest.approx(quadratic(other, expected, damped(G, damp)).sum(), rel=1e-6)


def test_pruning_towards_the_target_gives_outputs_nearer_to_dense_ones():
    """Inputs that pruning before has halved: weights alone cannot tell."""
    seen = np.where(np.arange(48) < 24, 0.5, 1) * X
    w, G, C = single(W, seen.T @ seen, seen.T @ X)
    square = cores.damped(G)
    plain = cores.refit(w, square, MASK)
    aimed = cores.refit(cores.target(w, G, C), square, MASK)
    errors = [np.sum((X @ W - seen @ np.asarray(x, np.float64)) ** 2) for x in (plain, aimed)]
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w, h: cores.refit(w, h, w[:2] > 0), "mask has shape"),
        (lambda w, h: cores.refit(w, h, w > 0, start=w[:, :1]), "start has shape"),
        (lambda w, h: cores.refit(w, h[:2], w > 0), "H has shape"),
        (
            lambda w, h: cores.target(w, h, h[:2]),
            r"C has shape \(2, 48\) for W of shape \(48, 10\)",
        ),
        (lambda w, h: cores.loss(w, h[:2]), "must be .inputs, inputs."),
    ],
)
def test_it_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(*single(W, H))


def test_several_stacks_of_layers_in_one_program():
    """Factorisations of stacks that run side by side would wait for each other for ever on CPUs."""
    stacks = [np.stack([layer(128, 4, seed=8 * i + j)[1] for j in range(8)]) for i in range(6)]
    grams = single(*(np.einsum("bti,btj->bij", x, x) for x in stacks))
    w = np.ones((8, 128, 4), np.float32)
    found = jax.jit(lambda grams: [jax.vmap(cores.target)(w, h, 2 * h) for h in grams])(grams)
    for G, x in zip(np.asarray(grams, np.float64), found, strict=True):
        lam = 0.01 * np.trace(G, axis1=1, axis2=2)[:, None, None] / 128
        expected = np.linalg.solve(G + lam * np.eye(128), 2 * G @ w + lam * w)
        np.testing.assert_allclose(x, expected, rtol=1e-3, atol=1e-3)
