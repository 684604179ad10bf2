"""LeGR: what a ranking is, how it evolves, how it resumes, and where it beats the plain norm."""

import itertools
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from compilations import heard
from draws import put
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxprune as jp
from jaxprune import iterate


def make_params(shapes=((3, 3, 4, 6), (6, 8), (8, 10)), seed=0):
    random = np.random.default_rng(seed)
    return {
        f"layer{i:02}": {
            "kernel": (random.normal(size=shape) * 2.0**i).astype(np.float32),
            "bias": np.ones(shape[-1], np.float32),
        }
        for i, shape in enumerate(shapes)
    }


def many(num, shape=(2, 3)):
    return make_params((shape,) * num)


def density_of_first(masks):
    """A fitness: the more of the first leaf is left, the better."""
    return np.asarray(masks["layer00"]["kernel"]).mean()


def search(fitness=density_of_first, params=None, **changed):
    given = {"sparsity": 0.5, "key": jax.random.key(0), "population": 4, "sample": 2}
    given |= {"generations": 10} | changed
    return iterate.legr(fitness, make_params() if params is None else params, **given)


def distinct():
    """A fitness that no two candidates share."""
    random = np.random.default_rng(3)
    return lambda masks: random.random()


def history(**changed):
    """The states after every candidate."""
    states = []
    search(callback=states.append, **changed)
    return states


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def squared_norms(w, axis=-1):
    """Of the filters, in float64."""
    return np.square(np.moveaxis(np.asarray(w, np.float64), axis, 0)).reshape(w.shape[axis], -1)


# What a ranking is


def oracle_masks(params, affine, sparsity, axis):
    """Filters of all leaves in one stable sort of a * ||filter||^2 + k in float64."""
    scores = [
        a * squared_norms(params[path.split("/")[0]]["kernel"], axis).sum(1) + k
        for path, (a, k) in affine.items()
    ]
    flat = np.concatenate(scores)
    keep = np.zeros(flat.size, bool)
    keep[np.argsort(-flat, kind="stable")[: round(flat.size * (1 - sparsity))]] = True
    return np.split(keep, np.cumsum([len(s) for s in scores])[:-1])


@pytest.mark.parametrize("axis", [-1, -2])
def test_masks_are_the_highest_affine_norms(axis):
    params, pattern = make_params(), jp.Channel(axis)
    found = search(params=params, pattern=pattern, mutate=1.0)
    assert any(pair != (1, 0) for pair in found.affine.values())
    for sparsity in (0.5, 0.25, 0.8):
        made = jp.masks.make(params, sparsity, score=found.score, pattern=pattern, scope="global")
        if sparsity == 0.5:
            assert_same(found.masks, made)
        expected = oracle_masks(params, found.affine, sparsity, axis)
        for layer, keep in zip(made.values(), expected, strict=True):
            filters = np.moveaxis(np.asarray(layer["kernel"]), axis, 0)
            np.testing.assert_array_equal(filters.reshape(len(keep), -1).all(1), keep)
            np.testing.assert_array_equal(filters.reshape(len(keep), -1).any(1), keep)


@pytest.mark.parametrize(
    ("pattern", "size"),
    [(jp.Channel(), 36), (jp.Unstructured(), 1), (jp.Block((2, 3)), 6)],
)
def test_scores_of_weights_have_the_mean_of_their_unit(pattern, size):
    params = make_params(((3, 3, 4, 6), (4, 6)))
    found = search(params=params, pattern=pattern, mutate=1.0)
    w = params["layer00"]["kernel"]
    a, k = found.affine["layer00/kernel"]
    scores = found.score(w, path="layer00/kernel")
    assert scores.dtype == jnp.float32
    expected = a * size * np.square(w.astype(np.float64)) + k
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6 * abs(k))
    low = found.score(put(w, jnp.bfloat16), path="layer00/kernel")
    assert low.dtype == jnp.float32


# How it evolves


