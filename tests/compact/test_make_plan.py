"""Widths: shares, budgets, multiples; which units; what is refused."""

import cut_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo_decoders as decoders
from draws import put
from hypothesis import given
from hypothesis import strategies as st

import jaxprune
from jaxprune import compact, scores

WIDTHS = (10, 64, 36, 5)


def apply(p, x):
    for i in range(2):
        x = jax.nn.relu(x @ p[f"w{i}"] + p[f"b{i}"][None])
    return x @ p["w2"]


def values(seed=0, widths=WIDTHS):
    rng = np.random.default_rng(seed)
    shapes = {f"w{i}": (widths[i], widths[i + 1]) for i in range(3)}
    shapes |= {f"b{i}": (widths[i + 1],) for i in range(2)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


PARAMS = values()
GROUPS = compact.trace_groups(apply, PARAMS, jnp.ones((1, 10)))
FIRST, SECOND = "w0[1]", "w1[1]"
MEMBERS = {FIRST: [("w0", 1), ("b0", 0), ("w1", 0)], SECOND: [("w1", 1), ("b1", 0), ("w2", 0)]}


def widths(**kwargs):
    made = compact.plan(GROUPS, PARAMS, **kwargs).widths
    return made[FIRST], made[SECOND]


def numpy_scores(params, of=np.abs):
    """In float64: the sum over all weights of a unit."""
    return {
        name: sum(
            of(np.float64(params[path])).sum(
                tuple(i for i in range(params[path].ndim) if i != axis)
            )
            for path, axis in members
        )
        for name, members in MEMBERS.items()
    }


def dense(first, second):
    """(parameters, multiply-adds) of a network of these widths, by hand."""
    macs = 10 * first + first * second + second * 5
    return macs + first + second, macs


@pytest.mark.parametrize(
    ("sparsity", "multiple", "expected"),
    [
        (0.0, 16, (64, 36)),
        (0.5, 16, (32, 16)),
        (0.5, 1, (32, 18)),
        (0.9, 1, (6, 4)),
        (0.9, 16, (16, 16)),
        (0.99, 1, (1, 1)),
        (0.3, 8, (48, 24)),
        (0.5, 128, (32, 16)),  # of 64 half is 32, of 36 half of half 16
        (0.1, 16, (64, 32)),
        (0.05, 16, (64, 36)),
    ],
)
def test_widths_at_a_sparsity(sparsity, multiple, expected):
    assert widths(sparsity=sparsity, multiple=multiple) == expected


@given(
    st.floats(0, 0.99), st.sampled_from([1, 2, 8, 16, 128]), st.sampled_from(["group", "global"])
)
def test_widths_are_multiples_or_whole(sparsity, multiple, scope):
    made = compact.plan(GROUPS, PARAMS, sparsity=sparsity, multiple=multiple, scope=scope).widths
    for group in GROUPS:
        step = multiple
        while step > 1 and group.size < 2 * step:
            step //= 2
        width = made[group.name]
        assert width == group.size or (width % step == 0 and 0 < width < group.size)
        if scope == "group" and step <= width:
            assert abs(width - group.size * (1 - sparsity)) <= max(step / 2, step - 1 + sparsity)


def test_the_least_width():
    assert widths(sparsity=0.9, multiple=1, min_width=20) == (20, 20)
    assert widths(sparsity=0.9, multiple=1, min_width=0.5) == (32, 18)
    assert widths(sparsity=0.9, multiple=8, min_width=20) == (24, 24)
    assert widths(sparsity=0.9, multiple=1, min_width=1000) == (64, 36)


def test_heads_are_multiples_by_themselves():
    """Of heads of 6 every other one for axes that are multiples of 4: 2 heads are 12."""

    def model(p, x):
        return decoders.fused(p, p["table"][x])

    shapes = {"qkv": (12, 3 * 24), "out": (24, 12), "table": (17, 12)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    groups = compact.trace_groups(model, params, jnp.zeros((2, 5), jnp.int32))

    def heads(multiple):
        return compact.plan(groups, params, sparsity=0.3, multiple=multiple).widths["qkv[1].0"]

    assert (heads(1), heads(3), heads(2), heads(4)) == (3, 3, 3, 2)


@pytest.mark.parametrize("name", ["magnitude", "squared", "saliency"])
def test_units_of_the_highest_scores_are_kept(name):
    grads = values(7)
    criterion = {
        "magnitude": scores.magnitude,
        "squared": scores.squared,
        "saliency": scores.saliency,
    }[name]
    given_ = {"grads": grads} if name == "saliency" else {}
    if name == "saliency":
        products = {path: PARAMS[path] * grads[path] for path in PARAMS}
        expected = numpy_scores(products)
    else:
        expected = numpy_scores(PARAMS, np.square if name == "squared" else np.abs)
    found = compact.group_scores(GROUPS, PARAMS, score=criterion, **given_)
    plan = compact.plan(GROUPS, PARAMS, sparsity=0.5, multiple=1, score=criterion, **given_)
    for group in GROUPS:
        np.testing.assert_allclose(found[group.name], expected[group.name], rtol=1e-5)
        best = np.argsort(-expected[group.name])[: group.size // 2]
        assert set(np.flatnonzero(plan.kept[group.name])) == set(best)


def test_all_units_together():
    """Ranked by their scores over the mean of their group."""
    params = {**PARAMS, "w2": PARAMS["w2"] * 100}
    relative = np.concatenate([s / s.mean() for s in numpy_scores(params).values()])
    least = np.sort(relative)[50]
    expected = {n: s / s.mean() >= least for n, s in numpy_scores(params).items()}
    plan = compact.plan(GROUPS, params, sparsity=0.5, multiple=1, scope="global")
    assert sum(plan.widths.values()) == 50
    for name, kept in expected.items():
        np.testing.assert_array_equal(plan.kept[name], kept)


@pytest.mark.parametrize("scope", ["group", "global"])
def test_a_unit_of_nan_goes_first_and_of_equal_ones_the_first_stays(scope):
    params = {name: np.ones_like(w) for name, w in PARAMS.items()}
    params["b0"][3] = np.nan
    kept = compact.plan(GROUPS, params, sparsity=0.5, multiple=1, scope=scope).kept[FIRST]
    wanted = [i for i in range(64) if i != 3][: kept.sum()]
    assert np.flatnonzero(kept).tolist() == wanted


def test_rules_choose_the_score_of_leaves():
    rules = [jaxprune.Rule("w.*", score=scores.squared)]
    found = compact.group_scores(GROUPS, PARAMS, rules=rules)
    mixed = {n: np.square(w) if n.startswith("w") else np.abs(w) for n, w in PARAMS.items()}
    for name, expected in numpy_scores(mixed).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_skip():
    plan = compact.plan(GROUPS, PARAMS, sparsity=0.5, multiple=1, skip=["b1"])
    assert plan.widths == {FIRST: 32, SECOND: 36}
    assert set(plan.kept) == {FIRST}
    assert plan.sparsity == 0.5


def test_groups_that_are_flagged_are_left_out():
    def model(p, x):
        return jax.nn.softmax(x @ p["a"]) @ p["b"]

    params = {"a": jnp.ones((3, 8)), "b": jnp.ones((8, 2))}
    groups = compact.trace_groups(model, params, jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="no group to cut; print"):
        compact.plan(groups, params, sparsity=0.5)
    assert compact.plan(groups, params, sparsity=0.5, flagged=True).widths == {"a[1]": 4}


@given(st.sampled_from(["parameters", "macs", "bytes"]), st.floats(0.06, 1.0), st.booleans())
def test_a_budget_is_met_and_one_step_more_would_not(budget, fraction, number):
    """Groups of one width lose units in turn as sparsity grows: the last that came back fits."""
    which = {"parameters": 0, "macs": 1, "bytes": 0}[budget]
    scale = 4 if budget == "bytes" else 1
    limit = fraction * dense(64, 36)[which] * scale
    plan = compact.plan(GROUPS, PARAMS, multiple=1, **{budget: limit if number else fraction})
    kept = plan.widths[FIRST], plan.widths[SECOND]
    assert getattr(plan, budget) == (dense(64, 36)[which] * scale, dense(*kept)[which] * scale)
    assert dense(*kept)[which] * scale <= limit
    reached = [
        tuple(int(np.floor(n * s + 0.5)) for n in (64, 36)) for s in np.linspace(0, 1, 20001)
    ]
    larger = [w for w in reached if min(w) > 0 and sum(w) > sum(kept)]
    assert all(dense(*w)[which] * scale > limit for w in larger)


def test_several_budgets_are_all_met():
    each = {"parameters": 0.5, "macs": 700, "bytes": 0.9}
    plan = compact.plan(GROUPS, PARAMS, multiple=4, **each)
    assert plan.parameters[1] <= 0.5 * plan.parameters[0]
    assert plan.macs[1] <= 700
    assert plan.widths == compact.plan(GROUPS, PARAMS, multiple=4, macs=700).widths


def test_a_budget_of_everything_keeps_everything():
    assert widths(parameters=1.0) == (64, 36)
    assert widths(macs=10**9) == (64, 36)


def test_params_of_half_precision_count_half_the_bytes():
    params = {name: put(w, jnp.bfloat16) for name, w in PARAMS.items()}
    groups = compact.trace_groups(apply, params, jnp.ones((1, 10), jnp.bfloat16))
    assert compact.Plan(groups, {}).bytes == (2 * dense(64, 36)[0],) * 2


def test_masks_are_those_of_the_members():
    plan = oracle.some(GROUPS, 1)
    made = plan.masks()
    assert {k: v for k, v in made.items() if v is not None}.keys() == oracle.masks(plan).keys()
    for path, mask in oracle.masks(plan).items():
        assert made[path].dtype == bool
        np.testing.assert_array_equal(made[path], mask)
    assert compact.Plan(GROUPS, {}).masks() == dict.fromkeys(PARAMS)


def test_the_table():
    text = str(compact.plan(GROUPS, PARAMS, sparsity=0.5, multiple=1, skip=["b1"]))
    rows = [line.split() for line in text.splitlines()]
    assert [FIRST, "64", "32"] in rows
    assert [SECOND, "36", "36", "not", "planned"] in rows
    assert ["parameters", "3,224", "1,720", "53.35", "%"] in rows
    plan = compact.Plan(GROUPS, {FIRST: np.arange(64) < 16})
    assert repr(plan) == "Plan(75.0% of the units of 1 groups)"
    assert compact.Plan(GROUPS, {}).sparsity == 0.0


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, ValueError, "give sparsity=, or budgets"),
        ({"sparsity": 0.5, "macs": 0.5}, ValueError, "give sparsity=, or budgets"),
        ({"sparsity": 1.0}, ValueError, "sparsity"),
        ({"sparsity": "half"}, TypeError, "sparsity"),
        ({"sparsity": 0.5, "scope": "leaf"}, ValueError, "scope='leaf' must be"),
        ({"sparsity": 0.5, "multiple": 0}, ValueError, "multiple=0 must be a whole number from 1"),
        ({"sparsity": 0.5, "multiple": 2.0}, ValueError, "multiple=2.0 must be a whole number"),
        ({"sparsity": 0.5, "multiple": True}, ValueError, "multiple=True must be a whole number"),
        ({"sparsity": 0.5, "min_width": 0}, ValueError, "min_width=0 must be a fraction below 1"),
        ({"sparsity": 0.5, "min_width": "8"}, ValueError, "min_width='8' must be a fraction"),
        ({"sparsity": 0.5, "skip": "w0"}, TypeError, r"skip='w0' must be .* skip=\['w0'\]"),
        ({"sparsity": 0.5, "skip": ["w"]}, ValueError, "skip has 'w', which matches no path"),
        ({"sparsity": 0.5, "skip": ["w1"]}, ValueError, "there is no group to cut; print"),
        ({"macs": 0}, ValueError, "macs=0 must be a fraction up to 1, or a number above"),
        ({"macs": True}, ValueError, "macs=True must be a fraction"),
        ({"bytes": "1GB"}, ValueError, "bytes='1GB' must be a fraction"),
        ({"parameters": 12}, ValueError, "parameters=12 cannot be met: at the least widths 18 are"),
        ({"sparsity": 0.5, "score": scores.saliency}, ValueError, "grads"),
    ],
)
def test_what_is_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        compact.plan(GROUPS, PARAMS, **{"multiple": 1, **kwargs})


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"w9[1]": np.ones(64, bool)}, r"no group is called 'w9\[1\]'; there are w0\[1\], w1\[1\]"),
        ({FIRST: np.ones(63, bool)}, r"kept of 'w0\[1\]' is bool \(63,\); it must be bool \(64,\)"),
        ({FIRST: np.ones(64)}, r"is float64 \(64,\); it must be bool \(64,\)"),
        ({FIRST: np.zeros(64, bool)}, r"kept of 'w0\[1\]' keeps nothing"),
    ],
)
def test_a_plan_that_does_not_fit(kept, message):
    with pytest.raises(ValueError, match=message):
        compact.Plan(GROUPS, kept)


