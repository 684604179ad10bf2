"""Sensitivity: each leaf pruned alone, by hand and by the library."""

import itertools
import sys

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import heard
from draws import put
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from jaxprune import NM, Channel, Rule, Unstructured, analysis, apply_masks, prune_params, scores
from jaxprune.analysis import Sensitivity, sensitivity

GRID = (0.5, 0.75)
RNG = np.random.default_rng(0)
PARAMS = {
    "first": {
        "kernel": RNG.normal(size=(8, 12)).astype(np.float32),
        "bias": np.ones(12, np.float32),
    },
    "second": {"kernel": RNG.normal(size=(12, 4)).astype(np.float32)},
}
PATHS = ("first/kernel", "second/kernel")
X, Y = RNG.normal(size=(16, 8)), RNG.normal(size=(16, 4))


def outputs(xp, params, x):
    hidden = x @ params["first"]["kernel"] + xp.broadcast_to(params["first"]["bias"], (len(x), 12))
    return hidden @ params["second"]["kernel"]


def loss(params, batch):
    x, y = batch
    return jnp.mean((outputs(jnp, params, x) - y) ** 2)


def whole_loss(params):
    return loss(params, (jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)))


def mask_by_hand(pattern, w, sparsity):
    """A stable sort in float64: of weights, of the best of every m down a column, of columns."""
    size = np.abs(w.astype(np.float64))
    ahead = np.ones(w.shape, bool)
    if isinstance(pattern, Channel):
        order = np.argsort(-size.mean(0), kind="stable")
        columns = np.isin(np.arange(w.shape[1]), order[: round(w.shape[1] * (1 - sparsity))])
        return np.broadcast_to(columns, w.shape)
    if isinstance(pattern, NM):
        for column in range(w.shape[1]):
            for start in range(0, w.shape[0], pattern.m):
                group = slice(start, start + pattern.m)
                worst = np.argsort(-size[group, column], kind="stable")[pattern.n :]
                ahead[start + worst, column] = False
    order = np.argsort(np.where(ahead, -size, 0), axis=None, kind="stable")
    mask = np.zeros(w.size, bool)
    mask[order[: round(w.size * (1 - sparsity))]] = True
    return mask.reshape(w.shape)


def pruned_by_hand(name, pattern, sparsity):
    params = jax.tree.map(np.float64, PARAMS)
    w = params[name]["kernel"]
    params[name]["kernel"] = np.where(mask_by_hand(pattern, w, sparsity), w, 0.0)
    return params


@pytest.mark.parametrize("pattern", [Unstructured(), NM(2, 4), Channel()], ids=str)
def test_values_by_hand(pattern):
    found = sensitivity(whole_loss, PARAMS, sparsities=GRID, pattern=pattern)
    assert found.paths == PATHS
    assert found.sparsities == GRID
    expected, kept = np.zeros((2, 2)), np.zeros((2, 2))
    for i, name in enumerate(PARAMS):
        for j, sparsity in enumerate(GRID):
            params = pruned_by_hand(name, pattern, sparsity)
            expected[i, j] = np.mean((outputs(np, params, X) - Y) ** 2)
            kept[i, j] = np.count_nonzero(params[name]["kernel"])
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.kept, kept)
    dense = np.mean((outputs(np, jax.tree.map(np.float64, PARAMS), X) - Y) ** 2)
    np.testing.assert_allclose(found.dense, dense, rtol=1e-5)
    assert len(np.unique(np.append(expected, dense))) == 5  # or wrong cells could pass
    assert (found.values.dtype, found.kept.dtype) == (np.float64, np.int64)


def whole_numbers(shape, seed):
    """Weights of which sums are exact, so that two programs agree to the bit."""
    return np.random.default_rng(seed).integers(-40, 40, shape).astype(np.float32)


def weighted_sum(params, xp=jnp):
    """Another number for every choice of weights, near enough."""
    leaves = [xp.ravel(w) for w in jax.tree.leaves(params)]
    return sum(xp.vdot(w, xp.arange(w.size, dtype=w.dtype)) for w in leaves)


