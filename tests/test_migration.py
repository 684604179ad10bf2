"""The pages of migration name every public name, and what they say gives the same masks."""

import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprune as jp
from jaxprune import scores

DOCS = pathlib.Path(__file__).parents[1] / "docs"
JAXPRUNER = """
    ALGORITHM_REGISTRY all_algorithm_names create_updater_from_config register_algorithm apply_mask
    BaseUpdater NoPruning SparseState NoUpdateSchedule OneShotSchedule PeriodicSchedule
    PolynomialSchedule SparsityType summarize_intersection summarize_sparsity MagnitudePruning
    RandomPruning SaliencyPruning GlobalMagnitudePruning GlobalSaliencyPruning RigL SET
    StaticRandomSparse SteMagnitudePruning SteRandomPruning wrap_optax pre_forward_update
    post_gradient_update instant_sparsify calculate_scores create_masks get_initial_masks init_state
    update_state apply_masks scheduler skip_gradients is_sparse_gradients sparsity_type topk_fn
    sparsity_distribution_fn rng_seed use_packed_masks use_normalization normalization_eps
    drop_fraction_fn eps is_debug algorithm dist_type sparsity update_freq update_start_step
    update_end_step drop_fraction filter_fn custom_sparsity_map get_sparsity_at_step
    is_mask_update_iter Unstructured NByM Block Channel is_sparsity_type uniform erk get_n_zeros
    get_sparsities_erdos_renyi NOT_DIM_ONE_FILTER_FN KERNEL_FILTER_FN get_topk_fn
    topk_mask_calculator topk_n_by_m_mask_calculator topk_block_mask_calculator
    topk_channel_mask_calculator only_total_sparsity inner_state target_sparsities count
    include_kernel erk_power_scale
"""


def missing(names, page):
    """The names that no table of the page has on the left, where the other library stands."""
    left = " ".join(re.findall(r"^\|(.*?[^\\])\|", page, re.M))
    code = " ".join(re.findall(r"`([^`\n]+)`", left))
    return [name for name in names if not re.search(rf"\b{name}\b", code)]


