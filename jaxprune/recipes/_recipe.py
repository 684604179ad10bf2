"""What a recipe is: schedules that belong together, the stages they make, a table and a plot."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprune import _figure, _table
from jaxprune._checks import is_traced
from jaxprune.schedules import Every, Schedule, resolve_events


@dataclasses.dataclass(frozen=True)
class Piecewise:
    """A piecewise constant schedule of a learning rate or a weight decay.

        values[i] for at[i - 1] <= t < at[i]; the first `warmup` steps times (t + 1) / warmup

    Args:
      at: the steps at which the value changes, ascending.
      values: the values between them, one more than `at`.
      warmup: steps of a linear rise that ends at the full value, step 0 not wasted at 0.

    Example:
      >>> from jaxprune import recipes
      >>> rate = recipes.Piecewise(at=(10,), values=(0.5, 0.25), warmup=4)
      >>> [float(rate(t)) for t in (0, 3, 9, 10)]
      [0.125, 0.5, 0.5, 0.25]
    """

    at: tuple[int, ...]
    values: tuple[float, ...]
    warmup: int = 0

    def __call__(self, step):
        """The value at a step, traced or not: float32, of the step's shape."""
        past = jnp.searchsorted(jnp.asarray(self.at, jnp.int32), step, side="right")
        value = jnp.asarray(self.values, jnp.float32)[past]
        if not self.warmup:
            return value
        rise = jnp.minimum(step, self.warmup - 1) + 1
        return (value * (rise / self.warmup)).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run, from step `begin` to before step `end`.

    Args:
      name: what the stage is for.
      begin: its first step.
      end: the first step after it.
      sparsity: at its first step, and at its end.
      learning_rate: the rates it runs through, in order.
      weight_decay: the one weight decay it has.

    Example:
      >>> from jaxprune import recipes
      >>> [stage.name for stage in recipes.gmp(1000).stages]
      ['stabilize', 'prune', 'fine-tune']
    """

    name: str
    begin: int
    end: int
    sparsity: tuple[Any, Any]
    learning_rate: tuple[float, ...]
    weight_decay: float


def _percent(value) -> str:
    return "traced" if is_traced(value) else f"{100 * value:.4g} %"


def _span(values, text) -> str:
    """The values as text with arrows between, the same one only once."""
    return " → ".join(dict.fromkeys(map(text, values)))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The schedules of a whole run; `str` gives a table of its stages, `plot` a figure.

    Args:
      total_steps: steps of the run.
      sparsity: step -> sparsity, for `prune(sparsity=...)`.
      when: the steps at which masks are recomputed, for `prune(when=...)`.
      learning_rate: step -> float32, for an optax optimizer.
      weight_decay: step -> float32, for `optax.adamw(weight_decay=...)` and its kin.
      stages: the stages in order; together they are the steps 0 to total_steps - 1, each once.

    Example:
      >>> from jaxprune import recipes
      >>> recipe = recipes.gmp(1000, sparsity=0.8)
      >>> recipe.sparsity(549), recipe.sparsity(550)
      (0.799999994, 0.8)
    """

    total_steps: int
    sparsity: Schedule
    when: Every | tuple[int, ...]
    learning_rate: Piecewise
    weight_decay: Piecewise
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        """A table of the stages; raises ImportError without rich."""
        rows = [
            (
                stage.name,
                f"{stage.begin}-{stage.end - 1}",
                _span(stage.sparsity, _percent),
                _span(stage.learning_rate, "{:g}".format),
                f"{stage.weight_decay:g}",
            )
            for stage in self.stages
        ]
        columns = ("stage", "steps", "sparsity", "learning rate", "weight decay")
        return _table.render("the table of a recipe", columns, rows)

    def plot(self, path=None):
        """Draws sparsity, learning rate and weight decay over the steps, stages shaded.

        Args:
          path: file to save to, in the format of its ending; None saves nothing.

        Returns:
          The `matplotlib.figure.Figure`; no state of pyplot is touched.

        Raises:
          ImportError: matplotlib is not installed.
          TypeError: the sparsity is traced.

        Example:
          >>> from jaxprune import recipes
          >>> [axes.get_ylabel() for axes in recipes.gmp(1000).plot().axes]
          ['sparsity', 'learning rate', 'weight decay']
        """
        if any(is_traced(value) for stage in self.stages for value in stage.sparsity):
            raise TypeError("sparsity is traced and cannot be drawn; plot outside of jit and vmap.")
        events = resolve_events(self.when, self.sparsity).all()
        edges = [edge for stage in self.stages for edge in (stage.begin, stage.end - 1)]
        even = np.linspace(0, self.total_steps, 1000).astype(int)
        steps = np.unique(
            [*even, *edges, *self.learning_rate.at, *range(self.learning_rate.warmup)]
        )
        with _figure.figure("the plot of a recipe", 7, 5, path) as figure:
            axes = figure.subplots(3, sharex=True, height_ratios=(2, 1, 1))
            _figure.schedule(axes[0], steps, self.sparsity, events)
            _figure.sparsity_axis(axes[0])
            for axis, schedule, name in (
                (axes[1], self.learning_rate, "learning rate"),
                (axes[2], self.weight_decay, "weight decay"),
            ):
                values = np.asarray(schedule(steps))
                axis.step(steps, values, where="post", color=_figure.COLORS[0])
                axis.set_ylabel(name)
            rates, decay = self.learning_rate.values, max(self.weight_decay.values)
            # A warm-up begins near 0: on a log axis it would leave no room for the reductions.
            axes[1].set(yscale="log", ylim=(min(rates) / 2, 2 * max(rates)))
            axes[2].set_ylim(-0.08 * (decay or 1), 1.15 * (decay or 1))
            axes[2].ticklabel_format(axis="y", scilimits=(-2, 3))
            _figure.shade(axes, self.stages)
            axes[2].set(xlabel="step", xlim=(0, self.total_steps))
            figure.align_ylabels()
        return figure
