"""Criteria: what they say about one leaf, and what `make` hands them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import Channel, Rule, masks, scores

W = np.array([[1.0, -4.0], [3.0, -2.0]], np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_magnitude(dtype):
    w = jnp.array([[1.0, -2.0], [-0.0, jnp.inf]], dtype)
    for call in (scores.magnitude, jax.jit(scores.magnitude)):
        score = call(w)
        assert score.dtype == w.dtype
        np.testing.assert_array_equal(score.astype(float), [[1, 2], [0, np.inf]])
    assert np.isnan(scores.magnitude(jnp.array(jnp.nan)))


def test_magnitude_keeps_infinity_and_drops_nan():
    w = np.array([[np.inf, 1.0], [np.nan, -np.inf]], np.float32)
    assert masks.make({"w": w}, 0.25)["w"].tolist() == [[True, True], [False, True]]
    assert masks.make({"w": w}, 0.5)["w"].tolist() == [[True, False], [False, True]]


# --- random -------------------------------------------------------------------------------------

MAKE = jax.jit(lambda key, params, s: masks.make(params, s, score=scores.random(key)))
PARAMS = {"a": np.ones((8, 16), np.float32), "c": np.ones((8, 16), np.float32)}


def test_a_key_is_a_mask():
    first = MAKE(jax.random.key(0), PARAMS, 0.5)
    same = MAKE(jax.random.key(0), PARAMS, 0.5)
    other = MAKE(jax.random.key(1), PARAMS, 0.5)
    np.testing.assert_array_equal(first["a"], same["a"])
    assert masks.density(first) == masks.density(other) == 0.5
    assert masks.overlap(first, other) < 0.5  # 1/3 is expected


def test_leaves_have_streams_of_their_own_and_weights_do_not_matter():
    made = MAKE(jax.random.key(0), PARAMS, 0.5)
    assert masks.overlap([made["a"]], [made["c"]]) < 0.5
    others = {name: np.zeros_like(w) for name, w in PARAMS.items()}
    np.testing.assert_array_equal(MAKE(jax.random.key(0), others, 0.5)["a"], made["a"])


def test_a_leaf_keeps_its_stream_when_others_come_and_go():
    score = scores.random(jax.random.key(0))
    both = score(jnp.ones((3, 4)), path="a/kernel", grad=None)
    np.testing.assert_array_equal(score(jnp.zeros((3, 4)), path="a/kernel", grad=None), both)
    assert (score(jnp.ones((3, 4)), path="b/kernel", grad=None) != both).any()
    assert both.dtype == jnp.float32
    assert (both >= 0).all()
    assert (both < 1).all()


def test_more_sparsity_prunes_more_of_the_same_order():
    made = [np.asarray(MAKE(jax.random.key(0), PARAMS, s)["a"]) for s in (0.25, 0.5, 0.75)]
    assert (made[0] | ~made[1]).all()
    assert (made[1] | ~made[2]).all()


def test_members_of_a_vmap_differ():
    """JaxPruner's fixed default key gives every member the same random mask."""
    keys = jax.random.split(jax.random.key(0), 3)
    one = {"a": PARAMS["a"]}
    made = jax.vmap(lambda key: MAKE(key, one, 0.5)["a"])(keys)
    np.testing.assert_array_equal(made[2], MAKE(keys[2], PARAMS, 0.5)["a"])
    assert (made[0] != made[1]).any()
    assert made.sum((1, 2)).tolist() == [64] * 3


def test_raw_keys_will_do():
    score = scores.random(jax.random.PRNGKey(0))
    typed = scores.random(jax.random.key(0))
    w = jnp.ones((3, 4))
    np.testing.assert_array_equal(score(w, path="w"), typed(w, path="w"))


def test_there_is_no_default_key():
    with pytest.raises(TypeError, match="key"):
        scores.random()
    for seed in (0, None):
        with pytest.raises(TypeError, match=f"key={seed} is not a PRNG key; pass jax.random.key"):
            scores.random(seed)


# --- functions as criteria ----------------------------------------------------------------------


def test_a_criterion_gets_what_it_needs():
    seen = scores.Criterion(lambda w, *, path, grad: (w, path, grad), needs=("grad", "path"))
    assert seen(1, path="a", grad=2, curvature=3) == (1, "a", 2)
    assert scores.Criterion(lambda w: w)(1, path="a", grad=2) == 1


