"""What was done to each layer, and how far its output is off."""

import dataclasses

from jaxprune import _table


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer: a matrix, or a stack of matrices that were pruned at once.

    Errors are relative: sums of squares over all calibration rows, divided by that of the output
    that is aimed at; of a leaf that is used several times, where it is used last. The aim is the
    output of the dense network with `prune_model(asymmetric=True)`, else what the trained weights
    make of the inputs that the layer has.

    Attributes:
      name: path of the leaf; with a number behind it where the leaf holds several matrices.
      shape: (matrices, inputs, outputs).
      size, kept: number of weights, and of those kept.
      inherited: error with the trained weights: what the pruning of earlier layers makes.
      masked: error with the trained weights that are kept.
      error: error with the weights as they are now.
      condition: of X^T X with its damping; NaN where the method does not collect it.
      seconds: time of choosing and solving, with compilation.
      note: what was out of the ordinary, or "".
    """

    name: str
    shape: tuple[int, int, int]
    size: int
    kept: int
    inherited: float
    masked: float
    error: float
    condition: float
    seconds: float
    note: str = ""

    @property
    def sparsity(self) -> float:
        """Fraction of weights that are pruned."""
        return 1 - self.kept / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True)
class Report:
    """What `prune_model` did; `str` gives a table.

    Attributes:
      layers: in the order in which they were pruned.
      missed: pairs of a path and a reason: leaves that were to be pruned and are dense, as their
        inputs could not be captured.
      seconds: of the whole call.
    """

    layers: tuple[LayerReport, ...]
    missed: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def sparsity(self) -> float:
        """Fraction of the weights of all layers that are pruned; `missed` leaves are none."""
        size = sum(layer.size for layer in self.layers)
        return 1 - sum(layer.kept for layer in self.layers) / size if size else 0.0

    def __str__(self) -> str:
        """A table; raises ImportError without rich."""
        columns = ["layer", "shape", "sparsity", "inherited", "masked", "error", "condition", "s"]
        rows = [
            [
                layer.name,
                "x".join(str(n) for n in layer.shape[layer.shape[0] == 1 :]),
                _table.percent(layer.sparsity),
                *(f"{x:.4f}" for x in (layer.inherited, layer.masked, layer.error)),
                f"{layer.condition:.1e}",
                f"{layer.seconds:.1f}",
            ]
            for layer in self.layers
        ]
        total = ["all", "", _table.percent(self.sparsity), "", "", "", "", f"{self.seconds:.1f}"]
        text = _table.render("the report", columns, rows, left=2, footer=[total])
        notes = [f"{layer.name}: {layer.note}" for layer in self.layers if layer.note]
        notes += [f"not captured, left dense: {path}: {reason}" for path, reason in self.missed]
        return "\n".join([text, *notes])
