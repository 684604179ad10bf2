"""What criteria need of data: gradients of a loss over batches, streamed."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune import _table
from jaxprune._checks import is_traced
from jaxprune._tree import flatten
from jaxprune.masks._make import place
from jaxprune.masks._targets import Setup, options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude

_AT_ONCE, _WEIGHTS_AT_ONCE = 16, 1 << 24  # gradients of examples made side by side


class Collected(NamedTuple):
    """What `collect` makes, for `masks.make(grads=..., memory=...)`.

    Attributes:
      grads: in the tree of the params, the mean gradient over batches, or what the probe of the
        criterion gave in its place; None where no criterion asks for it.
      memory: in the tree of the params, what criteria remember; None where they remember nothing.
    """

    grads: Any
    memory: Any


def collect(
    params,
    loss,
    batches,
    *,
    score=magnitude,
    pattern=Unstructured(),  # noqa: B008
    rules=(),
    per_example=False,
    progress=False,
) -> Collected:
    """Gradients of a loss over batches, as criteria need them, one batch at a time.

    `prune_params(loss=..., batches=...)` does this by itself; here it is for one collection and
    several sparsities.

    Args:
      params: any pytree of arrays.
      loss: `loss(params, batch) -> scalar`, a mean over the examples of the batch.
      batches: an iterable of batches, which count alike. A criterion with a probe reads them twice.
      score, pattern, rules: as in `masks.make`.
      per_example: whether criteria with a memory are given the gradient of each example, instead of
        that of each batch. Examples lie along the first axis of every array of a batch; the loss
        sees one at a time, with that axis of length 1.
      progress: whether to show a bar; it needs tqdm.

    Returns:
      `Collected`. Beside it, no more than 16 gradients are in memory at a time.

    Raises:
      TypeError, ValueError: there are no batches, the loss is no scalar, a gradient is not finite,
        or arguments are as `masks.make` refuses them.
      ImportError: progress=True without tqdm.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxprune
      >>> loss = lambda params, x: jnp.mean((x @ params["kernel"]) ** 2)
      >>> params = {"kernel": jnp.array([[1.0, 4.0], [3.0, 2.0]])}
      >>> seen = jaxprune.oneshot.collect(
      ...     params, loss, [jnp.ones((1, 2))], score=jaxprune.scores.saliency
      ... )
      >>> for sparsity in (0.25, 0.5):
      ...     masks = jaxprune.masks.make(
      ...         params, sparsity, score=jaxprune.scores.saliency, grads=seen.grads
      ...     )
      ...     print(masks["kernel"].tolist())
      [[False, True], [True, True]]
      [[False, True], [True, False]]
    """
    setup, _ = resolve(params, options(score, pattern, "leaf", None, rules, None, None))
    return Stream(setup, loss, batches, per_example, progress)(params)


class Stream:
    """The programs that collect, compiled once for all rounds of pruning."""

    def __init__(self, setup: Setup, loss, batches, per_example, progress):
        if not callable(loss):
            raise TypeError(f"loss={loss!r} is no function; pass loss(params, batch) -> scalar.")
        if batches is None:
            raise ValueError("loss is given without data; pass batches=, an iterable of batches.")
        self.setup, self.loss, self.batches = setup, loss, batches
        self.per_example, self.progress = per_example, progress
        probes = {t.criterion.probe for t in setup.targets}
        self.probes = [probe for probe in probes if probe is not None]
        self.memories: list[Any] = [t.criterion.memory for t in setup.targets]
        self.first = jax.jit(self._gradients, donate_argnums=1)
        self.second = jax.jit(self._probes, donate_argnums=2)

    def __call__(self, params) -> Collected:
        """What is collected at `params`."""
        if self.probes and isinstance(self.batches, Iterator):
            raise TypeError(
                "the criterion probes the loss, which reads the batches twice, and batches is an "
                "iterator that can be read once; pass a list."
            )
        sums, memory = self._run(self.first, params, self._start(params, probed=False))
        if self.probes:
            start = self._start(params, probed=True)
            probed, more = self._run(functools.partial(self.second, sums), params, start)
            sums = sums | probed
            memory = [a if b is None else b for a, b in zip(memory, more, strict=True)]
        _, leaves, structure = flatten(params)
        grads = [
            sums[t.path].astype(leaves[t.index].dtype) if "grad" in t.criterion.needs else None
            for t in self.setup.targets
        ]
        return Collected(place(self.setup, grads, structure), place(self.setup, memory, structure))

    def _run(self, program, params, carry):
        """Mean over batches of what `program` sums, and the memories."""
        batches, number = self.batches, 0
        if self.progress:
            batches = _bar(batches)
        for number, batch in enumerate(batches, 1):
            if number == 1:
                self._check_loss(params, batch)
            carry = program(params, carry, batch, jnp.int32(number - 1))
        if not number:
            raise ValueError("batches is empty: a criterion cannot be had from no data.")
        sums, memory, bad = carry
        if not is_traced(bad) and int(bad) >= 0:
            raise ValueError(
                f"the gradient of batch {int(bad)} has NaN or infinite elements, which rank "
                "nothing; leave it out, or mend the loss."
            )
        return jax.tree.map(lambda x: x / number, sums), memory

    def _check_loss(self, params, batch):
        value = jax.eval_shape(self.loss, params, batch)
        if getattr(value, "shape", None) != ():
            shape = getattr(value, "shape", type(value).__name__)
            raise TypeError(f"loss(params, batch) gave {shape}, not a scalar; take its mean.")

    def _start(self, params, probed):
        _, leaves, _ = flatten(params)
        wanted = {t.path for t in self.setup.targets if (t.criterion.probe is not None) == probed}
        memory = [
            rule.init(leaves[t.index]) if rule is not None and t.path in wanted else None
            for t, rule in zip(self.setup.targets, self.memories, strict=True)
        ]
        # A probe is given the gradient of the whole tree.
        every = {
            p: x for p, x in _real(params).items() if p in wanted or (self.probes and not probed)
        }
        sums = {p: jnp.zeros_like(x, dtype=jnp.float32) for p, x in every.items()}
        return sums, memory, jnp.int32(-1)

    def _add(self, carry, found, leaves, number):
        """Sums and memories after one more gradient, or what stands in its place."""
        sums, memory, bad = carry
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(found[p])) for p in sums]))
        sums = {p: x + found[p].astype(jnp.float32) for p, x in sums.items()}
        memory = [
            m if m is None else rule.update(m, leaves[t.index], found[t.path])
            for t, rule, m in zip(self.setup.targets, self.memories, memory, strict=True)
        ]
        return sums, memory, jnp.where((bad < 0) & ~finite, number, bad)

    def _gradients(self, params, carry, batch, number):
        _, leaves, _ = flatten(params)
        real = _real(params)
        grad = jax.grad(lambda real, batch: self.loss(_with(params, real), batch))
        if not self.per_example:
            return self._add(carry, grad(real, batch), leaves, number)
        sizes = {x.shape[0] for x in jax.tree.leaves(batch)}
        if len(sizes) != 1:
            raise ValueError(
                f"per_example=True, but the arrays of a batch have first axes of {sorted(sizes)}; "
                "examples lie along the first axis of all of them."
            )
        (examples,) = sizes
        most = max(1, min(_AT_ONCE, _WEIGHTS_AT_ONCE // max(sum(x.size for x in real.values()), 1)))
        side = max(k for k in range(1, min(most, examples) + 1) if examples % k == 0)
        groups = jax.tree.map(lambda x: x.reshape(-1, side, 1, *x.shape[1:]), batch)

        def add_one(carry, found):
            return self._add(carry, found, leaves, number), None

        def add_group(carry, group):
            return lax.scan(add_one, carry, jax.vmap(grad, (None, 0))(real, group))

        sums, memory, bad = carry
        zeros = jax.tree.map(jnp.zeros_like, sums)
        (total, memory, bad), _ = lax.scan(add_group, (zeros, memory, bad), groups)
        return {p: x + total[p] / examples for p, x in sums.items()}, memory, bad

    def _probes(self, grads, params, carry, batch, number):
        _, leaves, _ = flatten(params)
        real = _real(params)
        grads = {p: g.astype(real[p].dtype) for p, g in grads.items()}
        found: dict[str, Any] = {}
        for probe in self.probes:
            made = probe(lambda x: self.loss(_with(params, x), batch), real, grads, number)
            chosen = [t.path for t in self.setup.targets if t.criterion.probe == probe]
            found |= {p: made[p] for p in chosen}
        return self._add(carry, found, leaves, number)


def _real(params):
    """Path -> array, of the leaves that a loss can be differentiated by."""
    paths, leaves, _ = flatten(params)
    return {
        p: jnp.asarray(x)
        for p, x in zip(paths, leaves, strict=True)
        if jnp.issubdtype(jnp.result_type(x), jnp.floating)
    }


def _with(params, real):
    """The params with other floating leaves."""
    paths, leaves, structure = flatten(params)
    return structure.unflatten([real.get(p, x) for p, x in zip(paths, leaves, strict=True)])


def _bar(batches):
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise _table.missing("tqdm", "a progress bar", error) from error
    return tqdm(batches, unit="batch")
