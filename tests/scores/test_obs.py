"""Optimal brain surgeon against explicit inverses and exhaustive search."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put

import jaxprune as jp
from jaxprune import oneshot, scores

RNG = np.random.default_rng(1)
DAMP = 0.05


def fisher(gradients, damp=DAMP):
    """damp * I + mean of outer products, [n, n], from gradients [number, n]."""
    return damp * np.eye(gradients.shape[1]) + gradients.T @ gradients / len(gradients)


def fed(score, w, gradients):
    """The memory after those gradients of a leaf."""
    memory = score.memory.init(w)
    for g in gradients:
        memory = score.memory.update(memory, w, put(g, jnp.float32))
    return memory


def correlated(number, *shape):
    """Gradients whose elements depend on each other."""
    n = int(np.prod(shape))
    mixed = RNG.normal(size=(number, n)) @ RNG.normal(size=(n, n)) / n**0.5
    return mixed.reshape(number, *shape)


def scored(score, w, memory, pattern=None):
    pattern = pattern or jp.Unstructured()
    return np.asarray(score(w, path="w", pattern=pattern, memory=memory), np.float64)


@pytest.mark.parametrize(("shape", "block"), [((7, 3), 7), ((7, 3), 3), ((2, 3, 5, 4), 8)])
def test_scores_are_those_of_explicit_inverses(shape, block):
    """Inputs of one output in the order of their axes, in blocks; the last one shorter."""
    w, gradients = RNG.normal(size=shape), correlated(20, *shape)
    score = scores.obs(block, damp=DAMP)
    leaf = put(w, jnp.float32)
    got = scored(score, leaf, fed(score, leaf, gradients)).reshape(-1, shape[-1])
    flat, rows = w.reshape(-1, shape[-1]), gradients.reshape(20, -1, shape[-1])
    for output in range(shape[-1]):
        for i in range(0, len(flat), block):
            inverse = np.linalg.inv(fisher(rows[:, i : i + block, output]))
            expected = flat[i : i + block, output] ** 2 / (2 * np.diag(inverse))
            np.testing.assert_allclose(got[i : i + block, output], expected, rtol=1e-4)


def test_another_output_axis():
    w, gradients = put(RNG.normal(size=(3, 7)), jnp.float32), correlated(20, 3, 7)
    first, last = scores.obs(7, damp=DAMP, output_axis=0), scores.obs(7, damp=DAMP)
    got = scored(first, w, fed(first, w, gradients))
    same = scored(last, w.T, fed(last, w.T, gradients.transpose(0, 2, 1)))
    np.testing.assert_allclose(got, same.T, rtol=1e-5)
    with pytest.raises(ValueError, match=r"output_axis=2 of a leaf of shape \(3, 7\)"):
        scores.obs(output_axis=2).memory.init(w)


UNITS = {  # the pattern, and which weights of (8, 4) live or die together
    "block of inputs": (jp.Block((4, 1)), lambda i, j: (i // 4, j)),
    "block": (jp.Block((2, 2)), lambda i, j: (i // 2, j // 2)),
    "edge": (jp.Block((3, 3)), lambda i, j: (i // 3, j // 3)),
    "output": (jp.Channel(-1), lambda i, j: j),
    "input": (jp.Channel(0), lambda i, j: i),
}


@pytest.mark.parametrize("name", UNITS)
def test_units_are_removed_together(name):
    """The mean score of a unit, times its size, is what removing it from F costs."""
    pattern, unit_of = UNITS[name]
    w, gradients = RNG.normal(size=(8, 4)), correlated(40, 8, 4)
    score, leaf = scores.obs(8, damp=DAMP), put(w, jnp.float32)
    got = scored(score, leaf, fed(score, leaf, gradients), pattern)
    inverses = [np.linalg.inv(fisher(gradients[:, :, j])) for j in range(4)]
    for unit in {unit_of(i, j) for i in range(8) for j in range(4)}:
        inside = np.array([[unit_of(i, j) == unit for j in range(4)] for i in range(8)])
        cost = 0.0
        for j in range(4):
            q = inside[:, j]
            cost += 0.5 * w[q, j] @ np.linalg.inv(inverses[j][np.ix_(q, q)]) @ w[q, j]
        np.testing.assert_allclose(got[inside].sum(), cost, rtol=1e-4)


def cost_of_removing(w, f, q):
    """What removing the set q costs if all others move as is best, by least squares."""
    kept = np.setdiff1d(np.arange(len(w)), q)
    move = np.zeros(len(w))
    move[q] = -w[q]
    if len(kept):
        move[kept] = np.linalg.solve(f[np.ix_(kept, kept)], -f[np.ix_(kept, q)] @ move[q])
    return 0.5 * move @ f @ move, move


def test_kept_weights_move_as_is_best():
    w, gradients = RNG.normal(size=6), correlated(20, 6, 1)
    score, leaf = scores.obs(6, damp=DAMP), put(w[:, None], jnp.float32)
    memory = fed(score, leaf, gradients)
    f = fisher(gradients[..., 0])
    for q in itertools.combinations(range(6), 3):
        mask = np.isin(np.arange(6), q, invert=True)
        moved = score.compensate(leaf, put(mask[:, None]), memory)
        _, best = cost_of_removing(w, f, np.array(q))
        np.testing.assert_allclose(moved[mask, 0], (w + best)[mask], rtol=1e-3, atol=1e-4)


def test_no_other_single_removal_is_better():
    """Exhaustive search: of all single removals the one that OBS prunes costs least."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        w = rng.normal(size=5)
        gradients = rng.normal(size=(12, 5)) @ rng.normal(size=(5, 5))
        score, leaf = scores.obs(5, damp=DAMP), put(w[:, None], jnp.float32)
        got = scored(score, leaf, fed(score, leaf, gradients[..., None]))[:, 0]
        costs = [cost_of_removing(w, fisher(gradients), np.array([i]))[0] for i in range(5)]
        np.testing.assert_allclose(got, costs, rtol=1e-3)
        assert np.argmin(got) == np.argmin(costs)


