"""Gradients over batches, streamed, and what pruning makes of them in one call or in rounds."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import put
from flax import nnx

import jaxprune as jp
from jaxprune import oneshot, scores

RNG = np.random.default_rng(0)
PARAMS = {
    "a": {"kernel": put(RNG.normal(size=(6, 8)), jnp.float32), "bias": jnp.zeros(8)},
    "b": {"kernel": put(RNG.normal(size=(8, 4)), jnp.float32)},
}
BATCHES = [put(RNG.normal(size=(n, 6)), jnp.float32) for n in (4, 4, 6)]


def loss(params, x):
    hidden = jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None])
    return jnp.mean(jnp.square(hidden @ params["b"]["kernel"] - 1))


def test_the_mean_over_batches_whatever_their_length():
    seen = oneshot.collect(PARAMS, loss, BATCHES, score=scores.saliency)
    each = [jax.grad(loss)(PARAMS, x) for x in BATCHES]
    expected = jax.tree.map(lambda *g: sum(g) / 3, *each)
    assert seen.grads["a"]["bias"] is None
    assert jax.tree.leaves(seen.memory) == []
    for name in "ab":
        np.testing.assert_allclose(
            seen.grads[name]["kernel"], expected[name]["kernel"], rtol=1e-5, atol=1e-7
        )


def test_examples_are_the_batches_of_one():
    one_by_one = [x[i : i + 1] for x in BATCHES for i in range(len(x))]
    examples = oneshot.collect(PARAMS, loss, BATCHES, score=scores.obd(), per_example=True)
    batches = oneshot.collect(PARAMS, loss, one_by_one, score=scores.obd())
    for x, y in zip(jax.tree.leaves(examples.memory), jax.tree.leaves(batches.memory), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-9)


def test_one_pass_over_an_iterator_will_do():
    seen = oneshot.collect(PARAMS, loss, iter(BATCHES), score=scores.snip)
    again = oneshot.collect(PARAMS, loss, BATCHES, score=scores.snip)
    np.testing.assert_array_equal(seen.memory["b"]["kernel"], again.memory["b"]["kernel"])
    with pytest.raises(TypeError, match="rounds=3 read the batches again"):
        jp.prune_params(PARAMS, 0.5, score=scores.snip, loss=loss, batches=iter(BATCHES), rounds=3)
    with pytest.raises(TypeError, match="reads the batches twice"):
        oneshot.collect(PARAMS, loss, iter(BATCHES), score=scores.grasp)


def test_rules_decide_which_leaves_remember_what():
    rules = [jp.Rule("a/.*", score=scores.obd()), jp.Rule("b/.*", score=scores.grasp)]
    seen = oneshot.collect(PARAMS, loss, BATCHES, rules=rules)
    assert seen.memory["b"]["kernel"] is None
    assert int(seen.memory["a"]["kernel"].number) == 3
    assert seen.grads["a"]["kernel"] is None
    assert seen.grads["b"]["kernel"].shape == (8, 4)


def test_a_criterion_with_a_probe_and_a_memory():
    """Here what is remembered is what the probe gave."""
    score = scores.Criterion(
        lambda w, memory: memory,
        needs=("memory",),
        memory=scores.snip.memory,
        probe=scores.exact_diagonal,
    )
    seen = oneshot.collect(PARAMS, loss, BATCHES, score=score)
    alone = oneshot.collect(PARAMS, loss, BATCHES, score=scores.obd(scores.exact_diagonal))
    np.testing.assert_allclose(
        seen.memory["b"]["kernel"], 3 * alone.grads["b"]["kernel"], rtol=1e-4, atol=1e-6
    )


def test_integer_leaves_are_not_differentiated_by():
    params = PARAMS | {"step": jnp.int32(3)}
    seen = oneshot.collect(params, loss, BATCHES, score=scores.grasp)
    assert seen.grads["step"] is None


def test_collecting_compiles_once_per_shape_of_a_batch():
    traces = []

    def counted(params, x):
        traces.append(x.shape)
        return loss(params, x)

    oneshot.collect(PARAMS, counted, BATCHES[:2] * 5, score=scores.saliency)
    assert len(traces) <= 3  # the check of the loss, and the program


def prune(score, **options):
    return jp.prune_params(PARAMS, 0.75, score=score, loss=loss, batches=BATCHES, **options)


ALL = {
    "magnitude": scores.magnitude,
    "saliency": scores.saliency,
    "snip": scores.snip,
    "accumulated": scores.accumulated_saliency(),
    "movement": scores.movement,
    "soft movement": scores.soft_movement(),
    "grasp": scores.grasp,
    "obd": scores.obd(),
    "hutchinson": scores.obd(scores.hutchinson(jax.random.key(0))),
    "obs": scores.obs(4),
    "lamp": scores.lamp,
    "normalized": scores.normalized(scores.obd()),
}


@pytest.mark.parametrize("scope", ["leaf", "global"])
@pytest.mark.parametrize("name", ALL)
def test_one_argument_changes_the_criterion(name, scope):
    pruned, masks = prune(ALL[name], scope=scope)
    assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == 20
    for leaf in "ab":
        assert np.array_equal(pruned[leaf]["kernel"] != 0, masks[leaf]["kernel"])
    if name not in ("obs",):
        for x, y in zip(
            jax.tree.leaves(jp.apply_masks(PARAMS, masks)), jax.tree.leaves(pruned), strict=True
        ):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["magnitude", "grasp", "obs", "obd"])
def test_rounds_only_prune_more(name):
    """Also where scores may be negative, below the 0 of what is pruned already."""
    kept = []
    for rounds in (1, 2, 3):
        _, masks = prune(ALL[name], scope="global", rounds=rounds)
        kept.append(masks)
        assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == 20
    # The first of two rounds is one round to half the density.
    _, first = jp.prune_params(
        PARAMS, 0.5, score=ALL[name], scope="global", loss=loss, batches=BATCHES
    )
    for early, late in zip(jax.tree.leaves(first), jax.tree.leaves(kept[1]), strict=True):
        assert not np.any(np.asarray(late) & ~np.asarray(early))


def test_rounds_with_bounds_and_patterns():
    _, masks = prune(scores.saliency, scope="global", rounds=3, min_sparsity=0.7, max_sparsity=0.8)
    assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == 20
    _, masks = jp.prune_params(
        PARAMS,
        0.5,
        score=scores.obd(),
        pattern=jp.NM(2, 4, axis=-1),
        rounds=4,
        loss=loss,
        batches=BATCHES,
    )
    assert np.asarray(masks["b"]["kernel"]).sum(1).tolist() == [2] * 8


def test_a_pruned_weight_stays_pruned_under_vmap_of_a_sweep():
    def kept(s):
        _, masks = jp.prune_params(PARAMS, s, score=jnp.negative, rounds=2, scope="global")
        return sum(m.sum() for m in jax.tree.leaves(masks))

    assert jax.jit(jax.vmap(kept))(jnp.array([0.25, 0.5])).tolist() == [60, 40]


# --- other trees ----------------------------------------------------------------------------------


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(nn.relu(nn.Dense(8)(x)))


def test_linen_nnx_and_equinox():
    linen = Linen().init(jax.random.key(0), BATCHES[0])
    apply = lambda p, x: jnp.mean(jnp.square(Linen().apply(p, x) - 1))  # noqa: E731
    graph, state = nnx.split(nnx.Linear(6, 4, rngs=nnx.Rngs(0)))
    arrays, rest = eqx.partition(eqx.nn.MLP(6, 4, 8, 1, key=jax.random.key(0)), eqx.is_array)
    cases = {
        "linen": (linen, apply),
        "nnx": (state, lambda s, x: jnp.mean(jnp.square(nnx.merge(graph, s)(x) - 1))),
        "equinox": (
            arrays,
            lambda m, x: jnp.mean(jnp.square(jax.vmap(eqx.combine(m, rest))(x) - 1)),
        ),
    }
    for params, value in cases.values():
        for score in (scores.obs(4), scores.grasp):
            pruned, masks = jp.prune_params(params, 0.5, score=score, loss=value, batches=BATCHES)
            assert jp.masks.density(masks) == 0.5
            assert jax.tree.structure(pruned) == jax.tree.structure(params)


def test_a_module_with_functions_for_leaves():
    """A whole Equinox module, its activation function among the leaves."""
    module = eqx.nn.MLP(6, 4, 8, 1, key=jax.random.key(0))
    value = lambda m, x: jnp.mean(jnp.square(jax.vmap(m)(x) - 1))  # noqa: E731
    for score in (scores.saliency, scores.obs(4, output_axis=0), scores.obd(scores.exact_diagonal)):
        pruned, masks = jp.prune_params(
            module, 0.5, score=score, loss=value, batches=BATCHES, rounds=2
        )
        assert jp.masks.density(masks) == 0.5
        assert pruned.activation is module.activation


def test_means_of_low_precision_gradients_are_float32():
    """In bfloat16 the mean gradient of the last weight would tie with all others."""
    params = {"kernel": jnp.ones((2, 4), jnp.bfloat16)}
    more = np.zeros((2, 4), np.float32)
    more[1, 3] = 0.01
    batches = [jnp.ones((2, 4))] * 7 + [jnp.ones((2, 4)) + put(more)]
    linear = lambda p, x: jnp.sum(p["kernel"].astype(jnp.float32) * x)  # noqa: E731
    seen = oneshot.collect(params, linear, batches, score=scores.saliency)
    assert seen.grads["kernel"].dtype == jnp.float32
    _, masks = jp.prune_params(params, 0.875, score=scores.saliency, loss=linear, batches=batches)
    assert bool(masks["kernel"][1, 3])


def test_a_memory_that_begins_as_the_leaf():
    """Distance from where training began: the state must not share a buffer with the params."""
    start = scores.Memory(init=lambda w: w, update=lambda memory, w, grad: memory)
    score = scores.Criterion(lambda w, memory: jnp.abs(w - memory), needs=("memory",), memory=start)
    jp.prune_params(PARAMS, 0.5, score=score, loss=loss, batches=BATCHES)
    tx = jp.prune(optax.sgd(0.1), sparsity=0.5, score=score)
    params = jax.tree.map(jnp.copy, PARAMS)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        return optax.apply_updates(params, updates), state

    step(params, tx.init(params))


# --- errors ---------------------------------------------------------------------------------------


def test_no_data():
    with pytest.raises(ValueError, match="batches is empty"):
        oneshot.collect(PARAMS, loss, [], score=scores.saliency)
    with pytest.raises(ValueError, match="loss is given without data"):
        jp.prune_params(PARAMS, 0.5, score=scores.obd(), loss=loss)
    with pytest.raises(ValueError, match="batches is given without a loss"):
        jp.prune_params(PARAMS, 0.5, batches=BATCHES)


def test_losses_that_are_none():
    with pytest.raises(TypeError, match="loss=3 is no function"):
        oneshot.collect(PARAMS, 3, BATCHES, score=scores.saliency)
    with pytest.raises(TypeError, match=r"gave \(4, 6\), not a scalar"):
        oneshot.collect(PARAMS, lambda params, x: x, BATCHES, score=scores.saliency)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["saliency", "obs", "hutchinson"])
def test_a_batch_whose_gradient_is_not_finite(name, value):
    batches = [BATCHES[0], BATCHES[1].at[2, 3].set(value), BATCHES[2]]
    with pytest.raises(ValueError, match="gradient of batch 1 has NaN or infinite"):
        jp.prune_params(PARAMS, 0.5, score=ALL[name], loss=loss, batches=batches)


def test_what_is_given_twice_or_not_at_all():
    grads = jax.grad(loss)(PARAMS, BATCHES[0])
    with pytest.raises(ValueError, match="grads and loss are both given"):
        prune(scores.saliency, grads=grads)
    with pytest.raises(ValueError, match="rounds=2, and each needs gradients of its own"):
        jp.prune_params(PARAMS, 0.5, score=scores.saliency, grads=grads, rounds=2)
    for rounds in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"rounds={rounds}"):
            jp.prune_params(PARAMS, 0.5, rounds=rounds)
    with pytest.raises(ValueError, match="needs gradients; pass"):
        jp.prune_params(PARAMS, 0.5, score=scores.saliency)


def test_examples_lie_along_one_axis():
    for other, shapes in ((jnp.ones(3), r"\(3,\)"), (jnp.float32(1), r"\(\)")):
        with pytest.raises(ValueError, match=rf"shapes \[\(4, 6\), {shapes}\]; examples lie along"):
            oneshot.collect(
                PARAMS,
                lambda p, b: loss(p, b[0]),
                [(BATCHES[0], other)],
                score=scores.obd(),
                per_example=True,
            )
    with pytest.raises(ValueError, match="one or more"):
        oneshot.collect(PARAMS, loss, [BATCHES[0][:0]], score=scores.obd(), per_example=True)


def test_a_bar(capfd):
    oneshot.collect(PARAMS, loss, BATCHES, score=scores.saliency, progress=True)
    assert "3/3" in capfd.readouterr().err