def test_the_first_candidate_is_the_plain_norm():
    params, seen = make_params(), []
    found = search(lambda masks: seen.append(masks) or -len(seen), params)
    assert found.fitness == -1
    assert set(found.affine.values()) == {(1.0, 0.0)}
    expected = oracle_masks(params, found.affine, 0.5, -1)
    for layer, keep in zip(seen[0].values(), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(layer["kernel"]).reshape(-1, len(keep))[0], keep)


def test_random_candidates_have_the_spread_of_their_leaf():
    params = make_params()
    last = history(params=params, population=400, generations=401)[399]
    scale, shift = np.log(last.scale[1:]), last.shift[1:]
    stds = [np.std(squared_norms(layer["kernel"]).sum(1)) for layer in params.values()]
    np.testing.assert_allclose(scale.mean(), 0, atol=0.1)
    np.testing.assert_allclose(scale.std(0), 1, rtol=0.1)
    np.testing.assert_allclose(shift.mean(0) / stds, 0, atol=0.15)
    np.testing.assert_allclose(shift.std(0), stds, rtol=0.1)


@pytest.mark.parametrize(("mutate", "number"), [(0.1, 1), (0.001, 1), (0.3, 3), (1, 10)])
def test_a_child_is_a_mutated_winner(mutate, number):
    """Where all compete, the winner is the best of the population."""
    states = history(fitness=distinct(), params=many(10), sample=4, generations=16, mutate=mutate)
    for before, after in itertools.pairwise(states[3:]):
        winner, child = np.argmax(before.fitness), int(before.generation) % 4
        for name in ("scale", "shift"):
            old, new = getattr(before, name)[winner], getattr(after, name)[child]
            assert (old != new).sum() == number
        moved = before.scale[winner] != after.scale[child]
        assert ((before.shift[winner] != after.shift[child]) == moved).all()


@pytest.mark.parametrize("sample", [1, 2, 3, 4])
def test_the_best_of_so_many_wins(sample):
    """Of a sample without repeats: with all four it is the best, with two never the last."""
    ranks = set()
    for seed in range(25):
        states = history(fitness=distinct(), sample=sample, generations=5, key=jax.random.key(seed))
        before, child = states[3], states[4].scale[0]
        parent = np.argmax((before.scale == child).sum(1))
        ranks.add(int((before.fitness > before.fitness[parent]).sum()))
    assert ranks == set(range(5 - sample))


def test_steps_of_the_scale_fall_and_those_of_the_shift_do_not():
    total = 500
    params = make_params()
    states = history(params=params, population=1, sample=1, generations=total, mutate=1.0)
    factors = np.diff(np.log([s.scale[0] for s in states]), axis=0)
    shifts = np.diff([s.shift[0] for s in states], axis=0)
    stds = [np.std(squared_norms(layer["kernel"]).sum(1)) for layer in params.values()]
    step = 1 - np.arange(1, total) / (1.25 * total)
    for part in (slice(0, 170), slice(-170, None)):
        np.testing.assert_allclose(
            np.std(factors[part]), np.sqrt(np.mean(step[part] ** 2)), rtol=0.1
        )
        np.testing.assert_allclose(np.std(shifts[part] / stds), 1, rtol=0.1)


def test_the_oldest_leaves_whatever_its_fitness():
    fitness = iter([9.0, *range(9)])
    states = history(fitness=lambda masks: next(fitness))
    for i, (before, after) in enumerate(itertools.pairwise(states), 1):
        others = np.arange(4) != i % 4
        assert_same(after.scale[others], before.scale[others])
        assert_same(after.fitness[others], before.fitness[others])
        assert after.fitness[i % 4] == i - 1
    assert 9 not in states[4].fitness
    assert states[-1].best_fitness == 9


def test_a_search_depends_on_its_key_alone():
    first = search()
    assert_same(search().state, first.state)
    assert_same(search(key=jax.random.PRNGKey(0)).state, first.state)
    other = search(key=jax.random.key(1)).state
    assert (other.scale != first.state.scale).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_fitness_that_is_not_finite_ranks_lowest(bad):
    numbers = iter([bad, -5.0, bad, -7.0, *[bad] * 6])
    found = search(lambda masks: next(numbers))
    assert found.fitness == -5
    assert (found.state.fitness == -np.inf).all()


