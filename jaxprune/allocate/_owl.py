"""Denser leaves where more scores are outliers."""

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np

from jaxprune.allocate._solve import Leaf, check, cut, fraction, reach, solve


def outlier_share(scores, multiple: float = 5.0) -> float:
    """The fraction of scores that are far above the mean of their leaf.

        #{score > multiple * mean} / #scores

    Args:
      scores: non-negative scores of one leaf, an array of any shape and float dtype. NaN scores
        are left out; infinite ones are outliers and left out of the mean.
      multiple: how many times the mean an outlier exceeds, above 0. The paper takes 3 to 10.

    Returns:
      A float in [0, 1], a count over a count; 0 of no scores.

    Raises:
      ValueError: `multiple` is not above 0.
      TypeError: `multiple` is no number.

    It is counted on the host, against a mean in float64.

    Example:
      >>> import numpy as np
      >>> from jaxprune import allocate
      >>> allocate.outlier_share(np.array([1.0, 1.0, 1.0, 97.0]), multiple=3.0)
      0.25

    References:
      Yin et al. 2023, Outlier weighed layerwise sparsity (OWL), arXiv 2310.05175.
    """
    factor = fraction(multiple, "multiple")
    if factor <= 0:
        raise ValueError(f"multiple={multiple!r} must be above 0; the paper takes 5.")
    scores = np.asarray(scores)
    if scores.dtype != np.float64:
        scores = scores.astype(np.float32)
    finite = np.isfinite(scores)
    number = int(np.count_nonzero(~np.isnan(scores)))
    total = scores.sum(where=finite, dtype=np.float64)
    mean = total / max(np.count_nonzero(finite), 1)
    return int(np.count_nonzero(scores > np.float64(factor) * mean)) / max(number, 1)


def owl(
    outliers: Mapping[str, float], *, lam: float = 0.08
) -> Callable[[Mapping[str, Leaf], float], dict[str, int]]:
    """An allocation that is denser where more scores are outliers (OWL).

        density_i = clip(c + 2 * lam * (D_i - min(D)) / (max(D) - min(D)),
                         1 - sparsity - lam, 1 - sparsity + lam)

    with c such that all leaves together keep exactly round(sum_i units_i * (1 - sparsity)). For
    leaves of equal size that is the paper's s_i = 1 - (d_i - mean(d) + 1 - s), with d the scaled D,
    wherever that stays within lam of s. For others its mean over leaves would miss the total; the
    mean that counts here is over units. Leaves that would be more than full are dense.

    Args:
      outliers: path -> D, the share of outliers among the scores of the leaf, in [0, 1]: see
        `outlier_share`. Paths that are not asked for count for nothing, also not for min and max.
      lam: how far the sparsity of a leaf may be from the target, 0 <= lam <= 0.5, but for whole
        units. Where bounds leave no such way to the total, no leaf is held to it.

    Returns:
      An allocation: (leaves, sparsity) -> {path: units kept}, for `allocate=`. Fractions are made
      whole by largest remainder, ties to the earlier leaf. Equal D everywhere is the same sparsity
      everywhere. It raises ValueError where a leaf has no D or the bounds do not allow the
      sparsity.

    Raises:
      ValueError: a D is not in [0, 1], or lam not in [0, 0.5].
      TypeError: a D or lam is no number.

    Example:
      >>> from jaxprune import allocate
      >>> leaves = {name: allocate.Leaf((100, 100), 10_000) for name in ("a", "b", "c")}
      >>> allocate.owl({"a": 0.01, "b": 0.03, "c": 0.05})(leaves, 0.7)
      {'a': 2200, 'b': 3000, 'c': 3800}

    References:
      Yin et al. 2023, Outlier weighed layerwise sparsity (OWL), arXiv 2310.05175.
    """
    spread = fraction(lam, "lam")
    if not 0 <= spread <= Fraction(1, 2):
        raise ValueError(f"lam={lam!r} must be in [0, 0.5]; the paper takes 0.08.")
    shares = {path: _share(path, value) for path, value in outliers.items()}

    def allocation(leaves: Mapping[str, Leaf], sparsity: float) -> dict[str, int]:
        leaves, sparsity = check(leaves, sparsity)
        asked = {path: _of(shares, path) for path, leaf in leaves.items() if leaf.units}
        least, most = min(asked.values(), default=0), max(asked.values(), default=0)
        scale = 2 * spread / (most - least) if most > least else Fraction(0)
        shift = {path: scale * (share - least) for path, share in asked.items()}
        near = _near(leaves, 1 - fraction(sparsity, "sparsity"), spread)
        target = reach(leaves, sparsity)
        low, high = (sum(leaf[i] for leaf in near.values()) for i in (2, 3))
        bounded = near if low <= target <= high else leaves
        return solve(bounded, sparsity, dict.fromkeys(asked, Fraction(1)), shift)

    return allocation


def _near(leaves, density, spread):
    """The leaves with bounds, in fractions of units, that hold them near a density."""
    return {
        path: leaf._replace(
            min_keep=cut(leaf.units * (density - spread), leaf),
            max_keep=cut(leaf.units * (density + spread), leaf),
        )
        for path, leaf in leaves.items()
    }


def _share(path, value):
    share = fraction(value, f"outliers[{path!r}]")
    if not 0 <= share <= 1:
        raise ValueError(
            f"outliers[{path!r}]={value!r} is not in [0, 1]; give the fraction of scores that are "
            "outliers, as allocate.outlier_share does."
        )
    return share


def _of(shares, path):
    if path not in shares:
        raise ValueError(
            f"outliers has no entry for leaf {path!r}; add its allocate.outlier_share, or give the "
            f"leaf a sparsity of its own by a Rule. It has entries for {sorted(shares)[:8]}."
        )
    return shares[path]