def value(params):
    return float(weighted_sum(jax.device_get(params), np))


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ({}, []),
        ({"pattern": NM(1, 2)}, []),
        ({"score": jnp.square}, [Rule("a/.*", score=scores.random(jax.random.key(0)))]),
        ({}, [Rule("a/.*", pattern=Channel(), sparsity=0.25), Rule("b/.*", max_sparsity=0.5)]),
    ],
    ids=["default", "pattern", "score", "rules"],
)
def test_it_is_what_prune_params_does_to_one_leaf(options, rules):
    """Each rule for a leaf alone; sparsities and bounds of rules give way to the grid."""
    params = {name: {"kernel": whole_numbers((6, 8), i)} for i, name in enumerate("ab")}
    found = sensitivity(weighted_sum, params, sparsities=GRID, rules=rules, **options)
    for i, name in enumerate(params):
        others = Rule(f"[^{name}]/.*", dense=True)
        mine = [r for r in rules if r.path.startswith(name)]
        mine = [Rule(r.path, pattern=r.pattern, score=r.score) for r in mine]
        for j, sparsity in enumerate(GRID):
            pruned, masks = prune_params(params, sparsity, rules=[others, *mine], **options)
            assert found.values[i, j] == value(pruned)
            assert found.kept[i, j] == int(masks[name]["kernel"].sum())
    assert found.dense == value(params)


def test_scores_from_gradients():
    score = scores.Criterion(lambda w, grad: jnp.abs(w * grad), needs=("grad",))
    params = {"w": {"kernel": whole_numbers((6, 8), 0)}}
    grads = {"w": {"kernel": whole_numbers((6, 8), 1)}}
    found = sensitivity(weighted_sum, params, sparsities=(0.5,), score=score, grads=grads)
    pruned, _ = prune_params(params, 0.5, score=score, grads=grads)
    assert found.values[0, 0] == value(pruned) != found.dense
    with pytest.raises(ValueError, match="w/kernel needs gradients"):
        sensitivity(weighted_sum, params, score=score)


def test_batches_have_equal_weight_and_are_read_once():
    batches = [(X[:4], Y[:4]), (X[4:], Y[4:])]
    alone = [sensitivity(loss, PARAMS, sparsities=GRID, batches=[batch]) for batch in batches]
    found = sensitivity(loss, PARAMS, sparsities=GRID, batches=iter(batches))
    np.testing.assert_allclose(found.values, (alone[0].values + alone[1].values) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.dense, (alone[0].dense + alone[1].dense) / 2, rtol=1e-6)
    assert not np.allclose(alone[0].values, alone[1].values)


def test_accuracy():
    """Rows of the identity, and biases that win where a row is gone: counted by hand."""
    params = {"kernel": jnp.diag(jnp.array([4.0, 3, 2, 1])), "bias": jnp.array([0.5, 0, 0, 0])}

    def accuracy(params):
        logits = params["kernel"] + jnp.broadcast_to(params["bias"], (4, 4))
        return jnp.mean(logits.argmax(-1) == jnp.arange(4))

    found = sensitivity(accuracy, params, sparsities=(0.5, 0.875, 0.9375))
    assert found.curves == {"kernel": {0.0: 1.0, 0.5: 1.0, 0.875: 0.5, 0.9375: 0.25}}
    assert found.kept.tolist() == [[8, 2, 1]]


@pytest.mark.parametrize("kind", [float, jnp.int32, jnp.bfloat16, bool])
def test_any_real_scalar_is_a_metric(kind):
    def metric(params):
        return 3.0 if kind is float else jnp.sum(params["kernel"]).astype(kind)

    found = sensitivity(metric, {"kernel": jnp.ones((2, 2))}, sparsities=(0.5,))
    dense, sparse = {float: (3, 3), bool: (1, 1)}.get(kind, (4, 2))
    assert (found.dense, found.values[0, 0]) == (dense, sparse)


def test_what_is_not_finite_is_kept_and_shown(tmp_path):
    def smallest(params, sign):
        return sign / jnp.min(jnp.abs(params["kernel"]))

    params = {"kernel": jnp.array([[1.0, 2], [4, 8]])}
    one = sensitivity(smallest, params, sparsities=GRID, batches=[-1.0])
    assert one.curves == {"kernel": {0.0: -1.0, 0.5: -np.inf, 0.75: -np.inf}}
    both = sensitivity(smallest, params, sparsities=(0.5,), batches=[1.0, -1.0])
    assert both.dense == 0
    assert np.isnan(both.values).all()
    assert str(one).splitlines()[2].split() == ["kernel", "-inf", "-inf"]
    for found, label in ((one, "-inf"), (both, "nan")):
        cells = [text.get_text() for text in found.plot(tmp_path / "map.png").axes[0].texts]
        assert cells == [label] * len(found.sparsities)