def test_without_any_finite_fitness_the_plain_norm_is_left():
    found = search(lambda masks: jnp.nan)
    assert found.fitness == -np.inf
    assert set(found.affine.values()) == {(1.0, 0.0)}


def test_what_is_compiled_serves_all_candidates():
    after = []
    params = make_params(((5, 7), (7, 9)))  # of shapes that no other test has compiled for

    with heard() as compiled:
        search(params=params, callback=lambda state: after.append(len(compiled)))
    assert len(after) == 10
    assert after[0] == after[-1] == len(compiled) > 0


# How it resumes


class KilledError(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
def test_a_killed_search_goes_on_to_the_bit(stop, tmp_path):
    def save_and_die(state):
        if state.generation == stop:
            np.savez(tmp_path / "legr.npz", **state._asdict())
            raise KilledError

    expected = search()
    with pytest.raises(KilledError):
        search(callback=save_and_die)
    with np.load(tmp_path / "legr.npz") as saved:
        state = iterate.LegrState(**saved)
    evaluated = []
    found = search(state=state, callback=evaluated.append)
    assert len(evaluated) == 10 - stop
    assert_same(found.state, expected.state)
    assert_same(found.masks, expected.masks)
    assert found.affine == expected.affine
    assert state.generation == stop  # what was given is left alone


def test_a_state_survives_orbax(tmp_path):
    state = history()[5]
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "legr", state._asdict())
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "legr")
    assert_same(search(state=iterate.LegrState(**restored)).state, search().state)


def test_a_finished_search_evaluates_nothing():
    expected = search()
    found = search(lambda masks: pytest.fail("evaluated"), state=expected.state)
    assert_same(found.masks, expected.masks)
    assert found.fitness == expected.fitness


@pytest.mark.parametrize(
    "changed",
    [{"params": many(5)}, {"population": 5}, {"key": jax.random.key(1, impl="rbg")}],
)
def test_a_state_of_another_search(changed):
    with pytest.raises(ValueError, match=r"state\.\w+ is .*resume with the params"):
        search(state=search().state, **changed)


def test_a_state_of_another_key():
    with pytest.raises(ValueError, match="state was made with another key"):
        search(state=search().state, key=jax.random.key(1))


# Trees, rules and places


def test_leaves_with_their_own_sparsity_or_score_are_not_learned():
    params = many(5, (4, 6))
    rules = [
        jp.Rule("layer01/kernel", sparsity=1 / 3),
        jp.Rule("layer02/kernel", score=jnp.abs),
        jp.Rule("layer03/kernel", dense=True),
    ]
    found = search(params=params, rules=iter(rules))
    assert list(found.affine) == ["layer00/kernel", "layer04/kernel"]
    assert int(found.masks["layer01"]["kernel"].any(0).sum()) == 4
    assert found.masks["layer03"]["kernel"] is None
    made = jp.masks.make(
        params, 0.25, score=found.score, rules=rules, pattern=jp.Channel(), scope="global"
    )
    kept = [int(made[f"layer0{i}"]["kernel"].any(0).sum()) for i in (0, 2, 4)]
    assert sum(kept) == round(18 * 0.75)


def test_bounds_hold_for_every_candidate():
    def fitness(masks):
        kept = [np.asarray(layer["kernel"]).any(0).sum() for layer in masks.values()]
        assert min(kept) >= 2
        return 0

    search(fitness, many(3, (4, 8)), sparsity=0.75, max_sparsity=0.75)


