"""Trained models pruned from a few batches: counts, errors, targets, and what is at the edges."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from capture_models import MODELS, Transformer, linen, tokens
from compilations import heard
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxprune
from jaxprune import oneshot
from jaxprune.oneshot import cores

QUICK = oneshot.sparsegpt()


def made(name, n=None):
    make, data = MODELS[name]
    apply, params = make()
    return apply, params, data() if n is None else data(n)


def arrays(tree):
    return [x for x in jax.tree.leaves(tree) if hasattr(x, "shape")]


def relative(a, b):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return np.sum((a - b) ** 2) / np.sum(a**2)


def problem(inputs=24, hidden=32, rows=200):
    """A network of two layers without biases; its inputs are correlated, and some are large."""
    keys = jax.random.split(jax.random.key(0), 5)
    x = jax.random.normal(keys[2], (rows, 8)) @ jax.random.normal(keys[3], (8, inputs))
    x = (x + 0.3 * jax.random.normal(keys[4], x.shape)) * jnp.geomspace(0.2, 5, inputs)[None]
    params = {
        "a": jax.random.normal(keys[0], (inputs, hidden)) / inputs**0.5,
        "b": jax.random.normal(keys[1], (hidden, 8)) / hidden**0.5,
    }
    return (lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]), params, x


@pytest.mark.parametrize("name", MODELS)
def test_models_of_every_library(name):
    apply, params, x = made(name)
    pruned, masks, report = oneshot.prune_model(apply, params, [x], sparsity=0.6, method=QUICK)
    assert not report.missed
    chex.assert_trees_all_equal_shapes_and_dtypes(arrays(params), arrays(pruned))
    assert jax.tree.structure(params) == jax.tree.structure(pruned)
    summary = jaxprune.summary(pruned, masks)
    assert not summary.unmasked
    for row in summary.rows:
        assert row.kept == round(row.size * 0.4), row.path
    assert sum(layer.kept for layer in report.layers) == summary.prunable.kept
    assert all(layer.error < 1 for layer in report.layers)
    assert np.all(np.isfinite(np.asarray(apply(pruned, x), np.float32)))


@pytest.mark.parametrize("name", ["linen MLP", "linen CNN", "NNX", "Equinox", "raw"])
@pytest.mark.parametrize("asymmetric", [True, False])
def test_the_error_of_the_last_layer_is_that_of_the_model(name, asymmetric):
    """The march made what apply makes: all models but the transformer end with a product alone."""
    apply, params, x = made(name)
    pruned, _, report = oneshot.prune_model(
        apply, params, [x[:2], x[2:]], sparsity=0.5, method=QUICK, asymmetric=asymmetric
    )
    dense, out = apply(params, x), apply(pruned, x)
    if asymmetric:
        np.testing.assert_allclose(report.layers[-1].error, relative(dense, out), rtol=1e-3)
        return
    last = report.layers[-1].name  # what the trained layer makes of what comes from pruned ones
    paths, leaves, structure = jaxprune._tree.flatten(pruned)
    i = paths.index(last)
    leaves[i] = jaxprune._tree.flatten(params)[1][i]
    aim = apply(structure.unflatten(leaves), x)
    np.testing.assert_allclose(report.layers[-1].error, relative(aim, out), rtol=1e-3)


def test_not_sequential_layers_see_the_dense_network():
    apply, params, x = problem()
    pruned, masks, report = oneshot.prune_model(
        apply, params, [x], sparsity=0.5, method=QUICK, sequential=False
    )
    hidden = jax.nn.relu(x @ params["a"])
    H = cores.damped(hidden.T @ hidden)
    alone, mask = cores.sparsegpt(params["b"], H, 128, cores.Cut())
    np.testing.assert_array_equal(masks["b"], mask)
    np.testing.assert_allclose(pruned["b"], alone, rtol=1e-3, atol=1e-4)
    assert report.layers[1].inherited == 0
    error = relative(hidden @ params["b"], hidden @ pruned["b"])
    np.testing.assert_allclose(report.layers[1].error, error, rtol=1e-3)


def test_sequential_layers_see_the_pruned_ones():
    apply, params, x = problem()
    pruned, masks, _report = oneshot.prune_model(
        apply, params, [x], sparsity=0.5, method=QUICK, asymmetric=False
    )
    hidden = jax.nn.relu(x @ pruned["a"])
    alone, mask = cores.sparsegpt(params["b"], cores.damped(hidden.T @ hidden), 128, cores.Cut())
    np.testing.assert_array_equal(masks["b"], mask)
    np.testing.assert_allclose(pruned["b"], alone, rtol=1e-3, atol=1e-4)


def test_asymmetric_layers_aim_at_the_dense_network():
    apply, params, x = problem()
    method = oneshot.magnitude(refit=True)
    errors = {}
    for asymmetric in (True, False):
        pruned, masks, _ = oneshot.prune_model(
            apply, params, [x], sparsity=0.7, method=method, asymmetric=asymmetric
        )
        errors[asymmetric] = relative(apply(params, x), apply(pruned, x))
        if asymmetric:
            hidden = np.asarray(jax.nn.relu(x @ pruned["a"]), np.float64)
            dense = np.asarray(jax.nn.relu(x @ params["a"]) @ params["b"], np.float64)
            lam = 0.01 * np.mean(np.sum(hidden**2, 0))
            for j in range(8):  # least squares of each output, kept weights drawn to the trained
                kept = np.asarray(masks["b"][:, j])
                w = np.asarray(params["b"][:, j], np.float64)
                left = np.vstack([hidden[:, kept], np.sqrt(lam) * np.eye(len(w))[:, kept]])
                right = np.concatenate([dense[:, j], np.sqrt(lam) * w])
                best = np.linalg.lstsq(left, right)[0]
                np.testing.assert_allclose(pruned["b"][kept, j], best, rtol=0.02, atol=2e-3)
    assert errors[True] < 0.95 * errors[False]


def test_methods_rank_as_their_papers_say():
    apply, params, x = problem()
    errors = {}
    for name in ("magnitude", "wanda", "sparsegpt"):
        report = oneshot.prune_model(
            apply, params, [x], sparsity=0.6, method=getattr(oneshot, name)()
        )[2]
        errors[name] = report.layers[0].error
        assert report.layers[0].inherited == 0
        if name != "sparsegpt":  # kept weights are as they were
            assert report.layers[0].error == report.layers[0].masked
    assert errors["sparsegpt"] < 0.9 * errors["wanda"] < 0.81 * errors["magnitude"]


def test_wanda_ranks_within_each_output():
    apply, params, x = problem()
    _, masks, _ = oneshot.prune_model(
        apply, params, [x], sparsity=0.5, method=oneshot.wanda(), sequential=False
    )
    norms = np.sqrt(np.sum(np.asarray(x, np.float64) ** 2, 0))
    scores = np.abs(np.asarray(params["a"], np.float64)) * norms[:, None]
    expected = scores >= np.sort(scores, 0)[12]
    np.testing.assert_array_equal(masks["a"], expected)


def test_two_of_four_lies_along_the_inputs():
    apply, params = linen(Transformer(), tokens())
    message = r"groups 2 weights along axis 1 of attention/key/kernel.*NM\(1, 2, axis=0\)"
    with pytest.raises(ValueError, match=message):
        oneshot.prune_model(apply, params, [tokens()], sparsity=0.5, pattern=jaxprune.NM(1, 2))
    heads = jaxprune.Rule("attention/(query|key|value)/kernel", pattern=jaxprune.NM(2, 4, axis=0))
    _pruned, masks, _ = oneshot.prune_model(
        apply,
        params,
        [tokens()],
        sparsity=0.5,
        method=QUICK,
        pattern=jaxprune.NM(2, 4),
        rules=[heads],
    )
    groups = np.asarray(masks["attention"]["key"]["kernel"]).reshape(2, 4, 2, 4)
    assert np.all(groups.sum(1) == 2)
    groups = np.asarray(masks["stack"]["down"]["kernel"]).reshape(3, 4, 4, 8)
    assert np.all(groups.sum(2) == 2)


def test_two_of_four_of_convolutions_lies_along_channels():
    apply, params, x = made("linen CNN")
    rules = [jaxprune.Rule("plain/.*|depthwise/.*", dense=True)]
    _, masks, _ = oneshot.prune_model(
        apply, params, [x], sparsity=0.5, method=QUICK, pattern=jaxprune.NM(2, 4), rules=rules
    )
    mask = np.asarray(masks["grouped"]["kernel"])  # 3x2, 4 channels of a group, 8
    assert mask.shape == (3, 2, 4, 8)
    assert np.all(mask.sum(2) == 2)
    assert masks["plain"]["kernel"] is None
    apply, params, x = made("Equinox")  # (out, in, 3, 3)
    rules = [jaxprune.Rule("layers/0/.*", dense=True)]
    _, masks, _ = oneshot.prune_model(
        apply, params, [x], sparsity=0.5, method=QUICK, pattern=jaxprune.NM(2, 4, -1), rules=rules
    )
    assert np.all(np.asarray(masks.layers[3].weight).reshape(12, 36, 4).sum(-1) == 2)


def test_blocks_live_or_die_together():
    apply, params, x = problem()
    _pruned, masks, _ = oneshot.prune_model(
        apply, params, [x], sparsity=0.5, method=QUICK, pattern=jaxprune.Block((4, 2))
    )
    for name in "ab":
        mask = np.asarray(masks[name])
        blocks = mask.reshape(mask.shape[0] // 4, 4, mask.shape[1] // 2, 2).sum((1, 3))
        assert set(np.unique(blocks)) == {0, 8}
        assert mask.sum() == mask.size // 2


def test_rules_and_allocations():
    apply, params, x = made("raw")
    rules = [jaxprune.Rule("down/0", sparsity=0.25)]
    _, _, report = oneshot.prune_model(apply, params, [x], sparsity=0.75, method=QUICK, rules=rules)
    assert [layer.kept for layer in report.layers] == [24, 60]
    share = {"up/w": 0.0, "down/0": 0.1}
    owl = jaxprune.allocate.owl(share)
    report = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK, allocate=owl)[2]
    assert report.layers[0].sparsity > 0.5 > report.layers[1].sparsity
    assert sum(layer.kept for layer in report.layers) == 88
    with pytest.raises(ValueError, match="has a score, but the method decides"):
        oneshot.prune_model(
            apply,
            params,
            [x],
            sparsity=0.5,
            rules=[jaxprune.Rule("up/w", score=jaxprune.scores.magnitude)],
        )


def test_a_leaf_that_is_used_twice_is_pruned_for_both():
    apply = lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"]) @ p["w"]) @ p["out"]  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"w": jax.random.normal(keys[0], (8, 8)), "out": jax.random.normal(keys[1], (8, 4))}
    x = jax.random.normal(keys[2], (40, 8))
    pruned, _, report = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK)
    assert [layer.name for layer in report.layers] == ["w", "out"]
    error = relative(apply(params, x), apply(pruned, x))
    np.testing.assert_allclose(report.layers[-1].error, error, rtol=1e-3)


def test_a_use_that_is_no_product_is_named_and_run_again():
    def apply(p, x):
        x = x * p["w"][0][None]
        return (jnp.tanh(x @ p["w"]) * p["w"][1][None]) @ p["out"]

    keys = jax.random.split(jax.random.key(0), 3)
    params = {"w": jax.random.normal(keys[0], (8, 8)), "out": jax.random.normal(keys[1], (8, 4))}
    x = jax.random.normal(keys[2], (40, 8))
    pruned, _, report = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK)
    assert report.layers[0].note.startswith("also ")
    assert "which is not seen" in str(report)
    error = relative(apply(params, x), apply(pruned, x))
    np.testing.assert_allclose(report.layers[-1].error, error, rtol=1e-3)


SHARED = {
    "the same leaf at several depths": lambda p, x: (
        jnp.tanh(jnp.tanh(x @ p["w"]) @ p["w"]) @ p["v"]
    ),
    "a later use that comes first in the program": lambda p, x: (
        (jnp.tanh(x @ p["v"]) @ p["w"] + x @ p["w"]) @ p["v"]
    ),
    "two shared leaves in turn": lambda p, x: _again(p, _again(p, _again(p, x))),
    "inside of cond": lambda p, x: jnp.tanh(
        jax.lax.cond(x.sum() > -1e9, lambda y: y @ p["w"], lambda y: y, x) + x @ p["w"]
    ),
    "a tied table": lambda p, x: jnp.tanh(x * p["w"][2][None]) @ p["v"] @ p["w"].T,
}


def _again(p, x):
    return x + jnp.tanh(x @ p["w"]) @ p["v"]


@pytest.mark.parametrize("how", SHARED)
def test_leaves_that_are_used_in_several_places(how):
    """What the last layer is said to see is what the pruned network makes."""
    keys = jax.random.split(jax.random.key(0), 4)
    params = {n: jax.random.normal(k, (8, 8)) for n, k in zip("wvu", keys, strict=False)}
    x = jax.random.normal(keys[3], (40, 8))
    apply = lambda p, x: SHARED[how](p, x) @ p["u"]  # noqa: E731
    pruned, _, report = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK)
    assert report.layers[-1].name == "u"
    error = relative(apply(params, x), apply(pruned, x))
    np.testing.assert_allclose(report.layers[-1].error, error, rtol=1e-3)


def test_statistics_of_a_shared_leaf_are_those_of_the_pruned_network():
    """The second leaf is solved for inputs that the pruned first one makes, at every use."""
    seen = []

    def look(problem, keep, cut):
        jax.debug.callback(lambda h: seen.append(np.asarray(h)), problem.H)
        return problem.W, cores.magnitude(problem.W, keep, cut)

    keys = jax.random.split(jax.random.key(0), 3)
    params = {n: jax.random.normal(k, (8, 8)) for n, k in zip("wv", keys, strict=False)}
    x = jax.random.normal(keys[2], (40, 8))
    apply = lambda p, x: _again(p, _again(p, x))  # noqa: E731
    pruned, _, report = oneshot.prune_model(
        apply, params, [x], sparsity=0.5, method=oneshot.Method(look, damp=0.0)
    )
    assert [layer.name for layer in report.layers] == ["w", "v"]
    first = jnp.tanh(x @ pruned["w"])
    second = jnp.tanh((x + first @ params["v"]) @ pruned["w"])
    H = np.asarray(first.T @ first + second.T @ second)
    np.testing.assert_allclose(seen[1], H / np.mean(np.diagonal(H)), rtol=1e-3, atol=1e-4)


def test_later_uses_that_come_first_are_asymmetric_too():
    def apply(p, x):
        late = jnp.tanh(x @ p["v"]) @ p["w"]
        return late + x @ p["w"]

    def other(p, x):
        early = x @ p["w"]
        return early + jnp.tanh(x @ p["v"]) @ p["w"]

    keys = jax.random.split(jax.random.key(0), 3)
    params = {n: jax.random.normal(k, (8, 8)) for n, k in zip("wv", keys, strict=False)}
    x = jax.random.normal(keys[2], (40, 8))
    a, b = (oneshot.prune_model(f, params, [x], sparsity=0.5, method=QUICK) for f in (apply, other))
    np.testing.assert_allclose(a[0]["w"], b[0]["w"], rtol=1e-3, atol=1e-4)


def test_groups_are_those_of_the_leaf_or_refused():
    w = jax.random.normal(jax.random.key(0), (8, 8))
    x = jax.random.normal(jax.random.key(1), (40, 8))
    halves = lambda p, x: x[:, :4] @ p["w"][::2] + x[:, 4:] @ p["w"][1::2]  # noqa: E731
    for pattern in (jaxprune.NM(2, 4), jaxprune.Block((2, 1))):
        with pytest.raises(ValueError, match="weights along axis 0 of w"):
            oneshot.prune_model(halves, {"w": w}, [x], sparsity=0.5, method=QUICK, pattern=pattern)
    slices = lambda p, x: x[:, :4] @ p["w"][:4] + x[:, 4:] @ p["w"][4:]  # noqa: E731
    _, masks, _ = oneshot.prune_model(
        slices, {"w": w}, [x], sparsity=0.5, method=QUICK, pattern=jaxprune.NM(2, 4)
    )
    assert np.all(np.asarray(masks["w"]).reshape(2, 4, 8).sum(1) == 2)


def test_prints_and_keys_in_the_model():
    key = jax.random.key(3)

    def apply(p, x):
        jax.debug.callback(lambda s: None, p["w"].sum())
        return (x + jax.random.normal(key, x.shape)) @ p["w"]

    params = {"w": jax.random.normal(jax.random.key(0), (8, 8))}
    report = oneshot.prune_model(apply, params, [jnp.ones((5, 8))], sparsity=0.5, method=QUICK)[2]
    assert report.sparsity == 0.5


def test_kept_weights_of_wide_types_are_as_they_were():
    w = np.random.default_rng(0).normal(size=(8, 8))
    assert w.dtype == np.float64
    x = jax.random.normal(jax.random.key(1), (40, 8))
    pruned, masks, _ = oneshot.prune_model(
        lambda p, x: x @ jnp.asarray(p["w"], jnp.float32),
        {"w": w},
        [x],
        sparsity=0.5,
        method=oneshot.wanda(),
    )
    np.testing.assert_array_equal(pruned["w"], np.where(masks["w"], w, 0))
    assert pruned["w"].dtype == np.float64


def test_a_method_that_keeps_too_much_is_refused():
    apply, params, x = problem()
    all_of_it = oneshot.Method(lambda problem, keep, cut: (problem.W, problem.W == problem.W))
    with pytest.raises(ValueError, match="the method's mask of a is not as asked for"):
        oneshot.prune_model(apply, params, [x], sparsity=0.5, method=all_of_it)


def test_an_empty_leaf_is_named():
    params = {"w": jnp.eye(8), "none": jnp.ones((8, 0))}
    apply = lambda p, x: (x @ p["w"], x @ p["none"])  # noqa: E731
    x = jax.random.normal(jax.random.key(0), (20, 8))
    rules = [jaxprune.Rule("none", dense=False)]
    report = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK, rules=rules)[2]
    assert report.missed == (("none", "it is empty"),)


def test_missed_leaves_stay_dense_and_are_named():
    apply = lambda p, x: x @ p["good"] @ (2.0 * p["bad"])  # noqa: E731
    params = {"good": jnp.eye(8) + 0.1, "bad": jnp.ones((8, 8))}
    x = jax.random.normal(jax.random.key(0), (20, 8))
    pruned, masks, report = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK)
    assert report.missed == (("bad", "changed by mul before it meets data"),)
    assert masks["bad"] is None
    np.testing.assert_array_equal(pruned["bad"], params["bad"])
    assert "not captured, left dense: bad: changed by mul" in str(report)
    assert "50.00 %" in str(report)
    with pytest.raises(ValueError, match="no leaf that is to be pruned meets data"):
        oneshot.prune_model(lambda p, x: x, params, [x], sparsity=0.5, method=QUICK)


def test_numbers_of_batches_and_their_sizes_do_not_matter():
    apply, params, x = problem()
    whole = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK)
    parts = oneshot.prune_model(
        apply, params, iter([x[:64], x[64:128], x[128:]]), sparsity=0.5, method=QUICK
    )
    for name in "ab":
        assert np.mean(np.asarray(whole[1][name]) != np.asarray(parts[1][name])) < 0.02
        np.testing.assert_allclose(whole[2].layers[0].error, parts[2].layers[0].error, rtol=0.02)


def test_the_same_batch_twice_changes_nothing():
    apply, params, x = problem()
    once = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK)
    twice = oneshot.prune_model(apply, params, [x, x], sparsity=0.5, method=QUICK)
    chex.assert_trees_all_equal(once[:2], twice[:2])


def test_zero_inputs():
    apply, params, x = problem()
    zeros = jnp.zeros_like(x)
    _, masks, report = oneshot.prune_model(apply, params, [zeros], sparsity=0.5, method=QUICK)
    expected = jaxprune.masks.make(params, 0.5)
    chex.assert_trees_all_equal(masks, expected)
    assert [layer.error for layer in report.layers] == [0, 0]
    assert report.layers[0].note == "inputs are all 0: ranked by magnitude"
    dead = x.at[:, :6].set(0)  # a quarter of the inputs
    _, masks, _ = oneshot.prune_model(apply, params, [dead], sparsity=0.5, method=QUICK)
    assert not np.any(masks["a"][:6])


def test_one_token():
    apply, params, x = problem()
    pruned, masks, report = oneshot.prune_model(apply, params, [x[:1]], sparsity=0.5, method=QUICK)
    assert jaxprune.masks.density(masks) == 0.5
    assert report.layers[0].error < 0.01  # one row can be met with half of the weights
    np.testing.assert_allclose(apply(pruned, x[:1]), apply(params, x[:1]), rtol=0.1, atol=0.3)


def test_inputs_that_are_not_finite():
    apply, params, x = problem()
    with pytest.raises(ValueError, match="batch 1 makes NaN or infinite inputs of a,"):
        oneshot.prune_model(apply, params, [x, x.at[0, 0].set(jnp.nan)], sparsity=0.5)
    huge = {"a": params["a"].at[0, 0].set(jnp.inf), "b": params["b"]}
    with pytest.raises(ValueError, match="a has weights that are NaN or infinite"):
        oneshot.prune_model(apply, huge, [x], sparsity=0.5, method=oneshot.wanda())
    with pytest.raises(ValueError, match="squares of inputs of a add up to more than float32"):
        oneshot.prune_model(apply, params, [1e20 * x], sparsity=0.5, method=QUICK)
    with pytest.raises(ValueError, match="batch 1 is empty: it has no rows of inputs for a"):
        oneshot.prune_model(apply, params, [x, x[:0]], sparsity=0.5, method=QUICK)
    with pytest.raises(TypeError, match="batches is one array"):
        oneshot.prune_model(apply, params, x, sparsity=0.5, method=QUICK)


def test_a_matrix_that_cannot_be_solved_is_damped_more_and_reported():
    apply, params, x = problem()
    flat = jnp.outer(x[:, 0], jnp.ones(24)) * 1e3  # of rank 1
    method = oneshot.sparsegpt(damp=1e-9)
    pruned, _, report = oneshot.prune_model(apply, params, [flat], sparsity=0.5, method=method)
    assert "damping 1e-09 was too little; solved with" in report.layers[0].note
    assert "a: damping 1e-09 was too little" in str(report)
    assert np.all(np.isfinite(pruned["a"]))


def test_batches_of_a_wrong_shape():
    apply, params, x = problem()
    with pytest.raises(TypeError, match="dot_general") as error:
        oneshot.prune_model(apply, params, [x, x[:, :5]], sparsity=0.5, method=QUICK)
    assert any("traced on batch 1" in note for note in error.value.__notes__)
    with pytest.raises(ValueError, match="batches is empty"):
        oneshot.prune_model(apply, params, [], sparsity=0.5, method=QUICK)
    two = lambda p, x: x @ (p["a"] if len(x) > 1 else p["b"])  # noqa: E731
    square = {"a": jnp.eye(8), "b": jnp.eye(8)}
    with pytest.raises(ValueError, match="apply does not use params with batch 1 as it does"):
        oneshot.prune_model(two, square, [jnp.ones((2, 8)), jnp.ones((1, 8))], sparsity=0.5)


def test_arguments():
    apply, params, x = problem()
    cases = [
        (TypeError, "method=.* is no Method", {"method": oneshot.sparsegpt}),
        (ValueError, "must be a fraction of zeros", {"sparsity": 50}),
        (ValueError, "is no pattern of one-shot pruning", {"pattern": jaxprune.Channel()}),
        (ValueError, "keeps more than 2:4 allows", {"pattern": jaxprune.NM(2, 4), "sparsity": 0.3}),
        (ValueError, "ends at the pattern itself", {"pattern": jaxprune.NM(2, 4), "sparsity": 0.8}),
        (ValueError, "groups 5 weights along axis 0", {"pattern": jaxprune.Block((5, 1))}),
    ]
    for kind, message, kwargs in cases:
        with pytest.raises(kind, match=message):
            oneshot.prune_model(apply, params, [x], **{"sparsity": 0.5} | kwargs)
    for kind, message, kwargs in (
        (TypeError, "solve=1 must be a function", {"solve": 1}),
        (ValueError, "needs='all'", {"solve": len, "needs": "all"}),
        (ValueError, "damp=-1", {"solve": len, "damp": -1}),
        (TypeError, "damp='a'", {"solve": len, "damp": "a"}),
    ):
        with pytest.raises(kind, match=message):
            oneshot.Method(**kwargs)

    with pytest.raises(ValueError, match="block=0"):
        oneshot.sparsegpt(block=0)

    def traced(s):
        return oneshot.prune_model(apply, params, [x], sparsity=s)[0]

    with pytest.raises(TypeError, match="sparsity is traced"):
        jax.jit(traced)(0.5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtypes_stay(dtype):
    apply, params, x = problem()
    params = jax.tree.map(lambda w: w.astype(dtype), params)
    pruned, _, report = oneshot.prune_model(
        apply, params, [x.astype(dtype)], sparsity=0.5, method=QUICK
    )
    chex.assert_trees_all_equal_dtypes(params, pruned)
    assert report.layers[0].error < report.layers[0].masked


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_placement_stays_and_a_cut_batch_gives_the_same(kind):
    apply, params, x = problem()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    cut = NamedSharding(mesh, P("data"))
    here = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK)
    lies = cut if kind == AxisType.Auto else NamedSharding(mesh, P())
    with jax.set_mesh(mesh):
        pruned, masks, report = oneshot.prune_model(
            apply,
            jax.device_put(params, lies),
            [jax.device_put(x, cut)],
            sparsity=0.5,
            method=QUICK,
        )
    assert pruned["a"].sharding == masks["a"].sharding == lies
    for name in "ab":
        assert np.mean(np.asarray(here[1][name]) != np.asarray(masks[name])) < 0.02
    np.testing.assert_allclose(report.layers[1].error, here[2].layers[1].error, rtol=0.05)


@pytest.mark.as_users
def test_equal_layers_share_their_programs():
    """Eight equal layers compile as many programs as four: pieces and solvers are shared."""

    class Deep(nn.Module):
        layers: int

        @nn.compact
        def __call__(self, x):
            for _ in range(self.layers):
                x = x + nn.Dense(6)(nn.relu(nn.Dense(6)(x)))
            return x

    counts = []
    for layers in (4, 8):
        x = jax.random.normal(jax.random.key(1), (20, 6))
        apply, params = linen(Deep(layers), x)
        with heard() as compiled:
            oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK)
        counts.append(len(compiled))
    assert 0 < counts[1] <= counts[0]


def test_a_method_of_ones_own():
    def biggest_inputs(problem, keep, cut):
        scores = jnp.broadcast_to(problem.squares[:, None], problem.W.shape)
        return problem.W, cores.choose(scores, keep, cut)

    apply, params, x = problem()
    method = oneshot.Method(biggest_inputs, needs="squares")
    _, masks, _ = oneshot.prune_model(apply, params, [x], sparsity=0.5, method=method)
    assert np.all(np.asarray(masks["a"]).sum(1) % 32 == 0)


def test_the_bar_counts_layers(capsys):
    apply, params, x = problem()
    oneshot.prune_model(apply, params, [x], sparsity=0.5, method=QUICK, progress=True)
    assert "2/2" in capsys.readouterr().err
