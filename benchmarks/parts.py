"""The tables of the pages on costs: which function makes which, and where it stands."""

import dataclasses
import importlib

from benchmarks import tables
from benchmarks.tables import NOTES

_ALL = ("torch", "numpy", "jaxpruner")


@dataclasses.dataclass(frozen=True)
class Part:
    """One table.

    Attributes:
      module: of this package.
      function: gives rows; it is called with `args`, `rounds`, `quick` and `options`.
      title: of the table on the terminal.
      columns: headings of the table, in order and as Markdown has them; what else the rows of the
        function have is left out.
      rounds: calls that a median is of, unless another number is asked for.
      peers: packages that it measures, too.
      page: in docs/, with a region that has the name of the part.
      named: it runs only when it is named, because it takes long or needs more than a CPU.
    """

    module: str
    function: str
    title: str
    columns: str
    rounds: int = 1
    args: tuple = ()
    options: dict = dataclasses.field(default_factory=dict)
    peers: tuple[str, ...] = ()
    page: str = "benchmarks.md"
    named: bool = False

    def rows(self, rounds=None, quick=False):
        """The figures, measured now.

        Raises:
          ValueError: a column is in no row.
        """
        function = getattr(importlib.import_module(f"benchmarks.{self.module}"), self.function)
        rounds = rounds or self.rounds
        found = list(function(*self.args, rounds=rounds, quick=quick, **self.options))
        if missing := [name for name in self.headings if all(name not in row for row in found)]:
            raise ValueError(f"{self.module}.{self.function} gives no column {missing}.")
        keep = [*self.headings, *([NOTES] if tables.notes(found) else [])]
        return [{name: row.get(name) for name in keep} for row in found]

    @property
    def headings(self):
        """The columns, one by one."""
        return self.columns.split(" | ")


_SELECTION = (
    "case | one pass, ms | jaxprune | in copies | PyTorch | NumPy | JaxPruner | "
    "temporary memory, x params | compile, s"
)
_PASSES = (
    "case | median, in place | lowest, in place | highest, in place | "
    "median, in copies | lowest, in copies | highest, in copies"
)
_STEP = (
    "optimizer | scope | plain, ms | between events, x plain | event, x plain | "
    "event less selection, x plain | temporary memory, x params | compile plain, s | compile, s"
)
_TRAINING = "training with | plain step, ms | between events, x plain | event, x plain"
_SPARSE_STEP = (
    "method | between events, x plain | event, x plain | selection, x plain | "
    "temporary, x params | compile, s"
)
_MEMBERS = "method | a member, x one alone | eight, x eight plain"
_SPEED = (
    "method | compile, s | temporary, Gram matrices | jaxprune, s | PyTorch, s | "
    "PyTorch / jaxprune | loss / theirs"
)
_QUALITY = (
    "layer | kept | SparseGPT / all | magnitude | Wanda | SparseGPT | SparseGPT, refitted | "
    "OBC | ALPS"
)
_CRITERION_COST = (
    "criterion | event, x training step | between events, x training step | "
    "state, bytes per weight | temporary, bytes per weight | training step, s | compile, s"
)
_PROBES = (
    "criterion | probe, x training step | in a loop, x training step | training step, s | "
    "compile of the loop, s"
)
_GAINED = "MACs, dense / compact | time, dense / compact"
_WIDTHS = "widths | MACs | 3x3 convolution | 1x1 convolution | dense, 1,024 rows"
_MASKED = "rows | `x @ (w * mask)` | `x @ where(mask, w, 0)` | mask baked in | columns removed"
_BLOCKS = (
    "block | sparsity | smaller, x | dense, batch 1, ms | faster, batch 1, x | "
    "dense, batch 64, ms | faster, batch 64, x"
)
_SCALE = (
    "model | devices | mesh | pattern | shard, MiB | temporary, x shard | once: operations | "
    "once: KiB | each turn: operations | each turn: KiB | GFLOP, one turn | GFLOP, plain"
)
_PAPER = "model | pod | turns | reading, ms | latency, ms | event, ms | a step, ms | event / step"


def _criteria(function, title, columns, **options):
    return Part("criterion_cost", function, title, columns, 3, named=True, **options)


def _smaller(function, title, columns):
    return Part("compaction", function, title, columns, 5, named=True)


def _elsewhere(page, module, title, columns, **options):
    return Part(module, "rows", title, columns, page=page, named=True, **options)


PARTS = {
    "selection": Part(
        "selection", "pattern_rows", "Masks, in memory passes", _SELECTION, 11, peers=_ALL
    ),
    "passes": Part("selection", "pass_rows", "Masks over 13 sparsities, in passes", _PASSES, 11),
    "criteria": Part(
        "selection", "criterion_rows", "Criteria, in memory passes", _SELECTION, 5, peers=_ALL
    ),
    "step": Part("step", "rows", "Optimizer step on the ResNet-50 tree", _STEP, 11),
    "training": Part(
        "training", "rows", "Training step of a perceptron", _TRAINING, 11, peers=("torch",)
    ),
    "sparse-step": Part("sparse_step", "cost_rows", "adam on ResNet-50", _SPARSE_STEP, 7),
    "sparse-members": Part("sparse_step", "member_rows", "adam, eight members", _MEMBERS, 7),
    "oneshot-speed": Part("oneshot", "speed_rows", "One layer", _SPEED, 3, peers=("torch",)),
    "oneshot-quality": Part("oneshot", "quality_rows", "Loss over SparseGPT's (s)", _QUALITY, 3),
    "criterion-cost": _criteria("rows", "Criteria in prune", _CRITERION_COST),
    "probes": _criteria("probe_rows", "Probes", _PROBES),
    "networks": _smaller(
        "network_rows", "Half of every group", f"network | groups | {_GAINED} | time / MACs"
    ),
    "widths": _smaller("width_rows", "A width beside another", _WIDTHS),
    "multiples": _smaller("multiple_rows", "Widths rounded", f"multiple | network | {_GAINED}"),
    "masked-product": _smaller("mask_rows", "A mask left in", _MASKED),
    "mask-format": Part(
        "mask_format",
        "rows",
        "Bytes per weight, TPU v5p",
        "leaf | adam alone | bits | bools",
        named=True,
    ),
    **{
        f"blocks-{model}": _elsewhere(
            "block-sparse.md", "block_sparse", model, _BLOCKS, rounds=11, args=(model,)
        )
        for model in ("matrix", "mlp", "decoder")
    },
    "export": _elsewhere(
        "export.md",
        "export",
        "Sparse files",
        "format | 50 % | 75 % | 90 % | 95 % | save, s | load, s",
        rounds=3,
    ),
    "scale": _elsewhere("scale.md", "scale", "The update, compiled", _SCALE),
    "scale-tpu": _elsewhere(
        "scale.md", "scale", "The same for TPU v5p", _SCALE, options={"tpu": True}
    ),
    "paper": _elsewhere("scale.md", "paper", "An event on paper", _PAPER),
}
