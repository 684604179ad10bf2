"""The three-stage recipe: what each schedule says at the edges of each stage."""

import doctest
import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprune import recipes, schedules


@given(
    st.integers(100, 100_000),
    st.floats(0.02, 0.4),
    st.floats(0.1, 0.5),
    st.integers(0, 5),
    st.integers(1, 10),
)
def test_stages_partition_the_run(total, stabilize, prune, reductions, number):
    recipe = recipes.gmp(
        total, stabilize=stabilize, prune=prune, reductions=reductions, events=number
    )
    first, second, third = recipe.stages
    assert (first.begin, first.end, second.end, third.end) == (
        0,
        second.begin,
        third.begin,
        recipe.total_steps,
    )
    assert all(stage.begin < stage.end for stage in recipe.stages)
    assert second.begin == round(stabilize * total)

    events = schedules.resolve_events(recipe.when, recipe.sparsity)
    assert len(events) == number
    assert events.end == third.begin
    assert number == 1 or events.begin == second.begin
    gaps = np.diff(events.all())
    assert number == 1 or gaps.max() - gaps.min() <= 1
    assert recipe.sparsity(events.end) == 0.9

    assert len(recipe.learning_rate.at) == reductions
    lengths = np.diff([third.begin, *recipe.learning_rate.at, total])
    assert lengths.min() >= 1
    assert lengths.max() - lengths.min() <= 1


def test_sparsity_is_cubic_and_reached_exactly():
    recipe = recipes.gmp(1000, sparsity=0.8, init_sparsity=0.1)
    assert [(stage.name, stage.begin, stage.end) for stage in recipe.stages] == [
        ("stabilize", 0, 50),
        ("prune", 50, 550),
        ("fine-tune", 550, 1000),
    ]
    assert recipe.sparsity == schedules.polynomial(0.8, begin=50, end=550, init=0.1)
    assert [recipe.sparsity(t) for t in (49, 50, 550, 999)] == [0.0, 0.1, 0.8, 0.8]
    np.testing.assert_allclose(recipe.sparsity(300), 0.8 - 0.7 / 8, atol=1e-15)
    assert recipe.sparsity(549) < 0.8
    assert len(recipe.when) == 36
    assert (recipe.when[0], recipe.when[-1]) == (50, 550)


def test_the_published_recipe():
    """57 epochs: one event each in epochs 2 to 37, reductions a third apart (at 43 and 50)."""
    recipe = recipes.gmp(57, sparsity=0.85, stabilize=2 / 57, prune=35 / 57)
    assert recipe.when == tuple(range(2, 38))
    assert recipe.learning_rate.at == (43, 50)
    rates = [float(recipe.learning_rate(t)) for t in (0, 42, 43, 49, 50, 56)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4], rtol=1e-6)


def test_weight_decay_ends_with_pruning():
    recipe = recipes.gmp(1000, weight_decay=1e-4)
    values = jax.jit(recipe.weight_decay)(jnp.array([0, 549, 550, 999]))
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values, np.float32([1e-4, 1e-4, 0, 0]))


def test_warmup_rises_to_the_full_rate():
    recipe = recipes.gmp(1000, learning_rate=0.5, warmup=4, reductions=0)
    rate = jax.jit(recipe.learning_rate)
    assert [float(rate(jnp.int32(t))) for t in (0, 1, 3, 4, 999)] == [0.125, 0.25, 0.5, 0.5, 0.5]
    assert rate(jnp.int32(0)).dtype == jnp.float32
    assert rate._cache_size() == 1
    assert recipe.learning_rate(0) == 0.125


def test_few_steps_and_few_events():
    assert recipes.gmp(3, stabilize=0.3, prune=0.4, reductions=0).when == (1, 2)
    assert recipes.gmp(100, events=1).when == (55,)
    assert recipes.gmp(100, events=2).when == (5, 55)
    assert recipes.gmp(100, events=51).when == tuple(range(5, 56))


