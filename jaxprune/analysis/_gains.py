"""What sparsity gains here: weights, multiply-adds, milliseconds and bytes, measured."""

import dataclasses
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import _table, export, sparse
from jaxprune._program import is_array
from jaxprune._tree import flatten
from jaxprune.analysis._advice import advice
from jaxprune.analysis._flops import Flops, flops
from jaxprune.analysis.plots._gains import gains as draw
from jaxprune.compact import Plan
from jaxprune.masks import apply
from jaxprune.masks._apply import match
from jaxprune.sparse import BlockELL


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to run the model.

    Attributes:
      name: "dense", "masked", "finalized", "compact", "blocks", "bcsr, products alone".
      weights: how many numbers it stores for the leaves of params.
      macs: multiply-adds that it executes.
      milliseconds: of a call, the median.
      speedup: how many times as fast as dense, the median of the ratios in each round; of products
        alone as the same products of dense matrices.
    """

    name: str
    weights: int
    macs: int
    milliseconds: float
    speedup: float


@dataclasses.dataclass(frozen=True)
class Gains:
    """What `gains` measured; `str` gives tables and what they mean.

    Attributes:
      device: where it ran.
      sparsity: fraction of the leaves of params that is zeros.
      forms: each way to run the model, dense first.
      files: format -> bytes, "dense" first; with a plan also "compact" and "compact zstd".
      advice: what this pattern gains on which hardware, and what it does not, in sentences.
    """

    device: str
    sparsity: float
    forms: tuple[Form, ...]
    files: Mapping[str, int]
    advice: tuple[str, ...]

    def __getitem__(self, name: str) -> Form:
        """A form by its name."""
        for form in self.forms:
            if form.name == name:
                return form
        raise KeyError(f"{name!r} was not measured; {', '.join(f.name for f in self.forms)} were.")

    def __str__(self) -> str:
        """Tables; raises ImportError without rich."""
        rows = [
            [f.name, f"{f.weights:,}", f"{f.macs:,}", f"{f.milliseconds:.3g}", f"{f.speedup:.2f} x"]
            for f in self.forms
        ]
        columns = ["run as", "numbers stored", "multiply-adds", "ms", "speed"]
        text = _table.render("the table of gains", columns, rows)
        dense = self.files["dense"]
        rows = [[k, f"{n:,}", f"{n / dense:.3f}" if dense else ""] for k, n in self.files.items()]
        text += "\n" + _table.render("the table of gains", ["file", "bytes", "of dense"], rows)
        lines = "\n".join(f"- {line}" for line in self.advice)
        return f"{self.device}, {_table.percent(self.sparsity)} zeros\n{text}\n{lines}"

    def plot(self, path=None):
        """Draws speed and bytes of each form, as `plots.gains` does."""
        return draw(self, path)


def gains(
    function,
    params,
    *args,
    masks=None,
    plan: Plan | None = None,
    block=(64, 64),
    formats: Sequence[str] = ("dense", "bitmask", "bitmask zstd", "npz", "csr", "bcoo"),
    rounds: int = 20,
) -> Gains:
    """Measures what the zeros of a model gain on this device, in each way there is to use them.

    - "dense": `function(params, *args)`, jitted, zeros or not.
    - "masked": with `where(mask, w, 0)` left in the function; if there are masks.
    - "finalized": of the same weights with the masks baked in; if there are masks.
    - "compact": what the plan keeps; if there is one.
    - "blocks": `sparse.sparse_apply`, if leaves have enough zeros in whole blocks.
    - "bcsr, products alone": of the matrices with masks, half or more zeros, beside the same
      products of dense matrices; no model takes BCSR for a weight as it is. On CPU in float32
      alone, where there is a kernel.

    Calls are timed in turn, round after round, so that a machine that changes its speed meets all
    of them.

    Args:
      function: the model, `function(params, *args)`, as in inference.
      params: any pytree of arrays.
      *args: a batch of the size that counts.
      masks: as `masks.apply` takes them. None: the zeros that are in params.
      plan: from `compact.plan`, for the same function and params.
      block: as in `sparse.to_blocks`.
      formats: of files, as in `export.sizes`.
      rounds: how many calls of each are timed.

    Returns:
      A `Gains`; print it, or `.plot()` it.

    Raises:
      TypeError, ValueError: as the functions named.
      ImportError: a format needs zstandard, which is not installed.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxprune
      >>> params = {"kernel": jax.random.normal(jax.random.key(0), (256, 256))}
      >>> params, masks = jaxprune.prune_params(params, 0.9)
      >>> found = jaxprune.analysis.gains(
      ...     lambda p, x: x @ p["kernel"], params, jnp.ones((8, 256)),
      ...     masks=masks, formats=["dense", "bitmask"], rounds=3,
      ... )
      >>> [form.name for form in found.forms[:3]], found.files["bitmask"] < found.files["dense"] / 5
      (['dense', 'masked', 'finalized'], True)
    """
    baked = params if masks is None else apply(params, masks)
    cost = flops(function, params, *args, masks=masks)
    weights = sum(row.size for row in cost.rows)
    calls: dict[str, Callable[[], Any]] = {"dense": _compiled(function, params, *args)}
    stored = {"dense": (weights, cost.macs)}
    if masks is not None:

        def masked(params, masks, *args):
            return function(apply(params, masks), *args)

        calls["masked"] = _compiled(masked, params, masks, *args)
        calls["finalized"] = _compiled(function, baked, *args)
        stored |= {"masked": (weights, cost.macs), "finalized": (weights, cost.macs)}
    if plan is not None:
        small = plan.cut(baked)
        calls["compact"] = _compiled(plan.apply, small, *args)
        stored["compact"] = _numbers(small), flops(plan.apply, small, *args).macs
    blocks = sparse.to_blocks(params, masks, block=block)
    leaves = flatten(blocks, is_leaf=_is_blocks)[1]
    if any(map(_is_blocks, leaves)):
        calls["blocks"] = _compiled(sparse.sparse_apply(function), blocks, *args)
        stored["blocks"] = _numbers(blocks), _block_macs(cost, leaves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # leaves that blocks are made dense of: they are timed so
        seconds = _interleaved(calls, rounds)
    forms = [
        Form(name, *stored[name], 1e3 * statistics.median(own), _ratio(seconds["dense"], own))
        for name, own in seconds.items()
    ]
    products = _bcsr(cost, baked, masks, rounds)
    forms += [] if products is None else [products]
    files = dict(export.sizes(baked, masks, formats=tuple(dict.fromkeys(["dense", *formats]))))
    if plan is not None:
        files["compact"] = export.sizes(small, formats=["dense"])["dense"]
        if "bitmask zstd" in formats:
            files["compact zstd"] = export.sizes(small, formats=["bitmask zstd"])["bitmask zstd"]
    device = jax.devices()[0]
    return Gains(
        device=f"{device.platform} ({device.device_kind})",
        sparsity=_zeros(baked),
        forms=tuple(forms),
        files=files,
        advice=advice(baked, masks, device.platform, plan is not None),
    )


def _compiled(function, *args) -> Callable[[], Any]:
    """A call of a jitted function; leaves of its arguments that are no arrays are constants."""
    leaves, structure = jax.tree.flatten(args)
    places = [i for i, x in enumerate(leaves) if is_array(x)]

    def run(*arrays):
        whole = list(leaves)
        for i, x in zip(places, arrays, strict=True):
            whole[i] = x
        made = function(*jax.tree.unflatten(structure, whole))
        return [x for x in jax.tree.leaves(made) if is_array(x)]

    program = jax.jit(run)
    arrays = [leaves[i] for i in places]
    return lambda: program(*arrays)


def _is_blocks(leaf) -> bool:
    return isinstance(leaf, BlockELL)


def _numbers(tree) -> int:
    return sum(math.prod(np.shape(x)) for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))


def _zeros(tree) -> float:
    arrays = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    total = sum(x.size for x in arrays)
    return 1 - sum(int(jnp.count_nonzero(x)) for x in arrays) / total if total else 0.0


def _block_macs(cost: Flops, leaves) -> int:
    """Multiply-adds where leaves that are blocks meet data as such."""
    total = cost.activations
    for row, leaf in zip(cost.rows, leaves, strict=True):
        share = _numbers(leaf) / row.size if _is_blocks(leaf) else 1
        total += round(row.macs * share)
    return total


def _interleaved(calls: Mapping[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, after two that do not count."""
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"rounds={rounds!r} must be a whole number from 1.")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _ratio(base, own) -> float:
    return statistics.median(a / b for a, b in zip(base, own, strict=True))


