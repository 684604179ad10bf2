"""Rows of an array, which are counted one by one: so that int32 can count, and all cores do."""

import math

from jaxprune._sharding import num_devices

# On a CPU a count of a whole array runs on one core, a count per row on all. With many leaves it is
# the leaves that run side by side, so only large ones are cut into rows, and into up to so many.
_LARGE, _ROWS = 1 << 22, 64


def wanted(source, total: int) -> int:
    """Into how many rows to cut one of the leaves, which have `total` elements together.

    Several devices count side by side anyhow, and would have to send more counts.
    """
    large = source.size >= max(_LARGE, total // 4)
    return _ROWS if large and num_devices() == 1 else 1


def row_lengths(shape, unit, longest: int, wanted: int, devices: int = 1) -> tuple[int, ...]:
    """Lengths of the first axes of rows: how to cut an array so that each row can be counted.

    Args:
      shape: of the array.
      unit: (axis, m), consecutive elements that are not cut apart, or None.
      longest: how many elements a row may have.
      wanted: how many rows to make where fewer would do, at most.
      devices: over how many an axis may be cut; an axis is cut into rows as finely as that.

    Returns:
      For each of the first axes how many parts it is cut into: all but the last into single
      indices, so that rows follow each other in the flat order.

    Raises:
      ValueError: no row can be so short.
    """
    fewest = -(-math.prod(shape) // longest)
    lengths: list[int] = []
    for axis, n in enumerate(shape or (1,)):
        parts = n // unit[1] if unit is not None and unit[0] == axis else n
        every = math.gcd(parts, devices) if fewest > 1 else 1
        enough = [d for d in _divisors(parts) if d >= fewest and d % every == 0]
        if enough:
            return (*lengths, max([d for d in enough if d <= wanted], default=enough[0]))
        if parts < n:
            break
        lengths.append(n)
        fewest = -(-fewest // n)
    raise ValueError(
        f"scores of shape {tuple(shape)} cannot be cut into rows of {longest} elements to count."
    )


def _divisors(n: int) -> list[int]:
    """In ascending order; none of 0."""
    lower = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return sorted({*lower, *(n // d for d in lower)})