def test_a_budget_of_cost_holds_for_every_candidate():
    """FLOPs instead of filters: what is left fits half of them, up to one filter."""
    params = make_params()
    paths = [f"{name}/kernel" for name in params]
    uses = dict(zip(paths, (64, 16, 1), strict=True))
    cost = {p: uses[p] * params[p.split("/")[0]]["kernel"].size for p in paths}
    dearest = max(cost[p] // params[p.split("/")[0]]["kernel"].shape[-1] for p in paths)
    left = []

    def fitness(masks):
        left.append(sum(uses[p] * int(masks[p.split("/")[0]]["kernel"].sum()) for p in paths))
        return 0.0

    search(fitness, params, cost=cost)
    assert all(0 <= sum(cost.values()) // 2 - x < dearest for x in left)
    assert len(set(left)) > 1


def test_a_module_with_functions_for_leaves():
    mlp = eqx.nn.MLP(4, 3, 8, depth=2, key=jax.random.key(0))
    rules = [jp.Rule("layers/2/.*", dense=True)]
    seen = []
    found = search(lambda masks: seen.append(masks) or 0.0, mlp, pattern=jp.Channel(0), rules=rules)
    assert list(found.affine) == ["layers/0/weight", "layers/1/weight"]
    assert seen[0].activation is None
    assert sum(int(layer.weight.any(1).sum()) for layer in found.masks.layers[:2]) == 8
    pruned = jp.apply_masks(mlp, found.masks)
    assert pruned(jnp.ones(4)).shape == (3,)


def test_strange_weights_keep_the_search_finite():
    params = many(4, (4, 6))
    params["layer00"]["kernel"][1, 2] = np.nan
    params["layer01"]["kernel"][0, 3] = np.inf
    params["layer02"]["kernel"] = np.zeros((4, 0), np.float32)
    params["layer03"]["kernel"][:] = np.nan
    found = search(params=params, mutate=1.0)
    assert np.isfinite(found.state.shift).all()
    assert not found.masks["layer00"]["kernel"][:, 2].any()
    assert found.masks["layer01"]["kernel"][:, 3].all()
    finite = np.delete(params["layer00"]["kernel"], 2, 1)
    states = history(params=params, population=300, generations=301)
    spread = states[299].shift[1:, 0].std()
    np.testing.assert_allclose(spread, np.std(squared_norms(finite).sum(1)), rtol=0.1)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_sharded_params_give_the_same_search(kind):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))
    params = make_params(((8, 16), (16, 8)))
    with jax.set_mesh(mesh):
        placed = jax.tree.map(
            lambda w: jax.device_put(
                w, NamedSharding(mesh, PartitionSpec(*(("x", "y") if w.ndim == 2 else (None,))))
            ),
            params,
        )
        found = search(params=placed)
    expected = search(params=params)
    assert_same(found.state, expected.state)
    assert_same(found.masks, expected.masks)
    assert found.masks["layer00"]["kernel"].sharding.spec == PartitionSpec("x", "y")


# What is wrong


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"sparsity": 1.0}, ValueError, "sparsity=1.0 must be a fraction"),
        ({"key": 0}, TypeError, "key=0 is not a PRNG key"),
        ({"sample": 5}, ValueError, "sample=5 must be 1 to population=4"),
        ({"sample": 0}, ValueError, "sample=0 must be 1 to"),
        ({"generations": 0}, ValueError, "generations=0 must exceed population=4"),
        ({"generations": 4}, ValueError, "generations=4 must exceed population=4"),
        ({"population": 4.5}, TypeError, "population=4.5 is not a whole number"),
        ({"mutate": 0}, ValueError, "mutate=0 must be a fraction of the leaves"),
        ({"mutate": 1.5}, ValueError, "mutate=1.5 must be"),
        ({"mutate": "10%"}, TypeError, "mutate='10%' is not a number"),
        ({"mutate": True}, TypeError, "mutate=True is not a number"),
        ({"pattern": jp.Channel}, TypeError, "pattern: .* is no pattern"),
        ({"rules": [jp.Rule("nothing")]}, ValueError, "matches no leaf"),
        ({"rules": [jp.Rule(".*kernel", dense=True)]}, ValueError, "nothing is prunable"),
        (
            {"rules": [jp.Rule("layer0[12]/kernel", sparsity=0.5)]},
            ValueError,
            "legr ranks leaves against each other, and here it ranks 1: .*prune_params",
        ),
    ],
)
def test_bad_arguments(changed, error, match):
    with pytest.raises(error, match=match):
        search(lambda masks: pytest.fail("evaluated"), **changed)