def _bcsr(cost: Flops, params, masks, rounds: int) -> Form | None:
    """Products of masked matrices alone, as BCSR, beside those of the same matrices dense."""
    if jax.default_backend() != "cpu":
        return None
    macs = {row.path: row.macs for row in cost.rows}
    paths, leaves, _ = flatten(params)
    triples = zip(paths, leaves, [None] * len(leaves), strict=True)
    stored = executed = 0
    times = {"dense": 0.0, "bcsr": 0.0}
    for path, leaf, mask in triples if masks is None else match(params, masks):
        matrix = getattr(leaf, "ndim", 0) == 2 and leaf.dtype == jnp.float32
        if (mask is None and masks is not None) or not matrix or not macs[path]:
            continue
        w = export.to_bcsr(np.asarray(leaf).T, None if mask is None else np.asarray(mask).T)
        if w.nse > leaf.size / 2:
            continue
        x = jnp.ones((leaf.shape[0], macs[path] // leaf.size), jnp.float32)
        seconds = _interleaved(_products(jnp.asarray(leaf).T, w, x), rounds)
        times = {name: times[name] + statistics.median(own) for name, own in seconds.items()}
        stored, executed = stored + w.nse, executed + w.nse * x.shape[1]
    if not stored:
        return None
    ratio = times["dense"] / times["bcsr"]
    return Form("bcsr, products alone", stored, executed, 1e3 * times["bcsr"], ratio)


def _products(dense, w, x):
    multiply = jax.jit(lambda w, x: w @ x)
    return {"dense": lambda: multiply(dense, x), "bcsr": lambda: multiply(w, x)}
