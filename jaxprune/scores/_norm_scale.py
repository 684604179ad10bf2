"""Scales of norms: a channel that its norm scales down matters least."""

import dataclasses
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from jaxprune._sharding import with_auto_axes
from jaxprune.scores._criterion import Criterion


@dataclasses.dataclass(frozen=True)
class _NormScale:
    scales: tuple[tuple[str, str], ...]
    axes: tuple[int, ...]

    def __call__(self, w, *, path, params):
        name = self._name(path)
        if name not in params:
            raise ValueError(
                f"norm_scale: {path} is led to {name}, which is not in the params; their paths are "
                f"{', '.join(list(params)[:8])}."
            )
        axes = [a % w.ndim for a in self.axes if -w.ndim <= a < w.ndim]
        if len(set(axes)) < len(self.axes):
            raise ValueError(
                f"norm_scale: axes {self.axes} are not {len(self.axes)} axes of {path}, of shape "
                f"{tuple(w.shape)}."
            )
        scale, wanted = params[name], tuple(w.shape[a] for a in axes)
        if tuple(scale.shape) != wanted:
            raise ValueError(
                f"norm_scale: {name} has the shape {tuple(scale.shape)}, but {path} has {wanted} "
                f"along axes {self.axes}; does another norm follow, or is another axis the output?"
            )

        def score(scale):
            value = jnp.abs(jnp.asarray(scale, jnp.float32)).transpose(np.argsort(axes))
            rest = [a for a in range(w.ndim) if a not in axes]
            return [jnp.broadcast_to(jnp.expand_dims(value, rest), w.shape)]

        return with_auto_axes(score, scale, like=[w])[0]

    def _name(self, path):
        """The path of the scale."""
        for pattern, template in self.scales:
            match = re.fullmatch(pattern, path)
            if match is None:
                continue
            try:
                return match.expand(template)
            except (re.error, IndexError) as error:
                raise ValueError(
                    f"norm_scale: {template!r} does not fit {pattern!r}: {error}."
                ) from error
        raise ValueError(
            f"norm_scale: none of {', '.join(repr(pattern) for pattern, _ in self.scales)} matches "
            f"{path}; say which scale is its, or exempt the leaf by Rule({path!r}, dense=True)."
        )


def norm_scale(scales: Mapping[str, str], axis: int | tuple[int, ...] = -1) -> Criterion:
    r"""The criterion |scale| of the norm behind a layer: network slimming.

        score of each weight of output j = |scale_j|

    A norm behind a layer gives every output a mean of 0 and a deviation of |scale|, whatever the
    weights are, so the scale says how much of it goes on. Prune with `pattern=Channel(axis)`, and
    add an L1 penalty on the scales to the loss, as the paper does, for scales that are near zero.

    Args:
      scales: from leaves to the scales behind them: regular expressions for whole paths, and
        templates of paths in which `\1` stands for the first group. The first match decides.
      axis: the axis of outputs; -1 in Flax, 0 in Equinox. Several axes for a scale that has
        several, in its order: `axis=(0, -1)` for the layers of an `nn.scan` stack.

    Returns:
      A criterion with float32 scores. A NaN scale ranks lowest.

    Raises:
      TypeError: `scales` is no mapping from strings to strings.
      ValueError: `scales` is empty or holds no regular expression; or, when it scores, no scale is
        named for a leaf that is pruned, or there is none at that path, or it has another length.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import scores
      >>> score = scores.norm_scale({r"(.*)conv(\d+)/kernel": r"\1bn\2/scale"})
      >>> params = {"conv1/kernel": jnp.ones((2, 3)), "bn1/scale": jnp.array([0.5, -2.0, 0.0])}
      >>> score(params["conv1/kernel"], path="conv1/kernel", params=params)
      Array([[0.5, 2. , 0. ],
             [0.5, 2. , 0. ]], dtype=float32)

    References:
      Liu et al., Learning efficient convolutional networks through network slimming,
      arXiv 1708.06519.
    """
    if not isinstance(scales, Mapping) or not all(
        isinstance(text, str) for pair in scales.items() for text in pair
    ):
        raise TypeError(
            f"norm_scale: scales={scales!r} must be a dict from paths of leaves to paths of scales."
        )
    if not scales:
        raise ValueError("norm_scale: scales is empty; say which scale follows each leaf.")
    for pattern in scales:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"norm_scale: {pattern!r} is not a regular expression: {error}."
            ) from error
    named = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    if not named or any(isinstance(a, bool) or not isinstance(a, int) for a in named):
        raise TypeError(f"norm_scale: axis={axis!r} must be an integer or a tuple of integers.")
    return Criterion(_NormScale(tuple(scales.items()), named), needs=("path", "params"))
