"""Rounds of pruning, training and rewinding, with training that is known by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put

import jaxprune as jp

SHAPES = {"a": (10, 12), "b": (8, 10)}
SIZE = 200


def start(seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: {"kernel": put(rng.normal(size=shape), jnp.float32), "bias": jnp.ones(3)}
        for name, shape in SHAPES.items()
    }


def train_fn(params, masks, number):
    """Turns weights by their place, so that ranks change, and keeps pruned ones pruned."""

    def one(mask, w):
        if mask is None:
            return w
        moved = w * (1 + jnp.arange(w.size).reshape(w.shape) % (3 + number))
        return jnp.where(mask, moved, 0)

    after = jax.tree.map(one, masks, params, is_leaf=lambda x: x is None)
    kept = sum(float(jnp.sum(m)) for m in jax.tree.leaves(masks))
    return after, {"kept": kept, "round": number}


def kernels(tree):
    return {name: np.asarray(tree[name]["kernel"]) for name in SHAPES}


def assert_equal(a, b):
    for name in SHAPES:
        np.testing.assert_array_equal(kernels(a)[name], kernels(b)[name])


@pytest.mark.parametrize("rewind", ["weights", "learning rate"])
def test_rounds_are_those_of_numpy(rewind):
    """A stable sort of all trained weights that are left, in float64."""
    params, given = start(), []

    def watched(params, masks, number):
        given.append(params)
        return train_fn(params, masks, number)

    rounds = jp.iterate.lottery_tickets(params, watched, rounds=4, rewind=rewind)
    masks = {name: np.ones(shape, bool) for name, shape in SHAPES.items()}
    weights = trained = kernels(params)
    for number, one in enumerate(rounds):
        if number:
            flat = np.concatenate([np.abs(trained[n][masks[n]]).ravel() for n in SHAPES])
            order = np.argsort(-flat.astype(np.float64), kind="stable")
            kept = np.zeros(flat.size, bool)
            kept[order[: round(SIZE * 0.8**number)]] = True
            for name in SHAPES:
                part, kept = np.split(kept, [masks[name].sum()])
                masks[name] = masks[name].copy()
                masks[name][masks[name]] = part
            weights = kernels(params) if rewind == "weights" else trained
        assert_equal(one.masks, {n: {"kernel": m} for n, m in masks.items()})
        start_of = {n: {"kernel": np.where(masks[n], weights[n], 0)} for n in SHAPES}
        assert_equal(given[number], start_of)
        trained = kernels(one.params)
        assert one.metrics == {"kept": round(SIZE * 0.8**number), "round": number}
        assert one.number == number
        assert one.masks["a"]["bias"] is None


def test_replicates_are_runs_side_by_side():
    members = [start(seed) for seed in (0, 1, 2)]

    def together(params, masks, number):
        alone = [
            train_fn(*(jax.tree.map(lambda x: x[i], tree) for tree in (params, masks)), number)  # noqa: B023
            for i in range(3)
        ]
        after = jax.tree.map(lambda *x: jnp.stack(x), *(params for params, _ in alone))
        return after, {"kept": [metrics["kept"] for _, metrics in alone]}

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    rounds = jp.iterate.lottery_tickets(stacked, together, rounds=3, replicates=True)
    for i, params in enumerate(members):
        expected = jp.iterate.lottery_tickets(params, train_fn, rounds=3)
        for one, other in zip(rounds, expected, strict=True):
            assert_equal(jax.tree.map(lambda x: x[i], one.masks), other.masks)  # noqa: B023
            assert one.metrics["kept"][i] == other.metrics["kept"]
    other = jp.iterate.controls(jax.random.key(0), rounds[:2], stacked, together, replicates=True)[
        "random masks"
    ][0]
    assert not np.array_equal(other.masks["a"]["kernel"][0], other.masks["a"]["kernel"][1])
    assert "(" in jp.iterate.report(rounds)


class KilledError(RuntimeError):
    """What ends a run in the middle."""


def test_a_killed_run_goes_on(tmp_path):
    def until(last):
        def train(params, masks, number):
            if number > last:
                raise KilledError
            calls.append(number)
            return train_fn(params, masks, number)

        return train

    calls = []
    with pytest.raises(KilledError):
        jp.iterate.lottery_tickets(start(), until(1), rounds=3, directory=tmp_path)
    (tmp_path / "round_002").mkdir()  # begun, and never finished
    resumed = jp.iterate.lottery_tickets(start(), until(9), rounds=3, directory=tmp_path)
    assert calls == [0, 1, 2, 3]
    whole = jp.iterate.lottery_tickets(start(), until(9), rounds=3)
    again = jp.iterate.lottery_tickets(start(), until(-1), rounds=3, directory=tmp_path)
    for a, b, c in zip(resumed, whole, again, strict=True):
        for other in (b, c):
            assert_equal(a.params, other.params)
            assert_equal(a.masks, other.masks)
            assert a.masks["a"]["kernel"].dtype == other.masks["a"]["kernel"].dtype
            assert (a.sparsity, a.metrics) == (other.sparsity, other.metrics)


def test_another_run_does_not_go_into_the_same_directory(tmp_path):
    jp.iterate.lottery_tickets(start(), train_fn, rounds=1, directory=tmp_path)
    with pytest.raises(ValueError, match=r"holds rounds with rate=0.2, not 0.5"):
        jp.iterate.lottery_tickets(start(), train_fn, rounds=1, rate=0.5, directory=tmp_path)
    with pytest.raises(ValueError, match=r"holds rounds with params="):
        jp.iterate.lottery_tickets(start(1), train_fn, rounds=1, directory=tmp_path)


def test_a_criterion_or_pattern_of_another_run_is_another_run(tmp_path):
    jp.iterate.lottery_tickets(start(), train_fn, rounds=1, directory=tmp_path)
    for changes, match in (
        ({"scope": "leaf"}, "scope='global'"),
        ({"score": jp.scores.squared}, "score="),
        ({"pattern": jp.Channel()}, "pattern="),
    ):
        with pytest.raises(ValueError, match=match):
            jp.iterate.lottery_tickets(start(), train_fn, rounds=1, directory=tmp_path, **changes)


def test_params_of_another_dtype_resume_as_they_were(tmp_path):
    def halves(params, masks, number):
        after, metrics = train_fn(params, masks, number)
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16), after), metrics

    first = jp.iterate.lottery_tickets(start(), halves, rounds=1, directory=tmp_path)
    again = jp.iterate.lottery_tickets(start(), halves, rounds=1, directory=tmp_path)
    for a, b in zip(first, again, strict=True):
        assert b.params["a"]["kernel"].dtype == jnp.bfloat16
        assert_equal(a.params, b.params)


@pytest.mark.parametrize("rewind", ["weights", "learning rate"])
def test_training_may_donate_what_it_is_given(rewind):
    donating = jax.jit(lambda params: jax.tree.map(lambda x: x * 1.5, params), donate_argnums=0)

    def train(params, masks, number):
        return donating(params), {"kept": 0.0}

    params = start()
    tickets = jp.iterate.lottery_tickets(params, train, rounds=2, rewind=rewind)
    jp.iterate.controls(jax.random.key(0), tickets, params, train, init_fn=lambda key: start(3))
    found = jp.iterate.progressive(params, train, sparsities=(0.2, 0.4), metric="kept", bound=0.0)
    for tree in (params, *(one.params for one in tickets), found.best.params):
        jax.block_until_ready(jax.tree.map(lambda x: x + 0, tree))


def test_nm_is_reached_in_the_last_round():
    def free(params, masks, number):
        return params, {}

    even = {"a": {"kernel": start()["a"]["kernel"][:8]}, "b": {"kernel": start()["b"]["kernel"]}}
    rounds = jp.iterate.lottery_tickets(even, free, rounds=2, rate=0.3, pattern=jp.NM(2, 4))
    found = jp.iterate.progressive(
        even,
        lambda p, m, n: (p, {"x": 1.0}),
        sparsities=(0.25, 0.5),
        metric="x",
        bound=0.0,
        pattern=jp.NM(2, 4),
    )
    assert all(bool(m.all()) for m in jax.tree.leaves(rounds[0].masks))
    for masks in (rounds[-1].masks, found.best.masks):
        for mask in jax.tree.leaves(masks):
            assert int(mask.reshape(-1, 4, mask.shape[1]).sum(1).max()) <= 2


def test_rules_of_single_leaves_begin_dense():
    rules = [jp.Rule("b/kernel", sparsity=0.75)]
    rounds = jp.iterate.lottery_tickets(start(), train_fn, rounds=3, rules=rules)
    kept = [int(one.masks["b"]["kernel"].sum()) for one in rounds]
    assert kept[0] == 80
    assert kept[-1] == 20
    assert kept == sorted(kept, reverse=True)


def test_controls_have_the_sparsity_of_the_ticket():
    params = start()
    tickets = jp.iterate.lottery_tickets(params, train_fn, rounds=2)
    seen = []

    def watched(params, masks, number):
        seen.append((params, masks))
        return train_fn(params, masks, number)

    found = jp.iterate.controls(
        jax.random.key(3), tickets, params, watched, init_fn=lambda key: start(9), progress=True
    )
    assert list(found) == ["random masks", "random init"]
    for name, runs in found.items():
        assert [one.number for one in runs] == [1, 2]
        for one, ticket in zip(runs, tickets[1:], strict=True):
            same = [np.array_equal(kernels(one.masks)[n], kernels(ticket.masks)[n]) for n in SHAPES]
            assert all(same) if name == "random init" else not any(same)
            for n in SHAPES:
                assert kernels(one.masks)[n].sum() == kernels(ticket.masks)[n].sum()
    for (given, masks), weights in zip(seen[:2], [params, start(9)], strict=True):
        for n in SHAPES:
            expected = np.where(kernels(masks)[n], kernels(weights)[n], 0)
            np.testing.assert_array_equal(kernels(given)[n], expected)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"rate": 0.0}, ValueError, "rate=0"),
        ({"rate": 1.5}, ValueError, "rate=1.5"),
        ({"rounds": -1}, ValueError, "rounds=-1"),
        ({"rewind": "sometimes"}, ValueError, "rewind='sometimes'"),
        ({"train_fn": lambda p, m, n: p}, TypeError, "train_fn gave dict in round 0"),
        ({"score": jp.scores.saliency}, ValueError, "needs gradients"),
    ],
)
def test_what_is_wrong_is_said(changes, error, match):
    arguments = {"train_fn": train_fn, "rounds": 1} | changes
    with pytest.raises(error, match=match):
        jp.iterate.lottery_tickets(start(), **arguments)


# ---- progressive -----------------------------------------------------------------------------


def quality(masks):
    return sum(float(jnp.sum(m)) for m in jax.tree.leaves(masks)) / SIZE


def retrain(params, masks, number):
    return params, {"quality": quality(masks)}


def test_it_stops_below_the_bound_and_steps_back():
    found = jp.iterate.progressive(
        start(), retrain, sparsities=(0.2, 0.5, 0.8, 0.9), metric="quality", bound=0.4
    )
    assert found.accepted == [True, True, False]
    assert found.best is found.rounds[1]
    assert quality(found.best.masks) == 0.5


def test_half_steps_find_the_sparsest_within_the_bound():
    found = jp.iterate.progressive(
        start(), retrain, sparsities=(0.5, 0.9), metric="quality", bound=0.4, halvings=6
    )
    assert 0.59 < found.best.sparsity <= 0.6
    assert len(found.rounds) == 8
    for one, kept in zip(found.rounds, found.accepted, strict=True):
        assert kept == (quality(one.masks) >= 0.4)


def test_what_is_pruned_stays_so_and_a_failure_leaves_no_trace():
    given = []

    def watched(params, masks, number):
        given.append(params)
        return train_fn(params, masks, number)[0], {"quality": 0.0 if number == 2 else 1.0}

    found = jp.iterate.progressive(
        start(), watched, sparsities=(0.3, 0.6), metric="quality", bound=0.5, halvings=1
    )
    first, _, last = found.rounds
    assert found.best is last
    for n in SHAPES:
        assert not (kernels(last.masks)[n] & ~kernels(first.masks)[n]).any()
        expected = np.where(kernels(last.masks)[n], kernels(first.params)[n], 0)
        np.testing.assert_array_equal(kernels(given[2])[n], expected)


def test_nothing_good_gives_what_was_there():
    params = start()
    found = jp.iterate.progressive(
        params,
        lambda p, m, n: (p, {"quality": float("nan")}),
        sparsities=(0.1,),
        metric="quality",
        bound=-1e9,
    )
    assert found.accepted == [False]
    assert found.best.params is params
    assert found.best.sparsity == 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sparsities": (0.5, 0.2)}, "must ascend"),
        ({"sparsities": ()}, "must ascend"),
        ({"metric": "speed"}, "metric='speed' is not among"),
        ({"halvings": -1}, "halvings=-1"),
    ],
)
def test_wrong_arguments_of_progressive(changes, match):
    arguments = {"sparsities": (0.5,), "metric": "quality", "bound": 0.0} | changes
    with pytest.raises(ValueError, match=match):
        jp.iterate.progressive(start(), retrain, **arguments)


def test_shuffled_masks_keep_the_numbers():
    masks = {"a": jnp.arange(40).reshape(8, 5) < 7, "b": None}
    one, two = (jp.masks.shuffle(jax.random.key(i), masks) for i in (0, 1))
    assert one["b"] is None
    assert int(one["a"].sum()) == int(two["a"].sum()) == 7
    assert not np.array_equal(one["a"], two["a"])
    with pytest.raises(TypeError, match="masks are bool"):
        jp.masks.shuffle(jax.random.key(0), {"a": jnp.ones(3)})