def test_drives_adamw():
    """After the last stage begins, a zero gradient moves no weight: no decay is left."""
    recipe = recipes.gmp(20, weight_decay=0.1, learning_rate=0.5, stabilize=0.2)
    transform = optax.adamw(recipe.learning_rate, weight_decay=recipe.weight_decay)
    params = jnp.ones(3)

    def step(carry, _):
        params, state = carry
        updates, state = transform.update(jnp.zeros(3), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params[0]

    _, path = jax.lax.scan(step, (params, transform.init(params)), None, length=20)
    np.testing.assert_allclose(path[:14], 0.95 ** np.arange(1, 15), rtol=1e-5)
    np.testing.assert_array_equal(path[14:], np.full(6, path[13]))


def test_a_recipe_is_a_hashable_value():
    assert hash(recipes.gmp(1000)) == hash(recipes.gmp(1000))
    assert recipes.gmp(1000) == recipes.gmp(1000) != recipes.gmp(1001)


def test_the_table_names_every_stage():
    lines = str(recipes.gmp(1000, sparsity=0.8, weight_decay=1e-4)).splitlines()
    assert len(lines) == 5
    for name in ("stage", "steps", "sparsity", "learning rate", "weight decay"):
        assert name in lines[0]
    rows = [" ".join(line.split()) for line in lines[2:]]
    assert rows == [
        "stabilize 0-49 0 % 0.01 0.0001",
        "prune 50-549 5 % → 80 % 0.01 0.0001",
        "fine-tune 550-999 80 % 0.01 → 0.001 → 0.0001 0",
    ]


def test_a_traced_sparsity_sweeps():
    def reached(sparsity):
        recipe = recipes.gmp(1000, sparsity=sparsity)
        assert "traced" in str(recipe)
        with pytest.raises(TypeError, match=r"sparsity is traced and cannot be drawn"):
            recipe.plot()
        return recipe.sparsity(recipe.when[-1])

    targets = jnp.array([0.5, 0.9])
    np.testing.assert_array_equal(jax.vmap(reached)(targets), targets)


@pytest.mark.parametrize("options", [{"weight_decay": 1e-4, "warmup": 20}, {"reductions": 0}])
def test_the_plot_is_saved_and_shows_the_masks(tmp_path, options):
    recipe = recipes.gmp(1000, sparsity=0.8, events=5, **options)
    path = tmp_path / "recipe.png"
    figure = recipe.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000
    sparsity, rate, decay = figure.axes
    masks = {line.get_label(): line for line in sparsity.lines}["masks"]
    np.testing.assert_array_equal(masks.get_xdata(), [0, *recipe.when, 1000])
    np.testing.assert_allclose(masks.get_ydata()[-2:], 0.8)
    steps = rate.lines[0].get_xdata()
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), recipe.learning_rate(steps))
    np.testing.assert_array_equal(decay.lines[0].get_ydata(), recipe.weight_decay(steps))
    assert [text.get_text() for text in sparsity.texts] == ["stabilize", "prune", "fine-tune"]
    assert figure.canvas.manager is None  # pyplot does not know of it


@pytest.mark.parametrize(("module", "use"), [("rich", str), ("matplotlib", recipes.Recipe.plot)])
def test_a_missing_extra_says_what_to_install(monkeypatch, module, use):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}.*pip install 'jaxprune\[report\]'"):
        use(recipes.gmp(1000))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"total_steps": 2}, ValueError, r"total_steps=2 must be at least 3"),
        ({"total_steps": 2**31}, ValueError, r"total_steps=2147483648 is beyond"),
        ({"total_steps": 10.0}, TypeError, r"total_steps=10.0 is not a whole number"),
        ({"total_steps": 8}, ValueError, r"leaves a stage without a step: \[0, 0\), \[0, 4\)"),
        ({"sparsity": 90}, ValueError, r"sparsity=90 must be a fraction.*0\.9"),
        ({"sparsity": 0.01}, ValueError, r"init_sparsity=0.05 is above sparsity=0.01"),
        ({"init_sparsity": -0.1}, ValueError, r"init_sparsity=-0.1 must be a fraction"),
        ({"learning_rate": 0.0}, ValueError, r"learning_rate=0.0 must be above 0 and finite"),
        ({"learning_rate": float("inf")}, ValueError, r"learning_rate=inf must be above 0"),
        ({"learning_rate": "x"}, TypeError, r"learning_rate='x' is not a static number"),
        ({"weight_decay": -1.0}, ValueError, r"weight_decay=-1.0 must be at least 0 and finite"),
        ({"weight_decay": float("nan")}, ValueError, r"weight_decay=nan must be at least 0"),
        ({"weight_decay": True}, TypeError, r"weight_decay=True is not a static number"),
        ({"stabilize": 0}, ValueError, r"stabilize=0 must be above 0 and below 1"),
        ({"prune": 1.0}, ValueError, r"prune=1.0 must be above 0 and below 1"),
        ({"stabilize": 0.5}, ValueError, r"stabilize=0.5 and prune=0.5 leave nothing"),
        ({"reduction": 1.0}, ValueError, r"reduction=1.0 must be above 0 and below 1"),
        ({"reductions": -1}, ValueError, r"reductions=-1 must be at least 0"),
        ({"reductions": 450}, ValueError, r"reductions=450 is more than the fine-tuning.*449"),
        ({"events": 0}, ValueError, r"events=0 must be at least 1"),
        ({"events": 502}, ValueError, r"events=502 is more than the pruning.*at most 501"),
        ({"warmup": -1}, ValueError, r"warmup=-1 must be at least 0"),
        ({"warmup": 51}, ValueError, r"warmup=51 is more than the stabilising.*at most 50"),
    ],
)
def test_errors(options, error, match):
    options = {"total_steps": 1000} | options
    with pytest.raises(error, match=match):
        recipes.gmp(**options)


@pytest.mark.parametrize("name", ["_gmp", "_recipe"])
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"jaxprune.recipes.{name}"))
    assert result.attempted
    assert not result.failed