def test_a_part_that_does_not_exist():
    plan = oracle.some(GROUPS, 1)
    with pytest.raises(ValueError, match=r"under='params', but the tree .* has no such part"):
        plan.masks(under="params")
    with pytest.raises(ValueError, match=r"under='params', but group 'w0\[1\]' has a member"):
        plan.pattern(under="params")


def test_scores_of_another_model():
    with pytest.raises(ValueError, match="traced on another model: they tie b0 of shape"):
        compact.group_scores(GROUPS, values(0, (10, 32, 36, 5)))


def test_an_axis_is_skipped_by_its_name():
    """Heads and features of heads are groups of one kernel."""
    params = {"q": jnp.ones((6, 4, 8)), "v": jnp.ones((6, 4, 8)), "out": jnp.ones((4, 8, 5))}

    def attend(params, x):
        q, v = (jnp.einsum("td,dhk->thk", x, params[name]) for name in "qv")
        weights = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, q), -1)
        return jnp.einsum("hts,shk,hko->to", weights, v, params["out"])

    groups = compact.trace_groups(attend, params, jnp.ones((3, 6)))
    assert [group.size for group in groups] == [8, 4, 8]
    plan = compact.plan(groups, params, sparsity=0.5, multiple=1, skip=["q[2]", "v[2]"])
    assert plan.widths == {"q[2]": 8, "q[1]": 2, "v[2]": 8}


