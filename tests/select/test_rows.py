"""Arrays that are counted in rows: past int32, by arithmetic and with rows that are cut short."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import put
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from select_oracle import top_k

from jaxprune import masks
from jaxprune.patterns import NM
from jaxprune.select import _wide
from jaxprune.select._rows import row_lengths
from jaxprune.select._search import PROBES, Bracket, search
from jaxprune.select._select import select
from jaxprune.select._source import Source

MOST = 2**31 - 1


@pytest.mark.parametrize(
    ("shape", "unit", "wanted", "expected"),
    [
        ((12, 5), None, 1, (1,)),
        ((12, 5), None, 5, (4,)),
        ((), None, 64, (1,)),
        ((4096, 4096), None, 64, (64,)),
        ((4096, 4096), (0, 4), 64, (64,)),
        ((12, 5), (0, 4), 64, (3,)),
        ((80, 8192, 28672), None, 64, (40,)),
        ((80, 8192, 28672), (1, 4), 1, (10,)),
        ((3, 65536, 65536), None, 1, (3, 4)),
        ((1, 1, 2**16, 2**16), None, 1, (1, 1, 4)),
        ((50257, 2**17), None, 1, (29,)),
        ((65537, 2**16), None, 1, (65537,)),
    ],
)
def test_lengths_of_rows(shape, unit, wanted, expected):
    lengths = row_lengths(shape, unit, MOST, wanted)
    assert lengths == expected
    assert math.prod(shape) // math.prod(lengths) <= MOST
    assert all(a == b for a, b in zip(lengths[:-1], shape, strict=False))


def test_rows_that_cannot_be():
    with pytest.raises(ValueError, match=r"scores of shape \(8, 3\) cannot be cut into rows of 5"):
        row_lengths((8, 3), (0, 4), 5, 1)


@pytest.mark.usefixtures("search_kind")
@pytest.mark.parametrize("longest", [1, 2, 7, 30, 60, 10**6])
@pytest.mark.parametrize("groups", [(0, 0), (0, 1)], ids=["together", "apart"])
def test_masks_do_not_depend_on_rows(longest, groups):
    """Rows of two leaves of one axis and of several; in the second draw many are equal."""
    rng = np.random.default_rng(longest)
    exact = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4, 5), (2, 15))]
    run = jax.jit(functools.partial(select, groups=groups, longest=longest))
    k = [37] if groups == (0, 0) else [11, 17]
    for leaves in (exact, [np.round(x) for x in exact]):
        made = run([Source(put(x)) for x in leaves], num_keep=_wide.constant(k))
        for g, n in enumerate(k):
            own = [i for i in (0, 1) if groups[i] == g]
            for i, expected in zip(own, top_k([leaves[i] for i in own], n), strict=True):
                np.testing.assert_array_equal(made[i], expected)


@pytest.mark.usefixtures("search_kind")
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("longest", [12, 24, 1000])
def test_members_are_counted_in_whole_units(wanted, longest):
    """2:4 along the axis that rows cut: each row has as many members as its share."""
    scores = np.random.default_rng(0).permutation(48).reshape(16, 3).astype(np.float32)
    source = NM(2, 4).units(Source(put(scores)))
    source = Source(source.array, source.scores, source.member, jnp.array(wanted), 24, source.unit)
    keep = put(_wide.constant([10]))
    (mask,) = select([source], (0,), keep, longest=longest)
    candidates = np.asarray(source.member) == wanted
    (expected,) = top_k([np.where(candidates, scores, -1)], 10)
    if not wanted:  # then all members are kept besides
        expected = expected | np.asarray(source.member)
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("interpolated", [True, False])
@pytest.mark.parametrize("share", [1e-9, 0.2, 0.5, 0.999999])
def test_a_search_among_19_billion_keys(share, interpolated):
    """The counts of a stacked leaf, 80x8192x28672, known by arithmetic: no array is made.

    Row r holds each key from 0 to 2**20 - 1 as often as the others, and so many of r besides.
    """
    rows, different = 80, 1 << 20
    times, extra = 8192 * 28672 // different, 12345
    size = different * times + extra
    total = rows * size
    k = round(total * share) // rows * rows
    own = np.arange(rows, dtype=np.int32)[:, None]

    def count_rows(probes, tie, equal):
        del tie, equal
        reached = jnp.clip(different - probes, 0, different) * times
        return reached + jnp.where(own >= probes, extra, 0)

    def balance(counts):
        totals = _wide.total(_wide.from_int32(counts))
        excess = _wide.subtract(totals, put(_wide.constant([k])))
        return jnp.broadcast_to(excess, (*counts.shape, 2))

    counts = jnp.broadcast_to(jnp.array([size, 0], jnp.int32), (rows, 2))
    keys = jnp.broadcast_to(jnp.array([0, different], jnp.int32), (rows, 2))
    probes = jnp.broadcast_to(jnp.arange(PROBES, dtype=jnp.int32) + 1, (rows, PROBES))
    start = Bracket.of(keys, counts, balance(counts))
    run = functools.partial(
        search, count_rows, balance, start, probes, np.full(rows, size, np.int32), None
    )
    low, high = jax.jit(lambda: run(interpolated=interpolated))().bracket
    low, high, excess = int(low[0, 0]), int(high[0, 0]), high[0, 2:].tolist()

    def reach(p):
        return rows * (different - p) * times + extra * sum(r >= p for r in range(rows))

    exact = [p for p in (low, high) if reach(p) == k]
    assert exact or (high == low + 1 and reach(low) > k > reach(high))
    assert _wide.constant(reach(high) - k).tolist() == excess


def test_a_stacked_leaf_past_int32_can_be_pruned():
    """Traced, not run: shapes, counts and limbs of 1.9e10 weights, also within bounds."""
    w = jax.ShapeDtypeStruct((80, 8192, 28672), jnp.bfloat16)
    tree = {"a": {"kernel": w}, "b": {"kernel": w}}
    for pattern, bound in itertools.product((None, NM(2, 4)), (None, 0.99)):
        made = jax.eval_shape(
            lambda p: masks.make(
                p,
                0.8,
                scope="global",
                max_sparsity=bound,  # noqa: B023
                **({"pattern": pattern} if pattern else {}),  # noqa: B023
            ),
            tree,
        )
        assert made["a"]["kernel"].shape == w.shape


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.usefixtures("search_kind")
@pytest.mark.parametrize("groups", [(0, 0), (0, 1)], ids=["together", "apart"])
def test_devices_search_alike(groups):
    """Leaves cut over eight devices, with ties."""
    rng = np.random.default_rng(0)
    leaves = [np.round(rng.normal(size=s) * 4).astype(np.float32) for s in ((16, 5), (8, 9))]
    k = [61] if groups == (0, 0) else [30, 31]
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    placed = jax.device_put(leaves, NamedSharding(mesh, P("x")))
    run = jax.jit(functools.partial(select, groups=groups))
    made = run([Source(x) for x in placed], num_keep=_wide.constant(k))
    for g, n in enumerate(k):
        own = [i for i in (0, 1) if groups[i] == g]
        for i, expected in zip(own, top_k([leaves[i] for i in own], n), strict=True):
            np.testing.assert_array_equal(made[i], expected)