def test_a_criterion_needs_what_there_is():
    with pytest.raises(ValueError, match="needs 'hessian', which nobody gives it; needs may hold"):
        scores.Criterion(lambda w, *, hessian: w, needs=("hessian",))
    with pytest.raises(TypeError, match="needs='grad' must be a tuple"):
        scores.Criterion(lambda w, *, grad: w, needs="grad")
    for options in ({"needs": ("memory",)}, {"compensate": lambda w, mask, memory: w}):
        with pytest.raises(ValueError, match=r"memory=None; give scores\.Memory"):
            scores.Criterion(lambda w, **_: w, **options)


def test_a_criterion_gets_params_and_pattern():
    """Of the whole tree, dense leaves too, and of the rule for its leaf."""
    seen = {}

    def score(w, path, params, pattern):
        seen[path] = (sorted(params), str(pattern))
        return jnp.abs(w)

    criterion = scores.Criterion(score, needs=("path", "params", "pattern"))
    tree = {"a": {"kernel": W, "bias": W[0]}, "b": {"kernel": W}}
    rules = [Rule("b/.*", pattern=Channel())]
    masks.make(tree, 0.5, score=criterion, rules=rules)
    paths = ["a/bias", "a/kernel", "b/kernel"]
    assert seen == {"a/kernel": (paths, "unstructured"), "b/kernel": (paths, "channel axis -1")}


def test_as_criterion():
    assert scores.as_criterion(scores.magnitude) is scores.magnitude
    plain = scores.as_criterion(jnp.square)
    assert plain == scores.Criterion(jnp.square)
    assert plain.needs == ()
    assert not plain.elementwise
    with pytest.raises(TypeError, match="score=3 is not a function"):
        scores.as_criterion(3)


def test_plain_and_elementwise_functions_give_the_same():
    lowest = masks.make({"w": W}, 0.5, score=jnp.negative)
    again = masks.make({"w": W}, 0.5, score=scores.Criterion(jnp.negative, elementwise=True))
    np.testing.assert_array_equal(lowest["w"], [[False, True], [False, True]])
    np.testing.assert_array_equal(again["w"], lowest["w"])


def test_scores_of_another_dtype_than_the_leaf():
    made = masks.make({"w": W.astype(jnp.bfloat16)}, 0.5, score=lambda w: w.astype(jnp.float16))
    np.testing.assert_array_equal(made["w"], [[True, False], [True, False]])


def test_equal_keys_make_equal_criteria():
    one, same = scores.random(jax.random.key(0)), scores.random(jax.random.key(0))
    assert one == same
    assert hash(one) == hash(same)
    assert one != scores.random(jax.random.key(1))


def test_a_criterion_is_not_remembered_beyond_what_it_closes_over():
    sign = [1.0]
    w = {"w": np.array([[1.0, 4.0], [3.0, 2.0]], np.float32)}

    def score(x):
        return sign[0] * x

    assert masks.make(w, 0.5, score=score)["w"].tolist() == [[False, True], [True, False]]
    sign[0] = -1.0
    assert masks.make(w, 0.5, score=score)["w"].tolist() == [[True, False], [False, True]]


class Unhashable:
    """Scores that compare by value and have no hash."""

    __hash__ = None

    def __call__(self, w):
        return w


@pytest.mark.parametrize(
    "score", [Unhashable(), scores.Criterion(Unhashable())], ids=["function", "criterion"]
)
def test_a_criterion_is_hashable(score):
    with pytest.raises(TypeError, match="cannot be hashed"):
        masks.make({"w": W}, 0.5, score=score)


def test_raw_keys_and_other_generators():
    raw, typed = scores.random(jax.random.PRNGKey(0)), scores.random(jax.random.key(0))
    assert raw == scores.random(jax.random.PRNGKey(0))
    assert hash(raw) == hash(scores.random(jax.random.PRNGKey(0)))
    assert raw != typed
    assert typed != scores.random(jax.random.key(0, impl="rbg"))
    assert typed != scores.magnitude


def test_equal_criteria_in_a_program_that_is_traced():
    one, same = scores.random(jax.random.key(0)), scores.random(jax.random.key(0))
    equal = jax.jit(lambda x: x * (one == same and hash(one) == hash(same)))
    assert equal(3) == 3