def test_the_table_says_once_what_many_leaves_have_in_common():
    params = {f"conv{i}": jnp.ones((3, 3, 8, 8)) for i in range(6)}

    def convolve(params, x):
        for w in params.values():
            x = jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x

    text = str(compact.trace_groups(convolve, params, jnp.ones((1, 4, 4, 8))))
    assert "conv0[0, 1]" in text
    assert "and 5 leaves more" in text
    assert "conv5[0, 1]" not in text


def test_groups_that_would_widen_together_do_so_one_by_one():
    """Equal layers reach their next width at one sparsity; a budget pays for some of them."""
    names = "abcdef"
    keys = jax.random.split(jax.random.key(0), len(names))
    params = {n: jax.random.normal(k, (64, 64)) for n, k in zip(names, keys, strict=True)}

    def deep(params, x):
        for name in names:
            x = jnp.tanh(x @ params[name])
        return x

    groups = compact.trace_groups(deep, params, jnp.ones((1, 64)))
    plan = compact.plan(groups, params, macs=0.7, multiple=16)
    before, after = plan.macs
    assert set(plan.widths.values()) == {48, 64}
    assert 0.6 * before < after <= 0.7 * before
    for name in (name for name, width in plan.widths.items() if width == 48):
        wider = compact.Plan(groups, dict(plan.kept) | {name: np.ones(64, bool)})
        assert wider.macs[1] > 0.7 * before
