"""keep: training with masks that stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import put
from prune_cases import (
    STEPS,
    adam,
    advance,
    assert_same,
    assert_zeros,
    dyadic,
    make_grads,
    make_params,
    reference,
    sgd,
    train,
)

import jaxprune as jp


def masks_of_three_quarters():
    return jp.masks.make(make_params(), 0.75)


def test_masks_never_change():
    for moment in reference("keep"):
        assert_same(jp.get_masks(moment.state), masks_of_three_quarters())


def test_unpruned_params_are_masked_by_the_first_update():
    moment = reference("keep")[0]
    assert_zeros(moment.params, masks_of_three_quarters())


def test_active_weights_train_as_in_a_masked_dense_run():
    """Plain SGD of masked gradients from masked params, written out."""
    masks = masks_of_three_quarters()
    params = jp.apply_masks(make_params(), masks)
    got = train(jp.keep(optax.sgd(0.125), masks), params)[-1].params
    for step in range(STEPS):
        grads = jp.apply_masks(make_grads(step, params), masks)
        params = jax.tree.map(lambda w, g: w - 0.125 * g, params, grads)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_bad_gradients_of_pruned_weights_do_no_harm(poison):
    masks, params = masks_of_three_quarters(), make_params()
    tx = jp.keep(adam(), masks)
    grads = make_grads(0, params)
    bad = jax.tree.map(
        lambda g, m: g if m is None else jnp.where(m, g, poison),
        grads,
        masks,
        is_leaf=lambda x: x is None,
    )
    state = tx.init(params)
    assert_same(advance(tx, 0, params, state, bad), advance(tx, 0, params, state, grads))


def test_chained_last():
    masks, params = masks_of_three_quarters(), make_params()
    tx = optax.chain(adam(), jp.keep(None, masks))
    moment = train(tx, params)[-1]
    assert_zeros(moment.params, masks)
    assert_same(jp.get_masks(moment.state), masks)


def test_fine_tuning_a_pruned_checkpoint():
    pruned, masks = jp.prune_params(make_params(), 0.75)
    tx = jp.keep(adam(), jp.masks.from_zeros(pruned))
    last = train(tx, pruned, 3)[-1]
    assert_zeros(last.params, masks)
    assert_same(jp.get_masks(last.state), masks)


def test_numpy_masks():
    masks = jax.tree.map(np.asarray, masks_of_three_quarters())
    tx = jp.keep(adam(), masks)
    assert_zeros(train(tx, make_params(), 1)[-1].params, masks)


def test_donating_the_state_leaves_the_masks_alone():
    masks, params = masks_of_three_quarters(), make_params()
    tx = jp.keep(sgd(), masks)
    step = jax.jit(lambda p, s: advance(tx, 0, p, s), donate_argnums=(0, 1))
    step(jp.apply_masks(params, masks), tx.init(params))
    assert int(masks["a"]["kernel"].sum()) == 32
    assert int(jp.get_masks(tx.init(make_params()))["a"]["kernel"].sum()) == 32


@pytest.mark.parametrize("shape", [(8, 3), (7, 5), (16, 8), (2, 8, 3), (6,), (1, 1), (0, 4)])
def test_any_shape(shape):
    """Also shapes whose rows do not come in eights."""
    params = {"kernel": dyadic(0, shape)}
    mask = put(np.random.default_rng(1).random(shape) < 0.5)
    moment = train(jp.keep(sgd(), {"kernel": mask}), params, 2)[-1]
    np.testing.assert_array_equal(jp.get_masks(moment.state)["kernel"], mask)
    assert_zeros(moment.params, {"kernel": mask})


KERNEL = {"kernel": np.ones((4, 4), np.float32)}


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        ({"kernel": np.ones((4, 3), bool)}, ValueError, r"kernel has shape \(4, 3\)"),
        ({"kernel": np.ones((4,), bool)}, ValueError, r"kernel has shape \(4,\)"),
        ({"kernel": np.ones((4, 4), np.float32)}, TypeError, "kernel is float32"),
        ({"kernel": np.ones((4, 4), np.uint8)}, TypeError, "kernel is uint8"),
        ({"kernel": True}, TypeError, "kernel is True"),
        ({"other": np.ones((4, 4), bool)}, ValueError, "other"),
        ([np.ones((4, 4), bool)], ValueError, "structure"),
        ({"kernel": np.ones((4, 4), bool), "b": np.ones(2, bool)}, ValueError, "'b'"),
    ],
)
def test_masks_that_do_not_fit(masks, error, message):
    with pytest.raises(error, match=message):
        jp.keep(sgd(), masks).init(KERNEL)


@pytest.mark.parametrize("masks", [None, {}, {"kernel": None}])
def test_nothing_to_keep(masks):
    with pytest.raises(ValueError, match="masks"):
        jp.keep(sgd(), masks)


@pytest.mark.parametrize("inner", [0.1, "adam", optax.adam, lambda g: g])
def test_inner_must_be_a_transform(inner):
    with pytest.raises(TypeError, match="inner="):
        jp.keep(inner, {"kernel": np.ones((4, 4), bool)})


def test_update_needs_params():
    params = make_params()
    tx = jp.keep(sgd(), masks_of_three_quarters())
    with pytest.raises(ValueError, match="params"):
        tx.update(make_grads(0, params), tx.init(params))
