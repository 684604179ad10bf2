"""Criteria by gradients against closed forms in float64 and against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put

import jaxprune as jp
from jaxprune import oneshot, scores

RNG = np.random.default_rng(0)
W1, W2 = RNG.normal(size=(5, 6)), RNG.normal(size=(6, 3))
X, T = RNG.normal(size=(8, 5)), RNG.normal(size=(8, 3))
PARAMS = {
    "a": {"kernel": put(W1, jnp.float32)},
    "b": {"kernel": put(W2, jnp.float32)},
}
BATCHES = [(put(X[i], jnp.float32), put(T[i], jnp.float32)) for i in (slice(0, 4), slice(4, 8))]


def loss(params, batch):
    x, t = batch
    y = jnp.tanh(x @ params["a"]["kernel"]) @ params["b"]["kernel"]
    return jnp.mean(jnp.sum((y - t) ** 2, -1))


def value(w1, w2, x, t):
    """The same in float64."""
    return np.mean(np.sum((np.tanh(x @ w1) @ w2 - t) ** 2, -1))


def gradient(w1, w2, x, t):
    """Of `value`, by hand."""
    h = np.tanh(x @ w1)
    d = 2 * (h @ w2 - t) / len(x)
    return x.T @ (d @ w2.T * (1 - h**2)), h.T @ d


def collected(score, **options):
    return oneshot.collect(PARAMS, loss, BATCHES, score=score, **options)


def of(score, seen, name, w):
    """The scores of a leaf from what was collected."""
    grads, memory = (None if x is None else x[name]["kernel"] for x in seen)
    return np.asarray(
        score(w, path=f"{name}/kernel", pattern=jp.Unstructured(), grad=grads, memory=memory)
    )


def scored(score, **options):
    seen = collected(score, **options)
    return [of(score, seen, name, PARAMS[name]["kernel"]) for name in "ab"]


def close(got, expected, rtol=2e-5):
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(y).max())


G = gradient(W1, W2, X, T)  # two batches of one length: the mean over batches is that over all
EACH = [gradient(W1, W2, X[i : i + 1], T[i : i + 1]) for i in range(8)]


def test_gradients_by_hand_agree_with_finite_differences():
    moved = W1.copy()
    moved[2, 3] += 1e-6
    assert abs((value(moved, W2, X, T) - value(W1, W2, X, T)) / 1e-6 - G[0][2, 3]) < 1e-4


def test_saliency():
    close(scored(scores.saliency), [np.abs(W1 * G[0]), np.abs(W2 * G[1])])
    close(scored(scores.squared_saliency), [(W1 * G[0]) ** 2, (W2 * G[1]) ** 2])


def test_snip_takes_the_sum_of_gradients():
    close(scored(scores.snip), [2 * np.abs(W1 * G[0]), 2 * np.abs(W2 * G[1])])
    seen = collected(scores.snip, per_example=True)
    close([of(scores.snip, seen, "a", PARAMS["a"]["kernel"])], [8 * np.abs(W1 * G[0])])


def test_accumulated_saliency_decays():
    halves = [gradient(W1, W2, X[i], T[i])[0] for i in (slice(0, 4), slice(4, 8))]
    expected = 0.75 * np.abs(W1 * halves[0]) + np.abs(W1 * halves[1])
    close(scored(scores.accumulated_saliency(0.75))[:1], [expected])
    assert scores.accumulated_saliency(0.5) == scores.accumulated_saliency(0.5)
    for decay in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match=f"decay={decay}"):
            scores.accumulated_saliency(decay)


def test_movement():
    halves = [gradient(W1, W2, X[i], T[i])[0] for i in (slice(0, 4), slice(4, 8))]
    close(scored(scores.movement)[:1], [-W1 * (halves[0] + halves[1])])


def test_movement_of_a_pruned_weight_goes_on_with_the_value_that_it_had():
    memory = scores.movement.memory.init(jnp.ones(2))
    for w, g in (([2.0, 1.0], [1.0, 1.0]), ([0.0, 1.0], [-3.0, 1.0])):
        memory = scores.movement.memory.update(memory, jnp.array(w), jnp.array(g))
    assert scores.movement(jnp.zeros(2), memory=memory).tolist() == [-2.0 + 6.0, -2.0]


def test_soft_movement():
    w, g = np.array([1.5, -0.5]), np.array([1.0, 2.0])
    score, s = scores.soft_movement(0.5, 0.1), np.zeros(2)
    memory = score.memory.init(put(w, jnp.float32))
    for _ in range(3):
        soft = 1 / (1 + np.exp(-s))
        s = s - 0.5 * (w * g + 0.1 * soft * (1 - soft))
        memory = score.memory.update(memory, put(w, jnp.float32), put(g, jnp.float32))
    close([score(jnp.ones(2), memory=memory)], [s])
    for bad in ({"learning_rate": 0}, {"penalty": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            scores.soft_movement(**bad)


# --- curvature ----------------------------------------------------------------------------------


def hessian_by_differences(step=1e-5):
    """Of `value` over all weights, from central differences of the gradient by hand."""
    flat = np.concatenate([W1.ravel(), W2.ravel()])

    def grad(v):
        return np.concatenate(
            [g.ravel() for g in gradient(v[:30].reshape(5, 6), v[30:].reshape(6, 3), X, T)]
        )

    columns = [(grad(flat + step * e) - grad(flat - step * e)) / (2 * step) for e in np.eye(48)]
    return np.stack(columns)


HESSIAN = hessian_by_differences()


def test_grasp_is_the_weight_times_the_hessian_times_the_gradient_of_all_batches():
    flat = HESSIAN @ np.concatenate([g.ravel() for g in G])
    expected = [W1 * flat[:30].reshape(5, 6), W2 * flat[30:].reshape(6, 3)]
    close(scored(scores.grasp), expected, rtol=1e-4)


def test_obd_with_the_exact_diagonal():
    h = np.diag(HESSIAN)
    expected = [0.5 * h[:30].reshape(5, 6) * W1**2, 0.5 * h[30:].reshape(6, 3) * W2**2]
    close(scored(scores.obd(scores.exact_diagonal)), expected, rtol=1e-4)


def test_hutchinson_has_no_bias_and_the_variance_that_is_said():
    draws = jax.vmap(
        lambda key: scores.hutchinson(key)(
            lambda p: (loss(p, BATCHES[0]) + loss(p, BATCHES[1])) / 2, PARAMS, None, 0
        )
    )(jax.random.split(jax.random.key(0), 4000))
    draws = np.concatenate([draws[n]["kernel"].reshape(4000, -1) for n in "ab"], 1)
    variance = 2 * (np.sum(HESSIAN**2, 1) - np.diag(HESSIAN) ** 2) / 2  # signs: E[z^4] = 1
    error = np.sqrt(variance / 4000)
    assert np.all(np.abs(draws.mean(0) - np.diag(HESSIAN)) < 5 * error)
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.2)


def test_hutchinson_draws_anew_for_each_batch_and_the_same_for_each_key():
    one = scores.hutchinson(jax.random.key(0), 2)
    first, second = (one(lambda p: loss(p, BATCHES[0]), PARAMS, None, i) for i in (0, 1))
    again = scores.hutchinson(jax.random.key(0), 2)(lambda p: loss(p, BATCHES[0]), PARAMS, None, 0)
    np.testing.assert_array_equal(first["a"]["kernel"], again["a"]["kernel"])
    assert np.any(np.asarray(first["a"]["kernel"]) != second["a"]["kernel"])
    with pytest.raises(TypeError, match="key=0"):
        scores.hutchinson(0)
    with pytest.raises(ValueError, match="samples=0"):
        scores.hutchinson(jax.random.key(0), 0)


def test_obd_with_the_empirical_fisher():
    h = [np.mean([g[i] ** 2 for g in EACH], 0) for i in range(2)]
    close(scored(scores.obd(), per_example=True), [0.5 * h[0] * W1**2, 0.5 * h[1] * W2**2])
    halves = [gradient(W1, W2, X[i], T[i]) for i in (slice(0, 4), slice(4, 8))]
    h = np.mean([g[0] ** 2 for g in halves], 0)
    close(scored(scores.obd())[:1], [0.5 * h * W1**2])
    with pytest.raises(TypeError, match="diagonal=3"):
        scores.obd(3)


# --- synflow ------------------------------------------------------------------------------------


def linear(params, x):
    return (x @ params["a"]["kernel"] @ params["b"]["kernel"]).sum()


def test_synflow():
    seen = oneshot.collect(PARAMS, linear, [jnp.ones((1, 5))], score=scores.synflow)
    a, b = np.abs(W1), np.abs(W2)
    close(
        [of(scores.synflow, seen, n, PARAMS[n]["kernel"]) for n in "ab"],
        [a * b.sum(1)[None], a.sum(0)[:, None] * b],
    )


def test_synflow_in_rounds_keeps_every_layer_alive_where_one_round_does_not():
    """The reason for rounds: 3 of 310 weights still connect inputs to outputs."""
    rng = np.random.default_rng(3)
    params = {
        "a": {"kernel": put(rng.uniform(0.8, 1.2, (30, 10)), jnp.float32)},
        "b": {"kernel": put(rng.uniform(0.8, 1.2, (10, 1)), jnp.float32)},
    }
    alive = {}
    for rounds in (1, 50):
        pruned, masks = jp.prune_params(
            params,
            1 - 3 / 310,
            score=scores.synflow,
            scope="global",
            loss=linear,
            batches=[jnp.ones((1, 30))],
            rounds=rounds,
            rules=[jp.Rule(".*", dense=False)],
        )
        assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == 3
        flow = jax.tree.map(jnp.abs, pruned)
        alive[rounds] = float(linear(flow, jnp.ones((1, 30))))
    assert alive[1] == 0
    assert alive[50] > 0
