"""A trained model pruned layer by layer, from batches of its inputs."""

import dataclasses
import time

from jaxprune._checks import check_sparsity, is_traced
from jaxprune.masks._setup import Setup
from jaxprune.masks._targets import options, resolve
from jaxprune.masks._tied import check_untied
from jaxprune.oneshot import _cuts
from jaxprune.oneshot._layers import find_layers
from jaxprune.oneshot._march import March, listed
from jaxprune.oneshot._methods import Method, alps
from jaxprune.oneshot._report import Report
from jaxprune.oneshot._run import Run
from jaxprune.patterns import Unstructured


def prune_model(
    apply,
    params,
    batches,
    *,
    sparsity,
    method=alps(),  # noqa: B008
    pattern=Unstructured(),  # noqa: B008
    allocate=None,
    rules=(),
    sequential=True,
    asymmetric=True,
    progress=False,
):
    """Prunes a trained model from a few batches of inputs, without training it.

        for each layer, in the order in which data meets them:
            W' = argmin ||X_dense W - X W'||^2,  with as many zeros as asked for

    The call is traced and read: every matrix product and convolution of data with a leaf is a
    layer, whatever library the model is written in.

    Args:
      apply: `apply(params, batch)`, as it is called for predictions; what it returns does not
        matter. With Flax linen `lambda params, x: model.apply({"params": params}, x)`; docs/oneshot
        has NNX, Equinox and others.
      params: any pytree of arrays.
      batches: an iterable of inputs, pytrees of arrays, together a few hundred to a few thousand
        rows for each layer and more than it has inputs. All are read at once and held.
      sparsity: fraction of zeros among the prunable weights, 0 <= s < 1.
      method: which weights go, and what the others become: `oneshot.alps()`, `sparsegpt()`,
        `obc()`, `wanda()`, `magnitude()`, or another `oneshot.Method`.
      pattern: Unstructured, NM or Block. N:M lies along the inputs of each product, and blocks
        along one axis of inputs and one of outputs. `sparsity` must be that of N:M.
      allocate, rules: as in `masks.make`.
      sequential: whether a layer sees what the pruned layers before it make of the batches. Else
        all see what the dense network makes.
      asymmetric: whether the aim of a layer is its output in the dense network, also where its
        inputs have changed. Else it is what the trained weights make of the changed inputs.
        Methods that leave kept weights as they are do not need it: it changes their report alone.
      progress: whether to show a bar over layers; it needs tqdm.

    Returns:
      (params, masks, report): the params with exact zeros, where they lay and of the dtypes they
      had; masks for `keep` and others, None where a leaf is dense; and a `Report`: print it. A leaf
      whose inputs cannot be captured stays dense, and is named in `report.missed`.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind or out of range; there are no batches,
        or their inputs make NaN; a pattern does not fit a product; no leaf can be captured.
      ImportError: progress=True without tqdm.

    At the edges:
      - Weights of an input that is 0 in every row are pruned first. Where all inputs are 0,
        magnitude decides.
      - One row, or fewer than a layer has inputs: damping keeps what the rows do not determine
        near the trained weights. Twice the same batch counts twice, and changes nothing.
      - A leaf that is used several times is pruned once all its inputs were seen, for all of them;
        what came before is then run again. Uses other than products, such as the look-up of a tied
        embedding, do not count, and the report names them. Loops over time count as one layer.
        Stacked layers (`nn.scan`) are pruned one after the other.
      - Statistics are float32 sums of products at the highest precision. Beside the model, memory
        holds what later layers need of each batch, twice with `asymmetric`, and X^T X of the inputs
        of one layer at a time, two of them with `asymmetric`. The patches of a convolution are made
        for one batch at a time.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import oneshot
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> shapes = {"up": (8, 32), "down": (32, 4)}
      >>> params = {n: jax.random.normal(k, shapes[n]) for n, k in zip(shapes, keys)}
      >>> apply = lambda params, x: jax.nn.relu(x @ params["up"]) @ params["down"]
      >>> batches = [jax.random.normal(keys[2], (64, 8))]
      >>> pruned, masks, report = oneshot.prune_model(apply, params, batches, sparsity=0.5)
      >>> [layer.name for layer in report.layers], report.sparsity
      (['up', 'down'], 0.5)

    References:
      Frantar and Alistarh, SparseGPT, arXiv 2301.00774; Meng et al., ALPS, arXiv 2406.07831.
    """
    started = time.perf_counter()
    if not isinstance(method, Method):
        raise TypeError(f"method={method!r} is no Method; give one such as oneshot.sparsegpt().")
    sparsity = check_sparsity(sparsity, "sparsity")
    if is_traced(sparsity):
        raise TypeError("sparsity is traced; prune_model runs on the host, pass a Python float.")
    check_untied(pattern, "prune_model")
    chosen = options(_by_method, pattern, "leaf", allocate, rules, None, None)
    scored = next((rule for rule in chosen.rules if rule.score is not None), None)
    if scored is not None:
        raise ValueError(f"{scored} has a score, but the method decides which weights go.")
    setup, _ = resolve(params, chosen)
    march = March(apply, params, listed(batches), _cuts.orders(setup))
    layers, missed = find_layers(setup, march)
    if not layers:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in missed.items())
        raise ValueError(f"no leaf that is to be pruned meets data in a product: {reasons}.")
    kept = _cuts.kept_units(_captured(setup, missed), chosen.allocate, sparsity)
    run = Run(params, march, layers, kept, method, sequential, asymmetric and sequential)
    reports = run(progress)
    params, masks = run.result()
    seconds = time.perf_counter() - started
    return params, masks, Report(tuple(reports), tuple(missed.items()), seconds)


def _by_method(w):
    return w


def _captured(setup: Setup, missed) -> Setup:
    """What is pruned, without the leaves that could not be captured."""
    targets = [t for t in setup.targets if t.path not in missed]
    return dataclasses.replace(
        setup,
        targets=tuple(dataclasses.replace(t, group=i) for i, t in enumerate(targets)),
        labels=tuple(t.path for t in targets),
        alone=(True,) * len(targets),
    )