def test_a_dense_metric_that_is_not_finite_can_be_drawn(tmp_path):
    found = sensitivity(
        lambda p: jnp.sum(p["kernel"]),
        {"kernel": jnp.array([[1.0, np.nan], [4, 8]])},
        sparsities=GRID,
    )
    assert np.isnan(found.dense)
    assert found.values.tolist() == [[12, 8]]
    assert "nan" in found.plot(tmp_path / "map.png").axes[1].get_ylabel()


def test_few_programs_for_many_leaves():
    """Twelve leaves of twelve shapes: the metric is traced once, and compiled once.

    Beside what `prune_params` compiles there are two more programs, which store masks.
    """
    params = {f"{i:02d}": {"kernel": whole_numbers((4, i), i)} for i in range(2, 14)}
    traces = []

    def metric(params, scale):
        traces.append(scale)
        return weighted_sum(params) * scale

    batches = [np.float32(1), np.float32(3)]
    prune_params(params, 0.5)
    with heard() as compiled:
        found = sensitivity(metric, params, sparsities=(0.5, 0.7, 0.8), batches=batches)
    assert found.values.shape == (12, 3)
    assert len(traces) == 1
    assert 0 < len(compiled) <= 3


def test_sharded_params():
    """Over eight devices, cut along either axis: the same values, one program."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = {"a": PartitionSpec("x"), "b": PartitionSpec(None, "x"), "c": PartitionSpec()}
    params = {name: {"kernel": whole_numbers((8, 16), i)} for i, name in enumerate("abc")}
    placed = {
        name: jax.device_put(leaf, NamedSharding(mesh, specs[name]))
        for name, leaf in params.items()
    }
    traces = []

    def metric(params):
        traces.append(1)
        return weighted_sum(params)

    found = sensitivity(metric, placed, sparsities=GRID)
    assert len(traces) == 1
    np.testing.assert_array_equal(
        found.values, sensitivity(weighted_sum, params, sparsities=GRID).values
    )


def assert_two_leaves(found, metric, params, paths):
    """The scan of a network at one sparsity is what `prune_params` makes of it."""
    assert found.paths == paths
    assert found.kept.tolist() == [[16], [4]]
    metric = jax.jit(metric)
    _, masks = prune_params(params, 0.75)
    leaves, structure = jax.tree.flatten(masks)
    for i, got in enumerate(found.values[:, 0]):
        only = [mask if i == j else jnp.ones_like(mask) for j, mask in enumerate(leaves)]
        expected = metric(apply_masks(params, structure.unflatten(only)))
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(found.dense, metric(params), rtol=1e-5)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="outer")(nn.relu(nn.Dense(8, name="inner")(x)))


def test_linen():
    x = put(X, jnp.float32)
    params = Linen().init(jax.random.key(0), x)["params"]

    def metric(params):
        return jnp.mean(Linen().apply({"params": params}, x) ** 2)

    found = sensitivity(metric, params, sparsities=(0.75,))
    assert_two_leaves(found, metric, params, ("inner/kernel", "outer/kernel"))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(8, 8, rngs=rngs)
        self.outer = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.outer(nnx.relu(self.inner(x)))


def test_nnx():
    graph, params = nnx.split(Net(nnx.Rngs(0)), nnx.Param)

    def metric(params):
        return jnp.mean(nnx.merge(graph, params)(jnp.asarray(X, jnp.float32)) ** 2)

    found = sensitivity(metric, params, sparsities=(0.75,))
    assert_two_leaves(found, metric, params, ("inner/kernel", "outer/kernel"))


def test_equinox_arrays_alone_and_the_module_itself():
    model = eqx.nn.MLP(8, 2, 8, 1, key=jax.random.key(0))
    arrays, rest = eqx.partition(model, eqx.is_array)

    def metric(model):
        return jnp.mean(jax.vmap(model)(jnp.asarray(X, jnp.float32)) ** 2)

    def of_arrays(arrays):
        return metric(eqx.combine(arrays, rest))

    whole = sensitivity(metric, model, sparsities=(0.75,))
    alone = sensitivity(of_arrays, arrays, sparsities=(0.75,))
    assert_two_leaves(alone, of_arrays, arrays, ("layers/0/weight", "layers/1/weight"))
    assert whole.paths == alone.paths
    np.testing.assert_array_equal(whole.values, alone.values)


def made(leaves, values=None):
    paths = tuple(f"encoder/layer_{i}/kernel" for i in range(leaves))
    values = np.arange(2.0 * leaves).reshape(-1, 2) if values is None else values
    return Sensitivity(paths, (0.5, 0.995), values, 0.25, np.ones((leaves, 2), int))


def test_the_table():
    lines = [line.split() for line in str(made(2)).splitlines()]
    assert lines[0] == ["leaf", "50", "%", "99.5", "%"]
    assert lines[2] == ["encoder/layer_0/kernel", "0.0000", "1.0000"]
    assert lines[3] == ["encoder/layer_1/kernel", "2.0000", "3.0000"]
    assert lines[4] == ["dense", "0.25"]


@pytest.mark.parametrize(("leaves", "cells"), [(2, 4), (54, 0)])
def test_the_plot(tmp_path, leaves, cells):
    found = made(leaves)
    figure = found.plot(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    axes, bar = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found.paths)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50 %", "99.5 %"]
    assert bar.get_ylabel() == "metric (dense: 0.25)"
    assert len(axes.texts) == cells
    np.testing.assert_array_equal(axes.images[0].get_array(), found.values)
    assert figure.canvas.manager is None  # pyplot does not know of it
    # All there is lies within the figure, and labels of rows do not touch.
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))


def test_one_leaf_that_breaks_does_not_hide_the_others():
    values = np.full((54, 2), 0.3)
    values[7] = 1e6
    low, high = made(54, values).plot().axes[0].images[0].get_clim()
    assert low == 0.25 < 0.3 <= high < 1


def shade(image, value):
    """How far a colour is from white, in [0, 1]."""
    return 1 - np.min(image.cmap(image.norm(value))[:3])


@pytest.mark.parametrize("leaves", [2, 3, 10, 21, 100])
@pytest.mark.parametrize("breaks", [-1e3, 1e6])
def test_the_others_are_told_apart_where_a_leaf_breaks(leaves, breaks):
    values = 0.25 + np.linspace(0.1, 0.3, leaves)[:, None] * np.array([0.1, 0.3, 1.0])
    values[leaves // 2, 1:] = breaks
    found = Sensitivity(
        tuple(map(str, range(leaves))), (0.5, 0.8, 0.9), values, 0.25, np.ones((leaves, 3), int)
    )
    image = found.plot().axes[0].images[0]
    assert shade(image, 0.25) < 0.05
    for leaf in {*range(leaves)} - {leaves // 2}:
        shades = [shade(image, value) for value in values[leaf]]
        assert shades[0] < shades[1] < shades[2]
        assert shades[2] > 0.15
    assert shade(image, 0.25 + 0.03) < 0.2 < 0.5 < shade(image, breaks)


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([[0.9, 0.5], [0.8, 0.1]], (0.1, 0.95)),  # an accuracy: none above the dense one
        ([[1.0, 2.0], [1.5, 3.0]], (0.95, 3.0)),  # a loss
        ([[0.9, 0.96], [0.94, 0.97]], (0.9, 0.97)),
        ([[0.9, 0.9], [0.9, 0.9], [0.0, 0.0]], (0.8, 0.95)),  # the last breaks
    ],
)
def test_the_scale_ends_where_values_do_and_dense_is_white(values, limits):
    paths = tuple(map(str, range(len(values))))
    found = Sensitivity(paths, (0.5, 0.9), np.array(values), 0.95, np.ones((len(values), 2), int))
    image = found.plot().axes[0].images[0]
    np.testing.assert_allclose(image.get_clim(), limits)
    assert shade(image, 0.95) < 0.05


def test_as_far_from_dense_is_as_strong_a_colour():
    values = np.array([[0.2, 0.29], [0.21, 0.25]])
    image = Sensitivity(("a", "b"), (0.5, 0.9), values, 0.25, values > 0).plot().axes[0].images[0]
    above, below = (np.array(image.cmap(image.norm(v))) for v in (0.29, 0.21))
    assert above[0] > above[2]  # orange
    assert below[2] > below[0]  # violet
    assert abs(shade(image, 0.29) - shade(image, 0.21)) < 0.3


def test_all_values_may_be_dense():
    low, high = made(3, np.full((3, 2), 0.25)).plot().axes[0].images[0].get_clim()
    assert low < 0.25 < high


@pytest.mark.parametrize("batches", [None, [1.0, 2.0], iter([1.0, 2.0])])
def test_progress(capsys, batches):
    def metric(params, scale=1.0):
        return jnp.sum(params["kernel"]) * scale

    sensitivity(
        metric, {"kernel": jnp.ones((2, 2))}, sparsities=GRID, batches=batches, progress=True
    )
    shown = capsys.readouterr().err
    assert "sensitivity" in shown
    total = {type(None): "3/3", list: "6/6"}.get(type(batches), "6it")
    assert total in shown


def test_without_progress_nothing_is_shown(capsys):
    sensitivity(weighted_sum, {"kernel": jnp.ones((2, 2))}, sparsities=(0.5,))
    assert not any(capsys.readouterr())


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("rich", str),
        ("matplotlib", Sensitivity.plot),
        ("tqdm", lambda _: sensitivity(weighted_sum, {"kernel": jnp.ones((2, 2))}, progress=True)),
    ],
    ids=["rich", "matplotlib", "tqdm"],
)
def test_a_missing_extra_says_what_to_install(monkeypatch, module, use):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}.*pip install 'jaxprune\[report\]'"):
        use(made(2))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"sparsities": ()}, ValueError, r"sparsities=\(\) must hold one sparsity or more"),
        ({"sparsities": (0.9, 0.5)}, ValueError, r"ascending and each once.*\(0\.5, 0\.9\)"),
        ({"sparsities": (0.5, 0.5)}, ValueError, r"ascending and each once.*\(0\.5,\)"),
        ({"sparsities": (0.5, 1.0)}, ValueError, r"sparsities=1\.0 must be a fraction"),
        ({"sparsities": (50, 90)}, ValueError, r"sparsities=50 must be.*Did you mean 0\.5"),
        ({"sparsities": 0.9}, TypeError, r"sparsities=0\.9 is no sequence"),
        ({"sparsities": "0.9"}, TypeError, r"sparsities='0\.9' is no sequence"),
        ({"sparsities": (True,)}, TypeError, r"sparsities=True is not a number"),
        ({"batches": []}, ValueError, r"batches is empty"),
        ({"batches": iter(())}, ValueError, r"batches is empty.*read once"),
        ({"rules": [Rule(".*", dense=True)]}, ValueError, r"nothing is prunable"),
        ({"rules": Rule(".*")}, TypeError, r"must be a sequence"),
        ({"rules": [Rule("kernle")]}, ValueError, r"kernle.*matches no leaf"),
        ({"pattern": NM(1, 4)}, ValueError, r"sparsity=0\.5 keeps more.*second/kernel|first"),
    ],
)
def test_errors(options, error, match):
    def metric(params, batch=None):
        return weighted_sum(params)

    with pytest.raises(error, match=match):
        sensitivity(metric, PARAMS, **options)


@pytest.mark.parametrize(
    ("metric", "match"),
    [
        (lambda p: p["first"]["bias"], r"metric gave float32\[12\]; it must give one real number"),
        (lambda p: (jnp.ones(()), {}), r"metric gave tuple"),
        (lambda p: None, r"metric gave NoneType"),
        (lambda p: jnp.ones((), jnp.complex64), r"metric gave complex64\[\]"),
        (0.5, r"metric=0\.5 is not a function"),
    ],
    ids=["array", "tuple", "None", "complex", "number"],
)
def test_a_metric_that_is_none(metric, match):
    with pytest.raises(TypeError, match=match):
        sensitivity(metric, PARAMS, sparsities=(0.5,))


def test_traced_sparsities():
    with pytest.raises(TypeError, match="sparsities are traced"):
        jax.jit(lambda s: analysis.sensitivity(weighted_sum, PARAMS, sparsities=[s]).values)(0.5)


def test_more_sparsities_than_fit_a_byte():
    grid = [i / 256 for i in range(256)]
    found = sensitivity(lambda p: jnp.sum(p["w"]), {"w": jnp.ones((2, 128))}, sparsities=grid)
    np.testing.assert_array_equal(found.values, [[round(256 * (1 - s)) for s in grid]])
    np.testing.assert_array_equal(found.kept, found.values)
