"""What criteria need of training: gradients, what they remember of them, and the loss."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxprune._sharding import varying_as
from jaxprune._tree import floating, replaced
from jaxprune.masks._bits import from_bits
from jaxprune.masks._make import place
from jaxprune.masks._setup import Options, Setup
from jaxprune.scores import as_criterion
from jaxprune.scores._criterion import started


class ScoreState(NamedTuple):
    """What criteria that use gradients have in the state of `prune`.

    Attributes:
      waiting: whether an event waits for a gradient that is finite, bool.
      memory: for each kind of memory that criteria have, what it remembers: in each array's place a
        tree as the params, None for leaves of other criteria.
    """

    waiting: Any
    memory: Any


def needed(setup: Setup, grads, grow=None) -> list:
    """The gradients that criteria use, for each target; None where one uses none."""
    every = grow is not None and grow.needs_grads
    uses = [every or t.criterion.needs_grads for t in setup.targets]
    read = [grads[t.index] if u else None for t, u in zip(setup.targets, uses, strict=True)]
    for target, grad, used in zip(setup.targets, read, uses, strict=True):
        if used and grad is None:
            raise ValueError(
                f"the criterion of {target.path} reads gradients, and that of this leaf is None; "
                f"give one, or leave the leaf alone by Rule({target.path!r}, dense=True)."
            )
    return read


def alive(setup: Setup, masks, leaves) -> list | None:
    """For each target whose criterion is signed its mask, from the state; None for others.

    Where axes are tied, for all if there is one: a unit has weights in several.
    """
    if not any(t.criterion.signed for t in setup.targets):
        return None
    return [
        from_bits(mask, w) if t.criterion.signed or setup.tied is not None else None
        for t, mask, w in zip(setup.targets, masks, leaves, strict=True)
    ]


def kinds_of(chosen: Options) -> tuple:
    """The kinds of memory that criteria have."""
    return tuple(dict.fromkeys(c.memory for c in criteria_of(chosen) if c.memory is not None))


def start(setup: Setup, leaves) -> list:
    """What criteria remember at first, for each target."""
    return [
        None if m is None else started(m, w) for m, w in zip(_memories(setup), leaves, strict=True)
    ]


def stored(setup: Setup, kinds, memory, structure) -> tuple:
    """Memories of the targets as the state has them, where optax finds what is like params."""
    trees = []
    for kind in kinds:
        of_kind = [
            jax.tree.leaves(m) if other == kind else None
            for other, m in zip(_memories(setup), memory, strict=True)
        ]
        number = _structure(kind).num_leaves
        parts = [[None if x is None else x[j] for x in of_kind] for j in range(number)]
        trees.append(_structure(kind).unflatten([place(setup, p, structure) for p in parts]))
    return tuple(trees)


def recalled(setup: Setup, kinds, trees, structure) -> list:
    """For each target its memory, from the state."""
    memory: list[Any] = [None] * len(setup.targets)
    for kind, tree in zip(kinds, trees, strict=True):
        parts = [structure.flatten_up_to(x) for x in _structure(kind).flatten_up_to(tree)]
        for i, target in enumerate(setup.targets):
            if target.criterion.memory == kind:
                memory[i] = _structure(kind).unflatten([part[target.index] for part in parts])
    return memory


def stand_ins(kinds, params) -> tuple:
    """In the place of each array of a memory `params`, where it is shaped like a leaf."""

    def stand_in(x):
        return params if x.shape == _LEAF.shape else "not shaped like params"

    return tuple(jax.tree.map(stand_in, jax.eval_shape(kind.init, _LEAF)) for kind in kinds)


_LEAF = jax.ShapeDtypeStruct((2,) * 12, np.float32)  # has any axis that a criterion may name


def _structure(kind):
    return jax.tree.structure(jax.eval_shape(kind.init, _LEAF))


def once(condition, function, carry, reads):
    """`function(carry, reads)` where the condition holds, else `carry`, without a copy of it.

    A loop of at most one turn and not a `lax.cond`: XLA updates what a loop carries in place, while
    a conditional copies it, at every step; and under vmap a loop still does nothing where nobody
    asks for a turn, while a conditional becomes a select of both branches.

    What the function computes from `reads` alone does not change from turn to turn, so XLA would
    compute it before the loop, at every step. Tied to the condition, it stays inside.
    """

    def turn(state):
        _, inside = lax.optimization_barrier((state[0], reads))
        return jnp.zeros_like(state[0]), function(state[1], inside)

    carry = varying_as(carry, (carry, reads))
    return lax.while_loop(lambda state: state[0], turn, (condition, carry))[1]


def all_finite(arrays) -> jax.Array:
    """Whether there is no NaN and no inf in them, bool."""
    each = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(arrays)]
    return jnp.all(jnp.stack(each)) if each else jnp.ones((), bool)


@functools.partial(jax.jit, static_argnames=("setup", "events"))
def remember(setup: Setup, events, leaves, grads, memory, step, waiting):
    """What criteria remember after the update at `step`; after the last event, nothing new.

    Those with a window look at the last updates before an event only.
    """
    steps = events.all()
    upcoming = jnp.asarray(np.append(steps, np.iinfo(np.int32).max), jnp.int32)
    left = upcoming[events.index(step - 1) + 1] - step
    used = waiting | (step <= events.end)
    memory = list(memory)
    for window in {m.window for m in _memories(setup) if m is not None}:
        chosen = [i for i, m in enumerate(_memories(setup)) if m is not None and m.window == window]

        def update(old, read, chosen=chosen):
            leaves, grads = read
            return [
                _memories(setup)[i].update(m, leaves[i], _finite(grads[i]))
                for i, m in zip(chosen, old, strict=True)
            ]

        due = used if window is None else used & (waiting | (left < window))
        old = [memory[i] for i in chosen]
        for i, new in zip(chosen, once(due, update, old, (leaves, grads)), strict=True):
            memory[i] = new
    return memory


@functools.partial(jax.jit, static_argnames=("setup",))
def finish_event(setup: Setup, changed, leaves, masks, memory, updates):
    """After an event: kept weights make up for the others, and memories that reset do.

    Args:
      setup: what is pruned.
      changed: whether masks have changed in this update.
      leaves, masks, memory: of the targets; masks as the state has them.
      updates: of the targets, as they would be emitted.

    Returns:
      (memory, updates)
    """
    memory, updates = list(memory), list(updates)
    resets = [i for i, m in enumerate(_memories(setup)) if m is not None and m.resets]
    moves = [i for i, t in enumerate(setup.targets) if t.criterion.compensate is not None]
    if not resets and not moves:
        return memory, updates

    def turn(carry, read):
        (old, emitted), (leaves, masks, memory) = carry, read
        known = dict(zip(resets, old, strict=True))
        moved = []
        for i, u in zip(moves, emitted, strict=True):
            w, compensate = leaves[i], setup.targets[i].criterion.compensate
            mask = from_bits(masks[i], w)
            after = compensate(w, mask, known.get(i, memory[i])) if compensate else w
            moved.append(jnp.where(mask, u + (after - w).astype(u.dtype), u))
        return [_memories(setup)[i].init(leaves[i]) for i in resets], moved

    carry = [memory[i] for i in resets], [updates[i] for i in moves]
    fresh, moved = once(changed, turn, carry, (leaves, masks, memory))
    for i, m in zip(resets, fresh, strict=True):
        memory[i] = m
    for i, u in zip(moves, moved, strict=True):
        updates[i] = u
    return memory, updates


def _memories(setup: Setup) -> list[Any]:
    return [t.criterion.memory for t in setup.targets]


def _finite(grad):
    return jnp.where(jnp.isfinite(grad), grad, jnp.zeros((), grad.dtype))


def probed(setup: Setup, paths, leaves, structure, grads, read, step, loss) -> list:
    """What criteria with a probe take in place of gradients, for each target; others have theirs.

    Args:
      setup: what is pruned.
      paths, leaves, structure: of the params.
      grads: of all leaves of the params.
      read: from `needed`.
      step: int32.
      loss: params -> scalar.
    """
    real = floating(paths, leaves)
    of_real = {
        path: jnp.zeros_like(real[path]) if g is None else g.astype(real[path].dtype)
        for path, g in zip(paths, grads, strict=True)
        if path in real
    }

    def loss_of_real(chosen):
        return loss(replaced(structure, paths, leaves, chosen))

    probes: set[Any] = {t.criterion.probe for t in setup.targets} - {None}
    made = {probe: probe(loss_of_real, real, of_real, step) for probe in probes}
    return [
        grad if t.criterion.probe is None else made[t.criterion.probe][t.path]
        for t, grad in zip(setup.targets, read, strict=True)
    ]


def criteria_of(chosen: Options) -> list:
    """The criterion of the call and those of its rules."""
    own = [as_criterion(rule.score) for rule in chosen.rules if rule.score is not None]
    return [chosen.score, *own]


def uses_grads(chosen: Options, grow=None) -> bool:
    """Whether a criterion, of what stays or of what grows, reads gradients."""
    return any(criterion.needs_grads for criterion in (*criteria_of(chosen), *_maybe(grow)))


def _maybe(criterion):
    return () if criterion is None else (criterion,)


def check_criteria(chosen: Options, inner, grow=None):
    """What is known before a tree is seen: raw gradients are there, and probes have no memory."""
    for criterion in (*criteria_of(chosen), *_maybe(grow)):
        if inner is None and criterion.needs_grads:
            raise ValueError(
                "the criterion needs raw gradients, but a transform without inner, chained last, "
                "sees updates of the optimizer; wrap the optimizer instead: prune(optimizer, ...)."
            )
        if grow is not None and criterion.probe is not None:
            raise ValueError(
                "score: the criterion probes the loss, in place of the gradients that weights grow "
                "by; give one of weights or gradients, such as jaxprune.scores.magnitude."
            )
        if criterion.memory is not None and criterion.probe is not None:
            raise ValueError(
                "the criterion remembers what it probes the loss for, which would cost a probe at "
                "every step; in training give one of memory and probe, or use prune_params."
            )


def loss_of(extra, params):
    """The loss that probes look at, from the extra arguments of an update."""
    hidden = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
    if any(isinstance(x, optax.MaskedNode) for x in hidden):
        raise ValueError(
            "the criterion looks at the loss of whole params, of which optax.masked or "
            "optax.partition shows a part; put prune outside of them, and leave leaves alone by "
            "Rule(path, dense=True)."
        )
    if not callable(extra.get("value_fn")):
        raise ValueError(
            "the criterion looks at the loss itself: call tx.update(grads, state, params, "
            "value_fn=loss), where loss(params) is the loss of this step's batch."
        )
    return extra["value_fn"]
