"""Sparse and dense phases in turn, as AC/DC trains."""

from jaxprune._checks import check_sparsity
from jaxprune.schedules._base import Schedule, check_int32_step
from jaxprune.schedules._schedules import steps


def ac_dc(final, *, begin: int, end: int, sparse: int, dense: int) -> Schedule:
    """Alternating compressed and decompressed training.

        0 before `begin`; then `final` for `sparse` steps, 0 for `dense` steps, in turn;
        the last dense phase lasts until `end`; `final` from `end` on

    With `prune` a decompression revives all weights, from 0 and with moments of 0. The params
    before the update with number `end` are the dense model, those after the run the sparse one.

    Args:
      final: sparsity of the sparse phases, 0 <= final < 1; static.
      begin: the first compression, 0 <= begin.
      end: the last compression, begin + sparse < end < 2**31.
      sparse, dense: how many steps a phase lasts, at least 1.

    Returns:
      A `Schedule` whose events are the changes of phase.

    Raises:
      ValueError: a number out of range, or no room for one sparse and one dense phase.
      TypeError: a step that is traced or no whole number.

    Example:
      >>> from jaxprune import schedules
      >>> epochs = schedules.ac_dc(0.9, begin=10, end=85, sparse=5, dense=5)  # the paper's
      >>> epochs.at
      (10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 85)
      >>> epochs(9), epochs(10), epochs(15), epochs(80), epochs(85)
      (0.0, 0.9, 0.0, 0.0, 0.9)

    References:
      Peste et al., AC/DC: alternating compressed/decompressed training of deep neural networks,
      arXiv 2106.12379.
    """
    final = check_sparsity(final, "final")
    begin, end = check_int32_step(begin, "begin"), check_int32_step(end, "end")
    sparse = check_int32_step(sparse, "sparse", minimum=1)
    dense = check_int32_step(dense, "dense", minimum=1)
    if begin + sparse >= end:
        raise ValueError(
            f"begin={begin} and sparse={sparse} leave no dense phase before end={end}; the last "
            "compression, end, comes after begin + sparse."
        )
    stairs: dict[int, float] = {}
    for compression in range(begin, end - sparse, sparse + dense):
        stairs |= {compression: final, compression + sparse: 0.0}
    return steps(stairs | {end: final})
