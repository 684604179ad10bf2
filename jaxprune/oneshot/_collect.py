"""What criteria need of data: gradients of a loss over batches, streamed."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxprune import _table
from jaxprune._checks import is_traced
from jaxprune._tree import flatten, floating, replaced
from jaxprune.masks._make import place
from jaxprune.masks._setup import Setup
from jaxprune.masks._targets import options, resolve
from jaxprune.patterns import Unstructured
from jaxprune.scores import magnitude
from jaxprune.scores._criterion import started

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
    return Stream(setup, params, loss, batches, per_example, progress)(params)


class Stream:
    """The programs that collect, compiled once for all rounds of pruning.

    They see a dict from path to floating array; other leaves, such as functions in a module, are
    put back where the loss is called.
    """

    def __init__(self, setup: Setup, params, loss, batches, per_example, progress):
        if not callable(loss):
            raise TypeError(f"loss={loss!r} is no function; pass loss(params, batch) -> scalar.")
        if batches is None:
            raise ValueError("loss is given without data; pass batches=, an iterable of batches.")
        self.setup, self.batches = setup, batches
        self.paths, self.leaves, self.structure = flatten(params)
        self.loss_of_tree = loss
        self.per_example, self.progress = per_example, progress
        probes = {t.criterion.probe for t in setup.targets}
        self.probes = [probe for probe in probes if probe is not None]
        self.memories: list[Any] = [t.criterion.memory for t in setup.targets]
        self.first = jax.jit(self._gradients, donate_argnums=1)
        self.second = jax.jit(self._probes, donate_argnums=2)

    def __call__(self, params) -> Collected:
        """What is collected at `params`, of the tree that the programs are for."""
        paths, leaves, _ = flatten(params)
        real = floating(paths, leaves)
        if self.probes and isinstance(self.batches, Iterator):
            raise TypeError(
                "the criterion probes the loss, which reads the batches twice, and batches is an "
                "iterator that can be read once; pass a list."
            )
        sums, memory = self._run(self.first, real, self._start(real, probed=False))
        if self.probes:
            start = self._start(real, probed=True)
            probed, more = self._run(functools.partial(self.second, sums), real, start)
            sums = sums | probed
            memory = [a if b is None else b for a, b in zip(memory, more, strict=True)]
        grads = [sums[t.path] if "grad" in t.criterion.needs else None for t in self.setup.targets]
        return Collected(
            place(self.setup, grads, self.structure), place(self.setup, memory, self.structure)
        )

    def loss(self, real, batch):
        """The loss of the whole tree with those floating leaves."""
        tree = replaced(self.structure, self.paths, self.leaves, real)
        return self.loss_of_tree(tree, batch)

    def _run(self, program, real, carry):
        """Mean over batches of what `program` sums, and the memories."""
        batches, number = self.batches, 0
        if self.progress:
            batches = _table.tqdm("a progress bar")(batches, unit="batch")
        for number, batch in enumerate(batches, 1):
            if number == 1:
                self._check_loss(real, batch)
            carry = program(real, carry, batch, jnp.int32(number - 1))
        if not number:
            raise ValueError("batches is empty: a criterion cannot be had from no data.")
        sums, memory, bad = carry
        if not is_traced(bad) and int(bad) >= 0:
            raise ValueError(
                f"the gradient of batch {int(bad)} has NaN or infinite elements, which rank "
                "nothing; leave it out, or mend the loss."
            )
        return jax.tree.map(lambda x: x / number, sums), memory

    def _check_loss(self, real, batch):
        value = jax.eval_shape(self.loss, real, batch)
        if getattr(value, "shape", None) != ():
            shape = getattr(value, "shape", type(value).__name__)
            raise TypeError(f"loss(params, batch) gave {shape}, not a scalar; take its mean.")

    def _start(self, real, probed):
        wanted = {t.path for t in self.setup.targets if (t.criterion.probe is not None) == probed}
        memory = [
            started(rule, real[t.path]) if rule is not None and t.path in wanted else None
            for t, rule in zip(self.setup.targets, self.memories, strict=True)
        ]
        # A probe is given the gradient of the whole tree.
        every = {p: x for p, x in real.items() if p in wanted or (self.probes and not probed)}
        sums = {p: jnp.zeros_like(x, dtype=jnp.float32) for p, x in every.items()}
        return sums, memory, jnp.int32(-1)

    def _add(self, carry, found, real, number):
        """Sums and memories after one more gradient, or what stands in its place."""
        sums, memory, bad = carry
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(found[p])) for p in sums]))
        sums = {p: x + found[p].astype(jnp.float32) for p, x in sums.items()}
        memory = [
            m if m is None else rule.update(m, real[t.path], found[t.path])
            for t, rule, m in zip(self.setup.targets, self.memories, memory, strict=True)
        ]
        return sums, memory, jnp.where((bad < 0) & ~finite, number, bad)

    def _gradients(self, real, carry, batch, number):
        grad = jax.grad(self.loss)
        if not self.per_example:
            return self._add(carry, grad(real, batch), real, number)
        examples = _num_examples(batch)
        most = max(1, min(_AT_ONCE, _WEIGHTS_AT_ONCE // max(sum(x.size for x in real.values()), 1)))
        side = max(k for k in range(1, min(most, examples) + 1) if examples % k == 0)
        groups = jax.tree.map(lambda x: x.reshape(-1, side, 1, *x.shape[1:]), batch)

        def add_one(carry, found):
            return self._add(carry, found, real, number), None

        def add_group(carry, group):
            return lax.scan(add_one, carry, jax.vmap(grad, (None, 0))(real, group))

        sums, memory, bad = carry
        zeros = jax.tree.map(jnp.zeros_like, sums)
        (total, memory, bad), _ = lax.scan(add_group, (zeros, memory, bad), groups)
        return {p: x + total[p] / examples for p, x in sums.items()}, memory, bad

    def _probes(self, grads, real, carry, batch, number):
        grads = {p: g.astype(real[p].dtype) for p, g in grads.items()}
        found: dict[str, Any] = {}
        for probe in self.probes:
            made = probe(lambda x: self.loss(x, batch), real, grads, number)
            chosen = [t.path for t in self.setup.targets if t.criterion.probe == probe]
            found |= {p: made[p] for p in chosen}
        return self._add(carry, found, real, number)


def _num_examples(batch) -> int:
    shapes = [jnp.shape(x) for x in jax.tree.leaves(batch)]
    sizes = {shape[0] if shape else 0 for shape in shapes}
    if len(sizes) != 1 or sizes == {0}:
        raise ValueError(
            f"per_example=True, but the arrays of a batch have shapes {shapes}; examples lie along "
            "the first axis of all of them, one or more."
        )
    return sizes.pop()
