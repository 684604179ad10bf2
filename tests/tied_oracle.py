"""Tied axes by loops over weights in NumPy: shares no code with what it checks."""

import jax
import numpy as np

from jaxprune.patterns import Group, Member, Tied

MLP = {"a/kernel": (3, 5), "a/bias": (5,), "b/kernel": (5, 2), "b/bias": (2,)}
NET = {
    "embed/kernel": (3, 4),
    "attn/in/kernel": (4, 6),
    "attn/out/kernel": (6, 4),
    "attn/out/bias": (4,),
    "norm/scale": (4,),
    "left/kernel": (4, 3),
    "right/kernel": (4, 2),
    "mix/kernel": (5, 2),
    "square/kernel": (4, 4),
}
HEADS, DIMS = [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]  # two groups of one axis
LEFT, RIGHT = [0, 1, 2, -1, -1], [-1, -1, -1, 1, 0]  # a concatenation


def mlp(keep=None):
    """One group: the hidden units."""
    places = [("a/kernel", 1), ("a/bias", 0), ("b/kernel", 0)]
    members = [Member(path, MLP[path], axis, 0, range(5)) for path, axis in places]
    return Tied([Group("hidden", 5, keep)], members)


def net(**keep):
    """A residual stream, heads times their dimension on a fused axis, and a concatenation."""
    sizes = {"stream": 4, "heads": 2, "dims": 3, "left": 3, "right": 2}
    groups = [Group(name, size, keep.get(name)) for name, size in sizes.items()]
    places = [
        ("embed/kernel", -1, 0, range(4)),
        ("attn/in/kernel", 0, 0, range(4)),
        ("attn/in/kernel", 1, 1, HEADS),
        ("attn/in/kernel", 1, 2, DIMS),
        ("attn/out/kernel", 0, 1, HEADS),
        ("attn/out/kernel", 0, 2, DIMS),
        ("attn/out/kernel", 1, 0, range(4)),
        ("attn/out/bias", 0, 0, range(4)),
        ("norm/scale", 0, 0, range(4)),
        ("left/kernel", 0, 0, range(4)),
        ("left/kernel", 1, 3, range(3)),
        ("right/kernel", 0, 0, range(4)),
        ("right/kernel", 1, 4, range(2)),
        ("mix/kernel", 0, 3, LEFT),
        ("mix/kernel", 0, 4, RIGHT),
        ("square/kernel", 0, 0, range(4)),
        ("square/kernel", 1, 0, range(4)),
    ]
    members = [Member(path, NET[path], axis, group, units) for path, axis, group, units in places]
    return Tied(groups, members)


def nested(flat):
    """A tree of dicts, from path -> leaf."""
    tree = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def flat(tree):
    """Path -> NumPy array, without None."""
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x) for p, x in pairs}


def integers(seed, shapes=NET, *, nan=0.0):
    """Small whole numbers, whose sums are exact and often equal, and now and then a NaN."""
    rng = np.random.default_rng(seed)
    leaves = {p: rng.integers(-4, 5, shape).astype(np.float32) for p, shape in shapes.items()}
    for leaf in leaves.values():
        leaf[rng.random(leaf.shape) < nan] = np.nan
    return leaves


def unit_scores(tied, scores):
    """For each group the sums over its units, in float64."""
    sums = [np.zeros(group.size) for group in tied.groups]
    for member in tied.members:
        units = member.units.array
        for place, score in np.ndenumerate(scores[member.path]):
            unit = units[place[member.axis]]
            if unit >= 0:
                sums[member.group][unit] += np.float64(score)
    return sums


def expand(tied, kept):
    """Path -> mask, from which units of each group are kept."""
    masks = {member.path: np.ones(member.shape, bool) for member in tied.members}
    for member in tied.members:
        units = member.units.array
        for place in np.ndindex(member.shape):
            unit = units[place[member.axis]]
            if unit >= 0 and not kept[member.group][unit]:
                masks[member.path][place] = False
    return masks


def best(sums, number):
    """Which `number` units of several groups are best: NaN is lowest, of equal ones the first."""
    scores = np.concatenate(sums)
    order = sorted(range(scores.size), key=lambda i: (np.isnan(scores[i]), -scores[i], i))
    kept = np.zeros(scores.size, bool)
    kept[order[:number]] = True
    return np.split(kept, np.cumsum([len(x) for x in sums])[:-1])


def masks_of(tied, leaves, numbers, score=np.abs):
    """Path -> mask, where each group keeps so many units by itself."""
    sums = unit_scores(tied, {path: score(w) for path, w in leaves.items()})
    return expand(tied, [best([x], n)[0] for x, n in zip(sums, numbers, strict=True)])


def assert_masks(masks, expected):
    """A tree of masks has those and no others."""
    got = flat(masks)
    assert got.keys() == expected.keys()
    for path, mask in expected.items():
        assert got[path].dtype == np.bool_
        np.testing.assert_array_equal(got[path], mask, err_msg=path)


def kept_units(tied, masks):
    """How many units of each group have a weight left."""
    left = unit_scores(tied, {path: mask.astype(float) for path, mask in flat(masks).items()})
    return [int((x > 0).sum()) for x in left]