def test_the_loss_agrees_on_a_linear_model():
    """There F is the Hessian: what OBS leaves is the best of all masks of one removal."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4))
    w = rng.normal(size=(4, 1))
    y = x @ w + rng.normal(size=(400, 1))  # noise of 1: the Fisher matrix is the Hessian on average

    def loss(params, batch):
        return 0.5 * jnp.mean((batch[0] @ params["kernel"] - batch[1]) ** 2)

    best = np.linalg.lstsq(x, y)[0]
    params = {"kernel": put(best, jnp.float32)}
    batches = [tuple(put(z, jnp.float32) for z in (x, y))]
    pruned, masks = jp.prune_params(
        params,
        0.25,
        score=scores.obs(4, damp=1e-6),
        loss=loss,
        batches=batches,
        per_example=True,
        rules=[jp.Rule("kernel", dense=False)],
    )
    refits = []
    for out in range(4):
        rest = np.delete(np.arange(4), out)
        refits.append(np.mean((x[:, rest] @ np.linalg.lstsq(x[:, rest], y)[0] - y) ** 2) / 2)
    assert int(np.argmin(masks["kernel"])) == int(np.argmin(refits))
    assert float(loss(pruned, batches[0])) < min(refits) * 1.02
    only_masked = jp.apply_masks(params, masks)
    assert float(loss(pruned, batches[0])) < float(loss(only_masked, batches[0]))


def test_large_damping_is_magnitude():
    w, gradients = put(RNG.normal(size=(6, 5)), jnp.float32), correlated(8, 6, 5)
    score = scores.obs(6, damp=1e6)
    got = scored(score, w, fed(score, w, gradients))
    assert np.array_equal(np.argsort(got.ravel()), np.argsort(np.abs(np.asarray(w)).ravel()))


def test_blocks_of_one_are_obd():
    w, gradients = put(RNG.normal(size=(6, 5)), jnp.float32), correlated(8, 6, 5)
    got, obd = scores.obs(1, damp=1e-9), scores.obd()
    np.testing.assert_allclose(
        scored(got, w, fed(got, w, gradients)), scored(obd, w, fed(obd, w, gradients)), rtol=1e-4
    )


def test_many_blocks_are_made_in_parts():
    """More than fit side by side on one device: the same scores as leaf by leaf."""
    shape = (64, 40 * 32)
    w = put(RNG.normal(size=shape), jnp.float32)
    gradients = put(RNG.normal(size=(3, *shape)), jnp.float32)
    score = scores.obs(64, damp=DAMP)
    auto = (jax.sharding.AxisType.Auto,)
    with jax.set_mesh(jax.make_mesh((1,), ("x",), axis_types=auto, devices=jax.devices()[:1])):
        whole = scored(score, w, fed(score, w, gradients))
    part = scored(score, w[:, :40], fed(score, w[:, :40], gradients[..., :40]))
    np.testing.assert_allclose(whole[:, :40], part, rtol=1e-4)


def test_a_pruned_weight_moves_nothing_and_is_not_counted_on():
    """A weight of 0 has no gradient in F: others do not make up by it."""
    w, gradients = jnp.array([[1.0], [0.0], [2.0]]), correlated(9, 3, 1)
    score = scores.obs(3, damp=DAMP)
    memory = fed(score, w, gradients)
    moved = score.compensate(w, jnp.array([[False], [True], [True]]), memory)
    f = fisher(gradients[:, [0, 2], 0])
    _, best = cost_of_removing(np.array([1.0, 2.0]), f, np.array([0]))
    assert moved[1, 0] == 0
    np.testing.assert_allclose(moved[2, 0], 2 + best[1], rtol=1e-4)


def rank_one(size):
    """Equal gradients: of 4 inputs F knows one direction."""
    return [np.ones((4, 2)) * np.array([[1.0], [2.0], [3.0], [4.0]]) * size] * 3


def test_a_block_is_damped_as_much_as_float32_needs():
    """F is of rank 1 and 1e17 times damp: it can be inverted all the same."""
    w, score = jnp.ones((4, 2)), scores.obs(4, damp=1e-7)
    memory = fed(score, w, rank_one(1e5))
    assert np.isfinite(scored(score, w, memory)).all()
    mask = jnp.array([[False, True], [True, False], [True, True], [True, True]])
    moved = np.where(mask, score.compensate(w, mask, memory), 0)
    for j in range(2):  # along the one direction nothing is lost
        np.testing.assert_allclose(moved[:, j] @ [1, 2, 3, 4], 10, rtol=1e-2)


def test_a_block_that_cannot_be_inverted_is_an_error_on_the_host():
    w, score = jnp.ones((4, 2)), scores.obs(4, damp=1e-7)
    with pytest.raises(ValueError, match=r"2 blocks .* of w are not positive definite.*raise damp"):
        scored(score, w, fed(score, w, rank_one(1e30)))


def test_and_its_diagonal_under_jit():
    """One block of two overflows; the other is as ever, and nothing moves in the first."""
    w = jnp.array([[1.0, 4.0], [2.0, 3.0], [3.0, 2.0], [4.0, 1.0]])
    score = scores.obs(4, damp=1e-7)
    gradients = [g * np.array([[1e30, 1.0]]) for g in correlated(9, 4, 2)]
    memory = fed(score, w, gradients)
    jitted = jax.jit(lambda w, m: score(w, path="w", pattern=jp.Unstructured(), memory=m))
    got = np.asarray(jitted(w, memory))
    assert not np.isnan(got).any()
    inverse = np.linalg.inv(fisher(np.array(gradients)[:, :, 1], 1e-7))
    np.testing.assert_allclose(got[:, 1], w[:, 1] ** 2 / (2 * np.diag(inverse)), rtol=1e-2)
    mask = w > 1
    moved = np.asarray(score.compensate(w, mask, memory))
    assert moved[1:, 0].tolist() == [2.0, 3.0, 4.0]
    assert np.all(moved[:3, 1] != w[:3, 1])


def test_numbers_out_of_range():
    for bad in ({"block": 0}, {"window": 0}, {"block": 1.5}, {"damp": 0.0}, {"damp": float("nan")}):
        name = next(iter(bad))
        with pytest.raises(ValueError, match=f"{name}="):
            scores.obs(**bad)


def test_bfloat16_and_empty_leaves():
    w = put(RNG.normal(size=(4, 2)), jnp.bfloat16)
    score = scores.obs(4, damp=DAMP)
    memory = fed(score, w, correlated(4, 4, 2))
    assert scored(score, w, memory).dtype == np.float64
    assert score.compensate(w, w > 0, memory).dtype == jnp.bfloat16
    empty = jnp.zeros((0, 3))
    assert score(
        empty, path="w", pattern=jp.Unstructured(), memory=score.memory.init(empty)
    ).shape == (0, 3)


def test_nm_and_one_call():
    rng = np.random.default_rng(7)
    params = {"kernel": put(rng.normal(size=(8, 4)), jnp.float32)}
    batches = [put(rng.normal(size=(16, 8)), jnp.float32)]

    def loss(params, x):
        return jnp.mean(jnp.square(x @ params["kernel"] - 1))

    pruned, masks = jp.prune_params(
        params, 0.5, score=scores.obs(8), pattern=jp.NM(2, 4), loss=loss, batches=batches,
        per_example=True,
    )  # fmt: skip
    assert np.asarray(masks["kernel"]).reshape(2, 4, 4).sum(1).tolist() == [[2] * 4] * 2
    assert np.array_equal(pruned["kernel"] != 0, masks["kernel"])
    masked = jp.apply_masks(params, masks)
    assert float(loss(pruned, batches[0])) < float(loss(masked, batches[0]))
    seen = oneshot.collect(params, loss, batches, score=scores.obs(8), per_example=True)
    again = jp.masks.make(params, 0.5, score=scores.obs(8), pattern=jp.NM(2, 4), memory=seen.memory)
    assert np.array_equal(again["kernel"], masks["kernel"])