@pytest.mark.parametrize("value", [None, "good", np.ones(1), [1.0]])
def test_a_fitness_that_is_no_number(value):
    with pytest.raises(TypeError, match="it must give one number, where higher is better"):
        search(lambda masks: value)


def test_a_ranking_of_another_tree():
    found = search()
    with pytest.raises(ValueError, match=r"this ranking knows no leaf other/kernel.*layer00"):
        jp.prune_params({"other": {"kernel": np.ones((4, 4))}}, 0.5, score=found.score)


def test_a_progress_bar(capsys):
    expected = search(progress=True)
    assert "10/10" in capsys.readouterr().err
    assert_same(expected.state, search().state)


def test_a_missing_tqdm_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"progress=True needs tqdm.*jaxprune\[report\]"):
        search(progress=True)


# The reason


def predict(params, x):
    for name in ("first", "second"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params["head"]["kernel"]


@jax.jit
def loss(params, x, y):
    return jnp.mean((jax.vmap(predict, (None, 0))(params, x) - y) ** 2)


def descend(loss, params, steps, rate):
    tx = optax.adam(rate)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=steps)[0][0]


@jax.jit
def train(key):
    """A trained network, and data: to train on, to choose by, to test on.

    Its first layer is then multiplied by 10 and its second by 1/10, which leaves the function as it
    was: ReLU is homogeneous.
    """
    keys = jax.random.split(key, 4)
    widths = {"first": (6, 16), "second": (16, 16), "head": (16, 3)}
    params = {
        name: {"kernel": jax.random.normal(k, shape) / shape[0] ** 0.5, "bias": jnp.zeros(shape[1])}
        for k, (name, shape) in zip(keys, widths.items(), strict=False)
    }
    x = jax.random.normal(keys[3], (3, 256, 6))
    y = jnp.stack([jnp.sin(x[..., 0] + x[..., 1]), x[..., 2] * x[..., 3], x[..., 4]], -1)
    params = descend(lambda params: loss(params, x[0], y[0]), params, 500, 1e-2)
    first = jax.tree.map(lambda w: 10 * w, params["first"])
    second = params["second"] | {"kernel": params["second"]["kernel"] / 10}
    return params | {"first": first, "second": second}, x, y


@jax.jit
def tuned(params, masks, x, y):
    """The losses after 30 steps of fine-tuning: on each part of the data."""

    def pruned_loss(params):
        return loss(jp.apply_masks(params, masks), x[0], y[0])

    params = jp.apply_masks(descend(pruned_loss, params, 30, 3e-3), masks)
    return jax.vmap(loss, (None, 0, 0))(params, x, y)


def test_where_layers_have_other_scales_the_plain_norm_fails_and_a_learned_ranking_does_not():
    """One search, at half the filters; the ranking is better at other budgets, too."""
    budget = {"pattern": jp.Channel(), "rules": [jp.Rule("head/.*", dense=True)]}
    most = {0.4: 0.8, 0.5: 0.75, 0.6: 0.9}  # of the plain norm's loss
    for seed in range(3):
        params, x, y = train(jax.random.key(seed))
        found = iterate.legr(
            lambda masks: -tuned(params, masks, x, y)[1],  # noqa: B023
            params,
            sparsity=0.5,
            key=jax.random.key(seed),
            population=10,
            sample=4,
            generations=40,
            **budget,
        )
        for sparsity, ratio in most.items():
            masks = [
                jp.masks.make(params, sparsity, score=score, scope="global", **budget)
                for score in (jnp.square, found.score)
            ]
            plain, learned = (float(tuned(params, m, x, y)[2]) for m in masks)
            assert learned < ratio * plain, (seed, sparsity)
            if sparsity >= 0.5:  # nothing is left of the second layer but a constant
                assert not masks[0]["second"]["kernel"].any()
                np.testing.assert_allclose(plain, y[2].var(), rtol=0.15)
