"""The tables of the pages on costs: which function makes which, and where it stands."""

import dataclasses
import importlib

_ALL = ("torch", "numpy", "jaxpruner")


@dataclasses.dataclass(frozen=True)
class Part:
    """One table.

    Attributes:
      module: of this package.
      function: gives rows; it is called with `args`, `rounds`, `quick` and `options`.
      title: of the table on the terminal.
      rounds: calls that a median is of, unless another number is asked for.
      peers: packages that it measures, too.
      page: in docs/, with a region that has the name of the part.
      named: it runs only when it is named, because it takes long or needs more than a CPU.
    """

    module: str
    function: str
    title: str
    rounds: int = 1
    args: tuple = ()
    options: dict = dataclasses.field(default_factory=dict)
    peers: tuple[str, ...] = ()
    page: str = "benchmarks.md"
    named: bool = False

    def rows(self, rounds=None, quick=False):
        """The figures, measured now."""
        function = getattr(importlib.import_module(f"benchmarks.{self.module}"), self.function)
        return list(function(*self.args, rounds=rounds or self.rounds, quick=quick, **self.options))


PARTS = {
    "selection": Part("selection", "pattern_rows", "Masks, in memory passes", 11, peers=_ALL),
    "passes": Part("selection", "pass_rows", "Masks over 13 sparsities, in memory passes", 11),
    "criteria": Part("selection", "criterion_rows", "Criteria, in memory passes", 5, peers=_ALL),
    "step": Part("step", "rows", "Optimizer step on the ResNet-50 tree", 11),
    "training": Part("training", "rows", "Training step of a perceptron", 11, peers=("torch",)),
    "sparse-step": Part("sparse_step", "cost_rows", "adam on the ResNet-50 tree", 7),
    "sparse-members": Part("sparse_step", "member_rows", "adam, eight members", 7),
    "oneshot-speed": Part("oneshot", "speed_rows", "One layer", 3, peers=("torch",)),
    "oneshot-quality": Part("oneshot", "quality_rows", "Loss over SparseGPT's (seconds)", 3),
    "criterion-cost": Part("criterion_cost", "rows", "Criteria in prune", 3, named=True),
    "probes": Part("criterion_cost", "probe_rows", "Probes", 3, named=True),
    "networks": Part("compaction", "network_rows", "Half of every group", 5, named=True),
    "widths": Part("compaction", "width_rows", "A width beside another", 5, named=True),
    "multiples": Part("compaction", "multiple_rows", "Widths rounded", 5, named=True),
    "masked-product": Part("compaction", "mask_rows", "A mask left in", 5, named=True),
    "mask-format": Part("mask_format", "rows", "Bytes per weight, TPU v5p", named=True),
    **{
        f"blocks-{model}": Part(
            "block_sparse", "rows", model, 11, (model,), page="block-sparse.md", named=True
        )
        for model in ("matrix", "mlp", "decoder")
    },
    "export": Part("export", "rows", "Sparse files", 3, page="export.md", named=True),
    "scale": Part("scale", "rows", "The update, compiled", page="scale.md", named=True),
    "scale-tpu": Part(
        "scale", "rows", "The same for TPU v5p", options={"tpu": True}, page="scale.md", named=True
    ),
    "paper": Part("paper", "rows", "An event on paper", page="scale.md", named=True),
}
