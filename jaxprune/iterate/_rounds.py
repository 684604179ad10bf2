"""Rounds of pruning and training: what one leaves behind, saved, and shown."""

import dataclasses
import json
import os
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import _table
from jaxprune._tree import flatten
from jaxprune.masks._setup import Options


@dataclasses.dataclass(frozen=True, eq=False)
class Round:
    """What a round of pruning and training leaves behind.

    Attributes:
      number: from 0, which is dense.
      sparsity: fraction of zeros among the prunable weights.
      masks: bool arrays in the tree of the params, None where a leaf is dense.
      params: after training.
      metrics: what the caller measured, by name: numbers, or arrays with one for each replicate.
    """

    number: int
    sparsity: float
    masks: Any
    params: Any
    metrics: Mapping[str, Any]


def checked(result, number) -> tuple[Any, dict[str, Any]]:
    """What `train_fn` returned: params and metrics by name, as floats or float64 arrays."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
        raise TypeError(
            f"train_fn gave {type(result).__name__} in round {number}; it must return "
            '(params, metrics), where metrics is a dict such as {"accuracy": 0.9}.'
        )
    metrics = {}
    for name, value in result[1].items():
        array = np.asarray(value, np.float64)
        metrics[str(name)] = array if array.ndim else float(array)
    return result[0], metrics


def report(rounds: Sequence[Round]) -> str:
    """A table of rounds as text: sparsity and metrics, of replicates means and ranges.

    Args:
      rounds: from `lottery_tickets`, `controls` or `progressive`.

    Returns:
      Lines of text.

    Raises:
      ImportError: rich is not installed.

    Example:
      >>> import jaxprune
      >>> dense = jaxprune.iterate.Round(0, 0.0, None, None, {"accuracy": 0.5})
      >>> print(jaxprune.iterate.report([dense]))
       round   sparsity   accuracy
      ─────────────────────────────
       0         0.00 %        0.5
    """
    names = list(dict.fromkeys(name for one in rounds for name in one.metrics))
    rows = [
        [
            str(one.number),
            _table.percent(one.sparsity),
            *(_shown(one.metrics[name]) if name in one.metrics else "" for name in names),
        ]
        for one in rounds
    ]
    return _table.render("report", ["round", "sparsity", *names], rows)


def _shown(value) -> str:
    if np.ndim(value) == 0:
        return f"{value:.4g}"
    array = np.asarray(value)
    return f"{array.mean():.4g} ({array.min():.4g} to {array.max():.4g})"


class Store:
    """Rounds in a directory: arrays by orbax, and a file of JSON that is written last."""

    def __init__(self, directory, settings: dict[str, Any]):
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise ImportError(
                "directory= needs orbax-checkpoint; install it with: "
                "pip install 'jaxprune[checkpoint]'",
                name=error.name,
            ) from error
        self._ocp = ocp
        self.directory = pathlib.Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._check(settings)

    def _check(self, settings):
        """A directory belongs to one experiment."""
        file = self.directory / "settings.json"
        if not file.exists():
            _write(file, settings)
            return
        known = json.loads(file.read_text())
        for name, value in json.loads(json.dumps(settings)).items():
            if known.get(name) != value:
                raise ValueError(
                    f"directory={str(self.directory)!r} holds rounds with {name}="
                    f"{known.get(name)!r}, not {value!r}; give another directory."
                )

    def _file(self, number):
        return self.directory / f"round_{number:03d}.json"

    def save(self, one: Round):
        """Writes a round; it counts from when its file of JSON is there."""
        arrays = {"params": _arrays(one.params), "masks": _arrays(one.masks)}
        with self._ocp.StandardCheckpointer() as saver:
            saver.save(self.directory / f"round_{one.number:03d}", arrays, force=True)
            saver.wait_until_finished()
        metrics = {name: np.asarray(value).tolist() for name, value in one.metrics.items()}
        dtypes = [str(x.dtype) for x in arrays["params"]]  # training may have changed them
        facts = {"sparsity": one.sparsity, "metrics": metrics, "dtypes": dtypes}
        _write(self._file(one.number), facts)

    def load(self, number: int, params, masks) -> Round | None:
        """A round, in the trees and placements of these params and masks; None if it is not there.

        Args:
          number: of the round.
          params, masks: trees of arrays or of shapes.
        """
        if not self._file(number).exists():
            return None
        facts = json.loads(self._file(number).read_text())
        shapes = [
            _abstract(x, x.dtype if _is_key(x) else jnp.dtype(dtype))
            for x, dtype in zip(_arrays(params), facts["dtypes"], strict=True)
        ]
        like = {"params": shapes, "masks": [_abstract(x, x.dtype) for x in _arrays(masks)]}
        with self._ocp.StandardCheckpointer() as saver:
            found = saver.restore(self.directory / f"round_{number:03d}", like)
        metrics = {
            name: value if np.ndim(value) == 0 else np.asarray(value)
            for name, value in facts["metrics"].items()
        }
        trees = _with_arrays(params, found["params"]), _with_arrays(masks, found["masks"])
        return Round(number, facts["sparsity"], trees[1], trees[0], metrics)


def described(chosen: Options) -> dict[str, str]:
    """How is pruned, in words that are the same in every process."""
    criterion = chosen.score.function
    return {
        "score": getattr(criterion, "__qualname__", type(criterion).__name__),
        "pattern": repr(chosen.pattern),
        "scope": getattr(chosen.scope, "__qualname__", str(chosen.scope)),
        "rules": ", ".join(map(str, chosen.rules)),
        "bounds": f"{chosen.min_sparsity} to {chosen.max_sparsity}",
    }


def own(tree):
    """A copy of all arrays: a training step may donate what it is given."""
    return jax.tree.map(lambda x: jnp.copy(x) if hasattr(x, "dtype") else x, tree)


def fingerprint(tree) -> int:
    """A checksum of shapes, dtypes, and values where this process holds all of them."""
    known = 0
    for x in _arrays(tree):
        known = zlib.crc32(f"{x.shape} {x.dtype}".encode(), known)
        if getattr(x, "is_fully_addressable", True) and not _is_key(x):
            known = zlib.crc32(np.ascontiguousarray(np.asarray(x)).tobytes(), known)
    return known


def _is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _abstract(x, dtype):
    return jax.ShapeDtypeStruct(x.shape, dtype, sharding=getattr(x, "sharding", None))


def _write(file: pathlib.Path, content):
    """All or nothing."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1))
    os.replace(partial, file)


def _arrays(tree) -> list:
    """The arrays among the leaves, which may also be functions."""
    return [
        x if hasattr(x, "sharding") else jnp.asarray(x)
        for x in flatten(tree)[1]
        if hasattr(x, "dtype")
    ]


def _with_arrays(tree, arrays):
    _, leaves, structure = flatten(tree)
    new = iter(arrays)
    return structure.unflatten([next(new) if hasattr(x, "dtype") else x for x in leaves])
