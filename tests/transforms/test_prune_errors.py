"""What is wrong is said at build, init or trace time: the argument, its value, the leaf."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from prune_cases import dyadic, make_grads, make_params, sgd

import jaxprune as jp

BAD_SPARSITIES = [
    (1, ValueError, "1"),
    (1.0, ValueError, "1.0"),
    (1.2, ValueError, "1.2"),
    (-0.1, ValueError, "-0.1"),
    (math.nan, ValueError, "nan"),
    (math.inf, ValueError, "inf"),
    (-math.inf, ValueError, "-inf"),
    (90, ValueError, "0.9"),
    (True, TypeError, "True"),
    (False, TypeError, "False"),
    (np.bool_(True), TypeError, "True"),
    ("90%", TypeError, "90%"),
    (None, TypeError, "None"),
    (np.array([0.5, 0.9]), TypeError, "0.5"),
    (jnp.array([0.5, 0.9]), TypeError, "0.5"),
    ([0.5], TypeError, "0.5"),
    (1j, TypeError, "1j"),
]
bad_sparsity = pytest.mark.parametrize(("value", "error", "shown"), BAD_SPARSITIES)


@bad_sparsity
def test_sparsity(value, error, shown):
    with pytest.raises(error, match=f"(?s)sparsity.*{re.escape(shown)}"):
        jp.prune(sgd(), sparsity=value)


@bad_sparsity
@pytest.mark.parametrize("curve", ["polynomial", "linear", "cosine", "exponential", "one_shot"])
def test_sparsity_of_a_schedule(curve, value, error, shown):
    span = {} if curve == "one_shot" else {"begin": 0, "end": 4}
    with pytest.raises(error, match=f"(?s)final.*{re.escape(shown)}"):
        getattr(jp, curve)(value, **span)


@pytest.mark.parametrize("name", ["min_sparsity", "max_sparsity"])
@pytest.mark.parametrize("value", [1.0, -0.1, math.nan, True, "x"])
def test_bounds(name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name}={re.escape(repr(value))}"):
        jp.prune(sgd(), sparsity=0.5, **{name: value})


def test_bounds_that_cross():
    with pytest.raises(ValueError, match=r"min_sparsity=0.9 exceeds max_sparsity=0.5"):
        jp.prune(sgd(), sparsity=0.5, min_sparsity=0.9, max_sparsity=0.5)


@pytest.mark.parametrize("make", [jp.polynomial, jp.linear, jp.cosine, jp.exponential])
def test_begin_after_end(make):
    with pytest.raises(ValueError, match="begin=9 comes after end=3"):
        make(0.5, begin=9, end=3)


def test_events_of_begin_after_end():
    with pytest.raises(ValueError, match="begin=9 comes after end=3"):
        jp.every(2, begin=9, end=3)


@pytest.mark.parametrize("n", [0, -1])
def test_every_none(n):
    with pytest.raises(ValueError, match=f"n={n} must be at least 1"):
        jp.every(n)


@pytest.mark.parametrize("n", [True, 1.5, "2", None])
def test_every_no_number(n):
    with pytest.raises(TypeError, match=f"n={re.escape(repr(n))}"):
        jp.every(n)


@pytest.mark.parametrize("value", [1.5, 1.0, -0.5, math.nan])
def test_a_schedule_out_of_range_at_an_event(value):
    with pytest.raises(ValueError, match=r"(?s)sparsity=.*for step 4"):
        jp.prune(sgd(), sparsity=lambda t: value if t >= 4 else 0.0, when=[0, 4])


def test_a_schedule_may_be_out_of_range_between_events():
    jp.prune(sgd(), sparsity=lambda t: {0: 0.1, 4: 0.5}.get(t, 9.0), when=[0, 4])


@pytest.mark.parametrize("curve", [optax.linear_schedule(0.0, 0.9, 10), lambda t: 0.5])
def test_a_foreign_schedule_needs_when(curve):
    with pytest.raises(ValueError, match="when=None"):
        jp.prune(sgd(), sparsity=curve)
    with pytest.raises(ValueError, match="when="):
        jp.prune(sgd(), sparsity=curve, when=jp.every(2))


@pytest.mark.parametrize(
    ("when", "error"),
    [
        (5, TypeError),
        ("every", TypeError),
        (lambda t: True, TypeError),
        ([], ValueError),
        ([-1, 5], ValueError),
        ([1.5, 5], TypeError),
        ([True, 5], TypeError),
    ],
)
def test_when(when, error):
    with pytest.raises(error, match="when"):
        jp.prune(sgd(), sparsity=jp.linear(0.5, begin=0, end=5), when=when)


def test_events_that_stop_short_of_the_target():
    with pytest.raises(ValueError, match=r"last event, step 4.*end=5"):
        jp.prune(sgd(), sparsity=jp.linear(0.5, begin=0, end=5), when=[0, 4])


@pytest.mark.parametrize("scope", ["layer", None, 3, "Global"])
def test_scope(scope):
    with pytest.raises((TypeError, ValueError), match=f"scope={re.escape(repr(scope))}"):
        jp.prune(sgd(), sparsity=0.5, scope=scope)


def test_a_scope_that_gives_no_label():
    with pytest.raises(TypeError, match=r"scope gave None for a/kernel"):
        jp.prune(sgd(), sparsity=0.5, scope=lambda path: None).init(make_params())


def test_rule_that_matches_nothing():
    tx = jp.prune(sgd(), sparsity=0.5, rules=[jp.Rule("a/kernle", sparsity=0.1)])
    with pytest.raises(ValueError, match=r"(?s)a/kernle.*a/kernel"):
        tx.init(make_params())


def test_rule_on_an_integer_leaf():
    params = {"kernel": dyadic(0, (4, 4)), "ids": jnp.ones((4, 4), jnp.int32)}
    tx = jp.prune(sgd(), sparsity=0.5, rules=[jp.Rule("ids", sparsity=0.1)])
    with pytest.raises(TypeError, match=r"(?s)ids.*int32"):
        tx.init(params)


@pytest.mark.parametrize("rules", [jp.Rule("a"), ["a"], [None]])
def test_rules_of_another_kind(rules):
    with pytest.raises(TypeError, match="rules"):
        jp.prune(sgd(), sparsity=0.5, rules=rules)


@pytest.mark.parametrize(
    "options",
    [{"path": 3}, {"path": "("}, {"path": "a", "dense": 1}, {"path": "a", "sparsity": 1.5}],
)
def test_rule(options):
    with pytest.raises((TypeError, ValueError), match="Rule"):
        jp.Rule(**options)


@pytest.mark.parametrize("params", [{}, [], None, {"a": None}])
def test_empty_tree(params):
    with pytest.raises(ValueError, match="params is an empty tree"):
        jp.prune(sgd(), sparsity=0.5).init(params)


def test_all_dense_tree():
    with pytest.raises(ValueError, match=r"nothing is prunable.*Dense_0/bias"):
        jp.prune(sgd(), sparsity=0.5).init({"Dense_0": {"bias": jnp.ones(3)}})


@pytest.mark.parametrize("chained", [False, True])
def test_update_needs_params(chained):
    params = make_params()
    tx = jp.prune(sgd(), sparsity=0.5)
    tx = optax.chain(sgd(), jp.prune(sparsity=0.5)) if chained else tx
    with pytest.raises(ValueError, match=r"params is None"):
        tx.update(make_grads(0, params), tx.init(params))


@pytest.mark.parametrize(("n", "m"), [(4, 2), (4, 4), (0, 4), (-1, 4)])
def test_n_of_m(n, m):
    with pytest.raises(ValueError, match=f"n={n}, m={m}"):
        jp.NM(n, m)


@pytest.mark.parametrize("n", [1.0, True, "2", None])
def test_n_of_m_no_number(n):
    with pytest.raises(TypeError, match=f"n={re.escape(repr(n))}"):
        jp.NM(n, 4)


def test_axis_not_divisible():
    params = {"x": {"kernel": dyadic(0, (6, 4))}}
    with pytest.raises(ValueError, match=r"NM.*x/kernel.*\(6, 4\)"):
        jp.prune(sgd(), sparsity=0.5, pattern=jp.NM(2, 4)).init(params)


@pytest.mark.parametrize(
    "pattern", [jp.Block((2, 2), axes=(-3, -1)), jp.Channel(4), jp.NM(2, 4, axis=5)]
)
def test_axis_that_a_leaf_lacks(pattern):
    with pytest.raises(ValueError, match=r"a/kernel.*axis"):
        jp.prune(sgd(), sparsity=0.5, pattern=pattern).init(make_params())


@pytest.mark.parametrize("pattern", [jp.NM, (2, 4), "2:4", None])
def test_no_pattern(pattern):
    with pytest.raises(TypeError, match="pattern"):
        jp.prune(sgd(), sparsity=0.5, pattern=pattern)


@pytest.mark.parametrize("sparsity", [0.25, 0.0, 0.49])
def test_a_target_that_stops_short_of_the_pattern(sparsity):
    tx = jp.prune(
        sgd(), sparsity=jp.linear(sparsity, begin=0, end=4), pattern=jp.NM(2, 4), when=jp.every(2)
    )
    with pytest.raises(ValueError, match=rf"sparsity={sparsity:g}.*a/kernel.*at least 0.5"):
        tx.init(make_params())


@pytest.mark.parametrize("inner", [0.1, "adam", optax.adam, sgd])
def test_inner_must_be_a_transform(inner):
    with pytest.raises(TypeError, match="inner="):
        jp.prune(inner, sparsity=0.5)


def test_gradients_behind_an_optimizer():
    score = jp.scores.Criterion(lambda w, grad: jnp.abs(w * grad), needs=("grad",))
    with pytest.raises(ValueError, match=r"prune\(optimizer"):
        jp.prune(sparsity=0.5, score=score)
    with pytest.raises(ValueError, match=r"prune\(optimizer"):
        jp.prune(sparsity=0.5, rules=[jp.Rule("a/.*", score=score)])
    jp.prune(sgd(), sparsity=0.5, score=score)


@pytest.mark.parametrize("score", [None, "magnitude", 1.0])
def test_no_score(score):
    with pytest.raises(TypeError, match=f"score={re.escape(repr(score))}"):
        jp.prune(sgd(), sparsity=0.5, score=score)


@pytest.mark.parametrize(
    "score", [jnp.sum, lambda w: w.ravel(), lambda w: 1.0], ids=["scalar", "flat", "float"]
)
def test_scores_of_another_shape(score):
    params = make_params()
    tx = jp.prune(sgd(), sparsity=0.5, score=score)
    with pytest.raises(ValueError, match=r"shape.*a/kernel.*\(16, 8\)"):
        tx.update(make_grads(0, params), tx.init(params), params)


@pytest.mark.parametrize("key", [0, None, "seed"])
def test_random_needs_a_key(key):
    with pytest.raises(TypeError, match=f"key={re.escape(repr(key))}"):
        jp.scores.random(key)


def test_traced_begin():
    @jax.jit
    def build(begin):
        jp.polynomial(0.5, begin=begin, end=10)

    with pytest.raises(TypeError, match="begin is traced"):
        build(3)


def test_traced_n():
    with pytest.raises(TypeError, match="n is traced"):
        jax.jit(lambda n: jp.every(n) and None)(3)


def test_traced_sparsity_of_two_numbers():
    with pytest.raises(TypeError, match=r"sparsity.*\(2,\)"):
        jax.jit(lambda s: jp.prune(sgd(), sparsity=s) and None)(jnp.ones(2) / 2)


def test_traced_sparsity_with_an_allocation_on_the_host():
    params = make_params()

    @jax.jit
    def run(sparsity):
        tx = jp.prune(sgd(), sparsity=sparsity, allocate=jp.allocate.erdos_renyi)
        return tx.update(make_grads(0, params), tx.init(params), params)

    with pytest.raises(TypeError, match=r"sparsity is traced.*erdos_renyi"):
        run(0.5)


def test_bounds_below_the_target():
    tx = jp.prune(sgd(), sparsity=0.9, scope="global", max_sparsity=0.5)
    with pytest.raises(ValueError, match=r"sparsity=0.9.*max_sparsity"):
        tx.init(make_params())


def test_bounds_below_the_target_of_an_allocation():
    tx = jp.prune(sgd(), sparsity=0.9, allocate=jp.allocate.erdos_renyi, max_sparsity=0.5)
    with pytest.raises(ValueError, match=r"sparsity=0.9"):
        tx.init(make_params())


def test_a_typo_in_an_allocation():
    tx = jp.prune(sgd(), sparsity=0.5, allocate={"a/kernle": 0.9})
    with pytest.raises(ValueError, match=r"(?s)a/kernle.*a/kernel"):
        tx.init(make_params())


@pytest.mark.parametrize("value", [1.2, math.nan, True, "x"])
def test_a_bad_number_in_an_allocation(value):
    with pytest.raises((TypeError, ValueError), match=r"sparsity=.*a/kernel"):
        jp.prune(sgd(), sparsity=0.5, allocate={"a/kernel": value})


@pytest.mark.parametrize("allocate", ["erk", 0.5, ["a"]])
def test_no_allocation(allocate):
    with pytest.raises(TypeError, match="allocate="):
        jp.prune(sgd(), sparsity=0.5, allocate=allocate)


def test_allocation_of_a_ranking():
    with pytest.raises(ValueError, match="allocate"):
        jp.prune(sgd(), sparsity=0.5, scope="global", allocate=jp.allocate.erdos_renyi)


def test_patterns_that_do_not_compare():
    rules = [jp.Rule("b/.*", pattern=jp.Channel())]
    tx = jp.prune(sgd(), sparsity=0.5, scope="global", rules=rules)
    with pytest.raises(ValueError, match=r"a/kernel.*b/kernel.*patterns"):
        tx.init(make_params())


def test_params_of_another_tree_at_update():
    """A state of one tree and params of another do not train on in silence."""
    tx = jp.prune(sgd(), sparsity=0.5)
    state = tx.init(make_params())
    params = {"c": {"kernel": dyadic(0, (16, 8))}}
    with pytest.raises((ValueError, KeyError)):
        tx.update(make_grads(0, params), state, params)
