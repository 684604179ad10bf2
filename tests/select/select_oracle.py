"""Selection by sorting and by partitioning in NumPy: shares no code with what it checks."""

import ml_dtypes
import numpy as np

DTYPES = {
    "float32": (np.float32, np.uint32, 0x7F800000),
    "bfloat16": (ml_dtypes.bfloat16, np.uint16, 0x7F80),
    "float16": (np.float16, np.uint16, 0x7C00),
}


def top_k(leaves, k):
    """Masks of the k highest of all `leaves` together, by a stable sort in float64."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        flat = np.concatenate([np.ravel(x).astype(np.float64) for x in leaves])
        order = np.argsort(-flat, kind="stable")  # NaN comes last
    mask = np.zeros(flat.size, bool)
    mask[order[: max(k, 0)]] = True
    parts = np.split(mask, np.cumsum([np.size(x) for x in leaves])[:-1])
    return [part.reshape(np.shape(x)) for part, x in zip(parts, leaves, strict=True)]


def top_cost(leaves, costs, budget, lower=None, upper=None):
    """Masks of the longest run of the ranking that costs `budget` at most, in Python integers.

    Within bounds each leaf first takes its own best up to the lower one, and the run passes over
    those of a leaf that is at the upper one.
    """
    with np.errstate(invalid="ignore"):
        flat = np.concatenate([np.ravel(x).astype(np.float64) for x in leaves])
        order = np.argsort(-flat, kind="stable").tolist()
    sizes = [np.size(x) for x in leaves]
    leaf = np.repeat(np.arange(len(leaves)), sizes).tolist()
    lower, upper = lower or [0] * len(leaves), upper or sizes
    mask, taken, left = np.zeros(flat.size, bool), [0] * len(leaves), int(budget)
    for bounds, must in ((lower, True), (upper, False)):
        for i in order:
            if mask[i] or taken[leaf[i]] >= bounds[leaf[i]]:
                continue
            if not must and costs[leaf[i]] > left:
                break
            mask[i] = True
            taken[leaf[i]] += 1
            left -= costs[leaf[i]]
    parts = np.split(mask, np.cumsum(sizes)[:-1])
    return [part.reshape(np.shape(x)) for part, x in zip(parts, leaves, strict=True)]


def top_k_rows(scores, k, axis):
    """`top_k` of each slice along `axis`."""
    return np.apply_along_axis(lambda row: top_k([row], k)[0], axis, scores)


def top_k_by_partition(scores, k):
    """`top_k` of one large array of NaN-free scores."""
    flat = scores.ravel()
    threshold = np.partition(flat, flat.size - k)[flat.size - k]
    above, equal = flat > threshold, flat == threshold
    first = np.cumsum(equal, dtype=np.int32) <= k - np.count_nonzero(above)
    return (above | (equal & first)).reshape(scores.shape)


def special_bits(dtype):
    """Bit patterns that are easily put in the wrong order, and few enough to be drawn twice."""
    _, unsigned, infinity = DTYPES[dtype]
    sign = 1 << (8 * np.dtype(unsigned).itemsize - 1)
    one = int(np.array(1, DTYPES[dtype][0]).view(unsigned))
    positive = [0, 1, 2, one, one + 1, infinity - 1, infinity, infinity + 1, sign - 1]
    return [bits | s for bits in positive for s in (0, sign)]