def weight(seed, shape=(6, 10)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def make(w, sparsity, **options):
    """The mask of one leaf, as NumPy."""
    return np.asarray(jp.masks.make({"kernel": w}, sparsity, **options)["kernel"])


# --- JaxPruner, by its formulas in float64 ------------------------------------------------------


def test_the_page_names_all_of_jaxpruner():
    page = (DOCS / "migrating-from-jaxpruner.md").read_text(encoding="utf-8")
    assert not missing(JAXPRUNER.split(), page)


def test_the_curve_shifted_by_a_step_is_theirs():
    start, end = 20, 80
    steps = np.arange(start, end + 1)
    x = np.clip(steps + 1 - start, 0, end - start) / (end - start)
    ours = jp.polynomial(0.8, begin=start - 1, end=end - 1)
    np.testing.assert_allclose(ours(steps), 0.8 * (1 - (1 - x) ** 3), rtol=1e-12)


def test_global_scores_divided_by_norms_are_theirs():
    a, b = weight(0), 100 * weight(1, (7, 5))
    divided = [np.abs(w.astype(np.float64)) / np.linalg.norm(w) for w in (a, b)]
    ranked = np.sort(np.concatenate([d.ravel() for d in divided]))
    threshold = ranked[-round(ranked.size * (1 - 0.7))]
    masks = jp.masks.make([a, b], 0.7, scope="global", score=scores.normalized())
    for mask, d in zip(masks, divided, strict=True):
        np.testing.assert_array_equal(mask, d >= threshold)


def test_nm_along_the_last_axis_is_theirs():
    w = weight(2, (5, 8))
    ranks = np.abs(w).reshape(5, 2, 4).argsort(-1).argsort(-1)
    np.testing.assert_array_equal(
        make(w, 0.5, pattern=jp.NM(2, 4, axis=-1)), (ranks >= 2).reshape(5, 8)
    )


def test_what_is_pruned_periodically_at_one_sparsity_can_be_built():
    when = jp.every(10, begin=20, end=80)
    assert jp.schedules.resolve_events(when, jp.constant(0.8)).all().tolist() == [
        *range(20, 81, 10)
    ]


# --- torch.nn.utils.prune, itself ---------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not among the test dependencies")


@pytest.fixture(scope="module")
def prune(torch):
    import torch.nn.utils.prune as module

    return module


def linear(torch, w):
    """A layer with this weight, (out, in)."""
    layer = torch.nn.Linear(w.shape[1], w.shape[0])
    layer.weight.data = torch.tensor(w)
    return layer


def test_the_page_names_all_of_torch(prune):
    page = (DOCS / "migrating-from-torch.md").read_text(encoding="utf-8")
    public = [
        name
        for name, value in vars(prune).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == prune.__name__
    ]
    methods = [
        name
        for cls in (prune.BasePruningMethod, prune.PruningContainer)
        for name, _ in inspect.getmembers(cls, inspect.isroutine)
        if not name.startswith("_")
    ]
    assert len(public) == 17
    assert not missing([*public, *methods, "PRUNING_TYPE"], page)


@pytest.mark.parametrize("amount", [0.3, 0.5, 0.77, 7, 0])
def test_l1_unstructured(torch, prune, amount):
    w = weight(3)
    theirs = prune.l1_unstructured(linear(torch, w), "weight", amount).weight_mask
    s = amount if isinstance(amount, float) else amount / w.size
    np.testing.assert_array_equal(make(w, s), theirs.numpy() == 1)


def test_where_a_half_is_rounded_the_counts_differ_and_can_be_made_equal(torch, prune):
    w = weight(4, (3, 5))
    theirs = prune.l1_unstructured(linear(torch, w), "weight", 0.5).weight_mask.numpy() == 1
    assert (theirs.sum(), make(w, 0.5).sum()) == (7, 8)
    np.testing.assert_array_equal(make(w, round(0.5 * 15) / 15), theirs)


def test_importance_scores(torch, prune):
    w, importance = weight(5), weight(6)
    layer = linear(torch, w)
    prune.l1_unstructured(layer, "weight", 0.4, importance_scores=torch.tensor(np.abs(importance)))
    ours = make(w, 0.4, score=scores.given({"kernel": np.abs(importance)}))
    np.testing.assert_array_equal(ours, layer.weight_mask.numpy() == 1)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("n", [1, 2, float("inf")])
def test_ln_structured(torch, prune, n, dim):
    w = weight(7)
    theirs = prune.ln_structured(linear(torch, w), "weight", 0.5, n, dim).weight_mask.numpy() == 1

    def largest(kernel):
        return jnp.broadcast_to(jnp.max(jnp.abs(kernel), 1 - dim, keepdims=True), kernel.shape)

    score = {1: scores.magnitude, 2: scores.squared}.get(n, largest)
    np.testing.assert_array_equal(make(w, 0.5, score=score, pattern=jp.Channel(dim)), theirs)


@pytest.mark.parametrize("dim", [0, 1])
def test_dimensions_are_axes_of_the_transposed_kernel(torch, prune, dim):
    w = weight(8)
    theirs = prune.ln_structured(linear(torch, w), "weight", 0.5, 1, dim).weight_mask.numpy() == 1
    kernel = make(w.T.copy(), 0.5, pattern=jp.Channel({0: -1, 1: -2}[dim]))
    np.testing.assert_array_equal(kernel.T, theirs)


def test_global_unstructured(torch, prune):
    a, b = weight(9), 3 * weight(10, (4, 7))
    layers = [linear(torch, w) for w in (a, b)]
    prune.global_unstructured([(x, "weight") for x in layers], prune.L1Unstructured, amount=0.65)
    ours = jp.masks.make([a, b], 0.65, scope="global")
    for mask, layer in zip(ours, layers, strict=True):
        np.testing.assert_array_equal(mask, layer.weight_mask.numpy() == 1)


@pytest.mark.parametrize(("n", "pattern"), [(None, jp.Unstructured()), (1, jp.Channel(0))])
def test_random_counts(torch, prune, n, pattern):
    layer = linear(torch, weight(11))
    if n is None:
        prune.random_unstructured(layer, "weight", 0.4)
    else:
        prune.random_structured(layer, "weight", 0.5, dim=0)
    s = 0.4 if n is None else 0.5
    ours = make(weight(11), s, score=scores.random(jax.random.key(0)), pattern=pattern)
    assert ours.sum() == layer.weight_mask.sum()


def test_a_second_call_prunes_of_what_is_left(torch, prune):
    w = weight(12, (10, 10))
    layer = linear(torch, w)
    for _ in range(3):
        prune.l1_unstructured(layer, "weight", 0.2)
    ours = make(w, jp.exponential(1 - 0.8**3, begin=0, end=3)(3))
    np.testing.assert_array_equal(ours, layer.weight_mask.numpy() == 1)


def test_masks_of_ones_own_and_what_remove_leaves(torch, prune):
    w, mask = weight(13), weight(14) > 0
    layer = prune.custom_from_mask(linear(torch, w), "weight", torch.tensor(mask))
    prune.remove(layer, "weight")
    left = layer.weight.detach().numpy()
    np.testing.assert_array_equal(jp.finalize({"kernel": w}, {"kernel": mask})["kernel"], left)
    np.testing.assert_array_equal(jp.masks.from_zeros({"kernel": left})["kernel"], mask)
