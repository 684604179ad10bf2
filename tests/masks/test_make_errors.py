"""What `masks.make` says when it cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import (
    NM,
    Block,
    Rule,
    allocate,
    keep,
    masks,
    plan,
    prune,
    prune_params,
    scores,
    summary,
)

W = np.arange(32, dtype=np.float32).reshape(8, 4)
PARAMS = {"enc": {"kernel": W, "bias": np.zeros(4, np.float32)}, "step": np.int32(3)}


@pytest.mark.parametrize("sparsity", [1.0, 1.2, 90, -0.1, float("nan"), float("inf")])
def test_a_sparsity_out_of_range(sparsity):
    """JaxPruner keeps one weight at each of those above 1, and all at -0.1."""
    with pytest.raises(ValueError, match=f"sparsity={sparsity}.*0 <= sparsity < 1"):
        masks.make(PARAMS, sparsity)


def test_a_percentage_gets_a_hint():
    with pytest.raises(ValueError, match=r"Did you mean 0\.9\?"):
        masks.make(PARAMS, 90)


@pytest.mark.parametrize("sparsity", [True, np.True_, "0.9", None, [0.5], 1j])
def test_a_sparsity_that_is_no_number(sparsity):
    with pytest.raises(TypeError, match=r"sparsity=.* is not a number"):
        masks.make(PARAMS, sparsity)


def test_a_traced_sparsity_that_is_no_scalar():
    with pytest.raises(TypeError, match=r"sparsity must be a scalar, not of shape \(2,\)"):
        jax.jit(lambda s: masks.make(PARAMS, s))(np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"score": "magnitude"}, TypeError, "score='magnitude' is not a function"),
        ({"pattern": NM}, TypeError, "pattern: .*NM.* is no pattern"),
        ({"pattern": "2:4"}, TypeError, "pattern: '2:4' is no pattern"),
        ({"rules": [Rule("enc/.*", pattern="2:4")]}, TypeError, r"Rule\('enc/.*'\): '2:4' is no"),
        ({"scope": "layer"}, ValueError, "scope='layer' must be"),
        ({"scope": lambda path: None}, TypeError, "scope gave None for enc/kernel"),
        ({"allocate": "erk"}, TypeError, "allocate='erk' must be a function"),
        (
            {"allocate": allocate.erdos_renyi, "scope": "global"},
            ValueError,
            "allocate divides a total among leaves",
        ),
        ({"allocate": {"dec/kernel": 0.5}}, ValueError, "'dec/kernel'.* matches no leaf"),
        ({"allocate": {"enc/kernel": 1.5}}, ValueError, "sparsity=1.5 for Rule"),
        ({"rules": Rule("enc/.*")}, TypeError, "must be a sequence"),
        ({"rules": ["enc/.*"]}, TypeError, "rules holds 'enc/.*'; give jaxprune.Rule"),
        ({"rules": [Rule("dec/.*")]}, ValueError, "matches no leaf.*the paths are enc/bias"),
        ({"rules": [Rule("step")]}, TypeError, "would prune step, whose dtype is int32"),
        ({"rules": [Rule(".*", dense=True)]}, ValueError, "nothing is prunable"),
        ({"min_sparsity": 1.0}, ValueError, "min_sparsity=1.0"),
        ({"max_sparsity": "1"}, TypeError, "max_sparsity='1' is not a number"),
        (
            {"score": scores.Criterion(lambda w, *, grad: w, needs=("grad",))},
            ValueError,
            "criterion for enc/kernel needs gradients",
        ),
        ({"score": scores.snip}, ValueError, "criterion for enc/kernel remembers gradients"),
        ({"pattern": NM(2, 3)}, ValueError, "enc/kernel: axis 0 of .* is not divisible by 3"),
        ({"pattern": Block((2, 2, 2), (0, 1, 2))}, ValueError, "for enc/kernel: axis 2 of a leaf"),
    ],
)
def test_arguments_that_do_not_fit(options, error, message):
    with pytest.raises(error, match=message):
        masks.make(PARAMS, 0.5, **options)


def test_gradients_that_do_not_fit():
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    for broken, message in (
        (jnp.ones((3, 3)), r"gradient of enc/kernel has shape \(3, 3\)"),
        (grads["enc"]["kernel"].at[0, 0].set(jnp.nan), "gradient of enc/kernel has NaN"),
        (grads["enc"]["kernel"].at[0, 0].set(jnp.inf), "NaN or infinite elements"),
    ):
        given = grads | {"enc": grads["enc"] | {"kernel": broken}}
        with pytest.raises(ValueError, match=message):
            masks.make(PARAMS, 0.5, score=scores.saliency, grads=given)


def test_gradients_that_are_known_while_params_are_traced():
    params = {"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]])}
    grads = {"kernel": jnp.array([[9.0, 1.0], [1.0, 1.0]])}

    def made(params, grads):
        return masks.make(params, 0.5, score=scores.saliency, grads=grads)["kernel"]

    mask = jax.jit(lambda params: made(params, grads))(params)
    np.testing.assert_array_equal(mask, made(params, grads))
    broken = {"kernel": grads["kernel"] * jnp.nan}
    with pytest.raises(ValueError, match="gradient of kernel has NaN"):
        jax.jit(lambda params: made(params, broken))(params)


def test_an_empty_tree():
    with pytest.raises(ValueError, match="empty tree"):
        masks.make({}, 0.5)
    with pytest.raises(ValueError, match="empty tree"):
        masks.make({"kernel": None}, 0.5)


def test_patterns_that_do_not_compare():
    params = {"a": {"kernel": W}, "b": {"kernel": W}}
    rules = [Rule("b/.*", pattern=Block((2, 2)))]
    with pytest.raises(ValueError, match=r"a/kernel .* and b/kernel .* have different patterns"):
        masks.make(params, 0.5, scope="global", rules=rules)


def test_a_traced_sparsity_is_not_allocated():
    with pytest.raises(TypeError, match="allocate=erdos_renyi is solved on the host"):
        jax.jit(lambda s: masks.make(PARAMS, s, allocate=allocate.erdos_renyi))(0.5)


def test_a_traced_sparsity_in_a_rule_names_the_rule():
    with pytest.raises(TypeError, match="enc"):
        jax.jit(lambda s: masks.make(PARAMS, 0.5, rules=[Rule("enc/kernel", sparsity=s)]))(0.5)


@pytest.mark.parametrize("elementwise", [False, True])
@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda w: w.sum(0), ValueError),
        (lambda w: None, (TypeError, ValueError)),
        (lambda w: jnp.abs(w).astype(jnp.int32), TypeError),
        (lambda w: w > 0, TypeError),
    ],
    ids=["shape", "none", "int", "bool"],
)
def test_scores_that_do_not_fit_name_the_leaf(function, error, elementwise):
    score = scores.Criterion(function, elementwise=elementwise)
    with pytest.raises(error, match="enc/kernel"):
        masks.make(PARAMS, 0.5, score=score)


COLLIDING = {"a": {"b": W}, "a/b": W}
ENTRIES = {
    "make": lambda params: masks.make(params, 0.5),
    "from_zeros": masks.from_zeros,
    "apply": lambda params: masks.apply(params, {"a": {"b": W > 1}, "a/b": W > 2}),
    "overlap": lambda params: masks.overlap(*[jax.tree.map(lambda x: x > 1, params)] * 2),
    "prune_params": lambda params: prune_params(params, 0.5),
    "plan": lambda params: plan(params, 0.5),
    "prune": lambda params: prune(sparsity=0.5).init(params),
    "keep": lambda params: keep(optax.identity(), {"a": {"b": W > 1}}).init(params),
    "summary": lambda params: summary(params, {"a": {"b": W > 1}, "a/b": W > 2}),
}


@pytest.mark.parametrize("other", [W, W[0], np.int32(3)], ids=["alike", "dense", "int"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_two_leaves_of_one_path(entry, other):
    with pytest.raises(ValueError, match=r"two leaves have the path 'a/b'.*rename a key"):
        ENTRIES[entry](COLLIDING | {"a/b": other})


@pytest.mark.parametrize(
    "rule",
    [Rule("enc/.*", score=jnp.abs), Rule("enc/kernel", max_sparsity=0.9), Rule("enc/.*")],
    ids=["score", "bound", "bare"],
)
def test_a_mapping_hidden_by_a_rule(rule):
    message = r"allocate gives enc/kernel the sparsity 0\.75, but Rule\('enc/.*'\) matches it first"
    for entry in (masks.make, plan, lambda p, s, **o: prune(sparsity=s, **o).init(p)):
        with pytest.raises(ValueError, match=message):
            entry(PARAMS, 0.5, allocate={"enc/kernel": 0.75}, rules=[rule])


def test_a_mapping_beside_a_rule_that_leaves_a_leaf_dense():
    """That is no contradiction: `.*` means all that are pruned."""
    params = {"a": {"kernel": W}, "b": {"kernel": W}}
    rules = [Rule("a/.*", dense=True)]
    made = masks.make(params, 0.5, allocate={".*/kernel": 0.75}, rules=rules)
    assert made["a"]["kernel"] is None
    assert int(made["b"]["kernel"].sum()) == 8
