"""Masks are found in any state that holds them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from prune_cases import COURSE, adam, assert_same, dyadic, make_params, sgd

import jaxprune as jp

WRAPPERS = {
    "alone": lambda tx: tx,
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "chain in chain": lambda tx: optax.chain(optax.chain(optax.clip(1.0), optax.chain(tx))),
    "named chain": lambda tx: optax.named_chain(("clip", optax.clip(1.0)), ("prune", tx)),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2).gradient_transformation(),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "injected": lambda tx: optax.inject_hyperparams(lambda lr: optax.chain(tx, optax.scale(lr)))(
        lr=1.0
    ),
    "masked": lambda tx: optax.masked(tx, True),
    "partition": lambda tx: optax.partition({"all": tx}, "all"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("kind", ["prune", "keep"])
def test_found_in(wrapper, kind):
    params = make_params()
    masks = jp.masks.make(params, 0.75)
    inner = jp.keep(adam(), masks) if kind == "keep" else jp.prune(adam(), **COURSE)
    state = WRAPPERS[wrapper](inner).init(params)
    found = jp.get_masks(state)
    expected = masks if kind == "keep" else jp.masks.make(params, 0.0)
    assert_same(found, expected)
    for mask in jax.tree.leaves(found):
        assert mask.dtype == jnp.bool_
    if kind == "prune":
        assert jp.masks_changed(state).dtype == jnp.bool_
        assert not jp.masks_changed(state)


def test_found_in_an_object_with_opt_state():
    class Holder:
        opt_state = jp.prune(adam(), **COURSE).init(make_params())

    assert_same(jp.get_masks(Holder()), jp.masks.make(make_params(), 0.0))


def test_found_inside_jit():
    params = make_params()
    state = jp.prune(sgd(), **COURSE).init(params)
    total = jax.jit(lambda s: sum(m.sum() for m in jax.tree.leaves(jp.get_masks(s))))(state)
    assert total == 224


def test_masks_of_several_transforms_are_merged():
    params = {"a": {"kernel": dyadic(0, (4, 4))}, "b": {"kernel": dyadic(1, (4, 4))}}
    one, two = (
        {k: {"kernel": jnp.eye(4, dtype=bool) if k == name else None} for k in params}
        for name in params
    )
    state = jp.keep(jp.keep(sgd(), one), two).init(params)
    masks = jp.get_masks(state)
    np.testing.assert_array_equal(masks["a"]["kernel"], np.eye(4, dtype=bool))
    np.testing.assert_array_equal(masks["b"]["kernel"], np.eye(4, dtype=bool))


def test_two_masks_of_one_leaf_are_an_error():
    params = {"kernel": dyadic(0, (4, 4))}
    masks = {"kernel": jnp.eye(4, dtype=bool)}
    state = jp.keep(jp.keep(sgd(), masks), masks).init(params)
    with pytest.raises(ValueError, match=r"kernel has masks of several"):
        jp.get_masks(state)


@pytest.mark.parametrize("state", [(), {}, None, optax.EmptyState()])
def test_no_masks(state):
    with pytest.raises(ValueError, match="holds no masks"):
        jp.get_masks(state)
    with pytest.raises(ValueError, match=r"no state of jaxprune.prune"):
        jp.masks_changed(state)


def test_masks_that_are_kept_never_change():
    params = {"kernel": dyadic(0, (4, 4))}
    state = jp.keep(sgd(), jp.masks.make(params, 0.5)).init(params)
    with pytest.raises(ValueError, match=r"no state of jaxprune.prune"):
        jp.masks_changed(state)
