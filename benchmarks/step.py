"""What pruning costs a training step: between events, at one, in memory, and to compile."""

import jax
import optax

import jaxprune
from benchmarks import timing, trees

OPTIMIZERS = {
    "sgd + momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(1e-3),
}
COURSES = {
    "between": {"sparsity": jaxprune.polynomial(0.9, begin=10**6, end=2 * 10**6)},
    "event": {"sparsity": 0.9, "when": jaxprune.every(1, begin=0, end=10**6)},
}


class Loop:
    """A compiled step of the optimizer alone; params and state are donated from call to call.

    With `grad`, a function of params and batch, of training: `given` then is the batch.
    """

    def __init__(self, tx, params, given, grad=None):
        def step(params, state, given):
            grads = given if grad is None else grad(params, given)
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        self.params = jax.tree.map(lambda x: x + 0, params)
        self.state = tx.init(self.params)
        self.given = given
        self.step, self.compile_s, self.temporary = timing.compiled(
            step, self.params, self.state, given, donate_argnums=(0, 1)
        )

    def __call__(self):
        self.params, self.state = self.step(self.params, self.state, self.given)
        return self.params, self.state


def rows(rounds, quick=False):
    """Rows of the table."""
    params = trees.resnet50(jax.random.key(0), trees.SMALL if quick else trees.RESNET50)
    grads = jax.tree.map(lambda x: 1e-3 * x, params)
    bytes_ = sum(x.size for x in jax.tree.leaves(params)) * 4
    for name, make in OPTIMIZERS.items():
        for scope in ("leaf", "global"):
            loops = {"plain": Loop(make(), params, grads)}
            for kind, options in COURSES.items():
                loops[kind] = Loop(jaxprune.prune(make(), scope=scope, **options), params, grads)
            select = jax.jit(lambda p, scope=scope: jaxprune.masks.make(p, 0.9, scope=scope))
            functions = {**loops, "selection": lambda: select(params)}  # noqa: B023
            times = timing.interleaved(functions, rounds=rounds)
            spare = [e - s for e, s in zip(times["event"], times["selection"], strict=True)]
            yield {
                "optimizer": name,
                "scope": scope,
                "plain, ms": timing.milliseconds(times["plain"]),
                "between events, x plain": timing.ratio(times["between"], times["plain"]),
                "event, x plain": timing.ratio(times["event"], times["plain"]),
                "event less selection, x plain": timing.ratio(spare, times["plain"]),
                "temporary memory, x params": loops["between"].temporary / bytes_,
                "compile plain, s": loops["plain"].compile_s,
                "compile, s": loops["between"].compile_s,
            }
