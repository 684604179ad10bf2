"""Axes of a leaf, counted from either end."""

from collections.abc import Sequence

__all__ = ["check_kind", "normalize", "normalize_all"]


def check_kind(axis, where: str) -> int | tuple[int, ...]:
    """An axis or several, of whichever leaf: an integer as it is, a list as a tuple.

    Args:
      axis: what was given.
      where: what was given it, for the message.

    Raises:
      TypeError: it is no integer and no sequence that holds integers.

    Example:
      >>> from jaxprune import axes
      >>> axes.check_kind([0, -1], "Channel")
      (0, -1)
    """
    given = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    if not given or any(isinstance(a, bool) or not isinstance(a, int) for a in given):
        raise TypeError(f"{where}: axis={axis!r} must be an integer or a tuple of integers.")
    return axis if isinstance(axis, int) else given


def normalize(axis: int, ndim: int, where: str) -> int:
    """`axis` counted from the front.

    Args:
      axis: an axis, negative counted from the end.
      ndim: how many axes the leaf has.
      where: what asks, with the path of the leaf, for the message.

    Raises:
      ValueError: the leaf has no such axis.

    Example:
      >>> from jaxprune import axes
      >>> axes.normalize(-2, 4, "NM(2, 4) for a/kernel")
      2
    """
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"{where}: axis {axis} of a leaf with {ndim} axes; choose one of "
            f"{-ndim}..{ndim - 1}, or give this leaf another pattern by a Rule."
        )
    return axis % ndim


def normalize_all(axes: int | Sequence[int], ndim: int, where: str) -> tuple[int, ...]:
    """Several axes counted from the front, each named once.

    Raises:
      ValueError: an axis does not exist or is named twice.

    Example:
      >>> from jaxprune import axes
      >>> axes.normalize_all((-2, -1), 4, "Block((4, 4)) for a/kernel")
      (2, 3)
    """
    given = (axes,) if isinstance(axes, int) else tuple(axes)
    normal = tuple(normalize(axis, ndim, where) for axis in given)
    if len(set(normal)) < len(normal):
        raise ValueError(f"{where}: axes {given} name an axis twice.")
    return normal
