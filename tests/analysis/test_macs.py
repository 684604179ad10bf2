"""Multiply-adds per leaf against closed forms worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax
from jax.experimental import pallas

from jaxprune.analysis import flops, macs


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def bools(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


def ints(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


W, X = f32(4, 6), f32(5, 4)
DENSE = 5 * 4 * 6


# --- matrix products


def test_dense():
    params = {"kernel": W, "bias": f32(6)}
    assert macs(lambda p, x: x @ p["kernel"] + p["bias"][None], params, X) == {
        "bias": 0,
        "kernel": DENSE,
    }


@pytest.mark.parametrize(
    ("equation", "x", "w", "expected"),
    [
        ("i,io->o", (4,), (4, 6), 4 * 6),
        ("btd,df->btf", (2, 3, 4), (4, 5), 2 * 3 * 4 * 5),
        ("btd,dhk->bthk", (2, 3, 4), (4, 5, 6), 2 * 3 * 4 * 5 * 6),
        ("bthk,hkd->btd", (2, 3, 5, 6), (5, 6, 4), 2 * 3 * 4 * 5 * 6),
        ("ebi,eio->ebo", (7, 2, 4), (7, 4, 5), 7 * 2 * 4 * 5),
        ("bi,oi->bo", (2, 4), (5, 4), 2 * 4 * 5),
        ("i,i->", (4,), (4,), 4),
        ("b,o->bo", (2,), (5,), 2 * 5),
    ],
)
def test_einsum(equation, x, w, expected):
    def function(params, x):
        return jnp.einsum(equation, x, params)

    assert macs(function, f32(*w), f32(*x)) == {"": expected}


def test_groups_of_rows_meet_a_matrix_each():
    def function(w, x, sizes):
        return lax.ragged_dot(x, w, sizes)

    assert macs(function, f32(3, 4, 6), X, ints(3)) == {"": DENSE}


def test_groups_along_the_sum_are_one_product():
    """As in the gradient of experts: each row is in one group."""
    numbers = lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), [0], [])

    def function(w, x, sizes):
        return lax.ragged_dot_general(x, w, sizes, numbers)

    assert macs(function, f32(5, 6), X, ints(3)) == {"": DENSE}


# --- convolutions


def positions(n, taps, stride=1, dilation=1, padding=(0, 0)):
    """How many places a window has, by sliding it."""
    span = (taps - 1) * dilation + 1
    return len(range(0, n + sum(padding) - span + 1, stride))


@pytest.mark.parametrize(
    ("stride", "dilation", "padding", "groups"),
    [
        ((1, 1), (1, 1), ((0, 0), (0, 0)), 1),
        ((2, 1), (1, 1), ((1, 1), (0, 2)), 1),
        ((2, 3), (1, 2), ((1, 0), (3, 3)), 1),
        ((1, 1), (2, 1), ((1, 1), (1, 1)), 2),
        ((2, 2), (1, 1), ((1, 1), (1, 1)), 4),  # depthwise
    ],
)
def test_convolution(stride, dilation, padding, groups):
    n, inputs, outputs, taps = (9, 12), 4, 8, (3, 2)

    def function(params, x):
        return lax.conv_general_dilated(
            x,
            params["kernel"],
            stride,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    places = math.prod(map(positions, n, taps, stride, dilation, padding))
    kernel = f32(*taps, inputs // groups, outputs)
    got = macs(function, {"kernel": kernel}, f32(2, *n, inputs))
    assert got == {"kernel": 2 * places * math.prod(taps) * inputs // groups * outputs}


def test_convolution_in_groups_of_the_batch():
    def function(params, x):
        return lax.conv_general_dilated(x, params["kernel"], (1,), "VALID", batch_group_count=2)

    # 6 inputs make 3 results of 10 - 3 + 1 places; each of 8 outputs sees 4 channels and 3 taps.
    got = macs(function, {"kernel": f32(8, 4, 3)}, f32(6, 4, 10))
    assert got == {"kernel": 3 * 8 * 8 * 4 * 3}


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 2), (2, 3)])
def test_transposed_convolution(padding, strides):
    """Each element of the input meets each tap; along an axis that is not spread, each place."""
    model = linen.ConvTranspose(8, (3, 4), strides=strides, padding=padding)
    x = f32(2, 5, 7, 4)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    out = jax.eval_shape(model.apply, variables, x)
    first = 5 if strides[0] > 1 else out.shape[1]
    expected = 2 * (first * 3) * (7 * 4) * 4 * 8
    got = macs(lambda p, x: model.apply({"params": p}, x), variables["params"], x)
    assert got == {"bias": 0, "kernel": expected}


@pytest.mark.parametrize(("spread", "stride", "padding"), [(2, 3, 0), (3, 2, 1), (2, 2, 1)])
def test_convolution_that_spreads_and_strides(spread, stride, padding):
    n, taps = 7, 4

    def function(params, x):
        return lax.conv_general_dilated(
            x, params["kernel"], (stride,), [(padding, padding)], lhs_dilation=(spread,)
        )

    meetings = sum((j * spread + padding - t) % stride == 0 for j in range(n) for t in range(taps))
    got = macs(function, {"kernel": f32(8, 3, taps)}, f32(2, 3, n))
    assert got == {"kernel": 2 * 3 * 8 * meetings}


CONVOLVED = {
    "grouped": lambda w, x: lax.conv_general_dilated(
        x,
        w[:, :, :2],
        (2, 1),
        "VALID",
        rhs_dilation=(1, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
    ),
    "transposed": lambda w, x: lax.conv_transpose(x, w, (2, 3), "VALID"),
    "transposed and dilated": lambda w, x: lax.conv_transpose(x, w, (2, 3), "VALID", (1, 2)),
}


@pytest.mark.parametrize("name", CONVOLVED)
def test_the_compiler_counts_the_same(name):
    """It leaves padding out, of which there is none here, but along axes that are spread."""
    w, x = f32(3, 2, 4, 8), f32(2, 9, 12, 4)
    expected = jax.jit(CONVOLVED[name]).lower(w, x).cost_analysis()["flops"]
    assert 2 * macs(CONVOLVED[name], w, x)[""] == expected


# --- a leaf stays a leaf


KEPT = {
    "cast": lambda w: w.astype(jnp.bfloat16).astype(jnp.float32),
    "transpose": lambda w: jnp.transpose(w.T, (1, 0)),
    "reshape": lambda w: w.reshape(2, 2, 6).reshape(-1).reshape(4, 6),
    "padded": lambda w: jnp.pad(w, ((0, 2), (1, 0)))[:4, 1:],
    "reversed": lambda w: w[::-1],
    "stacked": lambda w: jnp.stack([w, w])[0],
    "looked up by constants": lambda w: w[jnp.array([3, 2, 1, 0])],
    "split": lambda w: jnp.concatenate(jnp.split(w, 2)),
    "tiled": lambda w: jnp.tile(w[:2], (2, 1)),
    "written": lambda w: jnp.zeros((4, 6)).at[:4].set(w),
    "scattered": lambda w: jnp.zeros((4, 6)).at[jnp.array([3, 2, 1, 0])].set(w),
    "scaled": lambda w: w * 2 + 1,
    "standardized": lambda w: (w - w.mean(0, keepdims=True)) / (w.std(0, keepdims=True) + 1e-6),
    "quantised": lambda w: jnp.round(w / jnp.abs(w).max()) * jnp.abs(w).max(),
    "straight through": lambda w: w + lax.stop_gradient(jnp.sign(w) - w),
    "rectified": jax.nn.relu,
    "activated": jax.nn.gelu,
    "pruned by itself": lambda w: jnp.where(jnp.abs(w) > 0.5, w, 0),
    "masked by a closure": lambda w: w * np.eye(4, 6, dtype=np.float32),
    "checkpointed": jax.checkpoint(lambda w: w * 2),
    "compiled": jax.jit(lambda w: w * 2),
    "barrier": lambda w: lax.optimization_barrier((w, w * 2))[0],
    "spectral norm": lambda w: w / jnp.vdot(w @ jnp.ones(6), w @ jnp.ones(6)),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_done_to_a_leaf(name):
    def function(params, x):
        w = KEPT[name](params["kernel"])
        return x @ lax.optimization_barrier(w)

    expected = DENSE + (2 * 4 * 6 if name == "spectral norm" else 0)
    assert macs(function, {"kernel": W}, X) == {"kernel": expected}


def test_what_is_beside_a_leaf_counts_with_it():
    def function(w, x):
        return x @ jnp.concatenate([w, w.mean(1, keepdims=True), jnp.zeros((4, 2))], axis=1)

    assert macs(function, W, X) == {"": 5 * 4 * 9}


def test_a_leaf_goes_beside_data_and_not_into_it():
    def function(w, x):
        w, x = lax.optimization_barrier((w, x))
        return x @ w

    assert macs(function, f32(4, 4), f32(4, 4)) == {"": 4 * 4 * 4}


def test_a_leaf_that_is_written_where_data_says():
    def function(w, x, rows):
        return x @ jnp.zeros((4, 6)).at[rows].set(w)

    assert macs(function, W, X, ints(4)) == {"": DENSE}


def test_a_sum_or_a_product_of_leaves_is_no_leaf():
    report = flops(lambda p, x: x @ p["stack"].sum(0), {"stack": f32(3, 4, 6)}, X)
    assert (report.total, report.activations) == (0, DENSE)
    params = {"a": f32(4, 2), "b": f32(2, 6)}
    report = flops(lambda p, x: x @ (p["a"] @ p["b"]), params, X)
    assert (report.total, report.activations) == (4 * 2 * 6, DENSE)


def test_masks():
    params = {"kernel": W, "mask": bools(4, 6)}
    by_leaf = macs(lambda p, x: x @ (p["kernel"] * p["mask"]), params, X)
    assert by_leaf == {"kernel": DENSE, "mask": 0}
    for apply in (lambda w, m: w * m, lambda w, m: jnp.where(m, w, 0)):
        got = macs(lambda p, x, m, f=apply: x @ f(p, m), W, X, bools(4, 6))
        assert got == {"": DENSE}


def test_a_mask_of_floats_is_data():
    report = flops(lambda w, x, m: x @ (w * m), W, X, W)
    assert (report.total, report.activations) == (0, DENSE)


def test_scalars_and_noise_leave_a_weight_what_it_is():
    def function(params, x, scale, key):
        noise = jax.random.normal(key, params["kernel"].shape)
        kept = jax.random.bernoulli(key, 0.5, params["kernel"].shape)
        return x @ jnp.where(kept, scale * params["kernel"] + noise, 0)

    key = jax.eval_shape(lambda: jax.random.key(0))
    assert macs(function, {"kernel": W}, X, f32(), key) == {"kernel": DENSE}
    assert macs(function, {"kernel": W}, X, f32(), jax.random.PRNGKey(0)) == {"kernel": DENSE}


# --- a leaf that meets data is data


@pytest.mark.parametrize("batch", [(), (1,), (3,)])
def test_norms_biases_and_positions_take_no_part(batch):
    """Also where a batch of one gives data the shape of the leaf."""

    def function(params, x):
        x = (x + params["position"]) * params["scale"] + params["bias"]
        x = jax.nn.relu(jnp.einsum("...ti,io->...to", x, params["kernel"]) + params["shift"])
        return jnp.einsum("...ti,oi->...to", x, params["out"])

    shapes = {
        "position": (5, 4),
        "scale": (4,),
        "bias": (4,),
        "kernel": (4, 6),
        "shift": (6,),
        "out": (7, 6),
    }
    # With axes of length 1 in front, for ranks must match.
    params = {n: f32(*[1] * (len(batch) + 2 - len(s)), *s) for n, s in shapes.items()}
    params |= {n: f32(*shapes[n]) for n in ("kernel", "out")}
    got = macs(function, params, f32(*batch, 5, 4))
    times = math.prod(batch) * 5
    assert got == dict.fromkeys(sorted(shapes), 0) | {
        "kernel": times * 4 * 6,
        "out": times * 6 * 7,
    }


def test_a_tied_embedding_counts_where_it_is_multiplied():
    def function(params, tokens):
        h = params["embedding"][tokens] @ params["kernel"]
        return h @ params["embedding"].T

    params = {"embedding": f32(100, 8), "kernel": f32(8, 8)}
    assert macs(function, params, ints(2, 5)) == {
        "embedding": 10 * 8 * 100,
        "kernel": 10 * 8 * 8,
    }


@pytest.mark.parametrize("lookup", ["index", "slice", "take"])
def test_experts_that_data_chooses(lookup):
    """A vector that is looked up is an embedding, a matrix a weight."""

    def function(params, x, i):
        if lookup == "index":
            w = params["experts"][i]
        elif lookup == "slice":
            w = lax.dynamic_slice(params["experts"], (i, 0, 0), (1, 4, 6))[0]
        else:
            w = jnp.take(params["experts"], i, axis=0, mode="clip")
        return x @ w

    assert macs(function, {"experts": f32(3, 4, 6)}, X, ints()) == {"experts": DENSE}


def test_one_hot_lookup_is_a_product():
    def function(params, tokens):
        x = jax.nn.one_hot(tokens, 100) @ params["embedding"]
        return (x + params["position"]) @ params["kernel"]

    params = {"embedding": f32(100, 8), "kernel": f32(8, 3), "position": f32(5, 8)}
    assert macs(function, params, ints(5)) == {
        "embedding": 5 * 100 * 8,
        "kernel": 5 * 8 * 3,
        "position": 0,
    }


def test_positions_that_padding_shifts_are_data():
    def function(params, x, padding):
        x = x + params["position"][jnp.cumsum(~padding) - 1]
        return (
            params["position"][jnp.cumsum(~padding) - 1] @ params["kernel"] + x @ params["kernel"]
        )

    params = {"kernel": W, "position": f32(5, 4)}
    assert macs(function, params, X, bools(5)) == {"kernel": 2 * DENSE, "position": 0}


# --- several leaves in one product


def test_gates_side_by_side():
    """An LSTM that puts the kernels of its gates together."""
    cell = linen.OptimizedLSTMCell(6)
    x, carry = f32(5, 4), (f32(5, 6), f32(5, 6))
    params = jax.eval_shape(cell.init, jax.random.key(0), carry, x)["params"]
    got = macs(lambda p, c, x: cell.apply({"params": p}, c, x), params, carry, x)
    expected = {f"i{g}/kernel": 5 * 4 * 6 for g in "ifgo"}
    expected |= {f"h{g}/kernel": 5 * 6 * 6 for g in "ifgo"}
    expected |= {f"h{g}/bias": 0 for g in "ifgo"}
    assert got == expected


def test_parts_of_a_concatenation_count_by_their_elements():
    def function(params, x):
        return x @ jnp.concatenate([params["q"], params["kv"].astype(jnp.float32)], axis=1)

    params = {"q": f32(4, 6), "kv": jax.ShapeDtypeStruct((4, 3), jnp.bfloat16)}
    assert macs(function, params, X) == {"kv": 5 * 4 * 3, "q": DENSE}


@pytest.mark.parametrize("merged", [False, True])
def test_low_rank_update(merged):
    """a @ b is shared by sizes, and what it is added to is the weight alone."""
    params = {"a": f32(4, 2), "b": f32(2, 6), "w": W}

    def function(p, x):
        return x @ (p["w"] + p["a"] @ p["b"]) if merged else x @ p["w"] + x @ p["a"] @ p["b"]

    made = 4 * 2 * 6
    expected = {"a": made * 8 // 20 + 1, "b": made * 12 // 20, "w": DENSE}
    if not merged:
        expected |= {"a": 5 * 4 * 2, "b": 5 * 2 * 6}
    got = macs(function, params, X)
    assert got == expected
    assert sum(got.values()) == DENSE + (made if merged else 5 * 2 * (4 + 6))


def test_shares_are_whole_and_add_up():
    params = [f32(1, 1)] * 3
    got = macs(lambda p, x: x @ (p[0] * p[1] * p[2]), params, f32(5, 1))
    assert got == {"0": 2, "1": 2, "2": 1}


def test_leaves_are_as_large_as_what_is_used_of_them():
    """A gate shares with the part of a table that it meets, also in a loop and from one."""
    half = {"gate": DENSE // 2, "table": DENSE // 2}

    def sliced(p, x):
        return x @ (p["table"][1, :4, :6] * p["gate"])

    assert macs(sliced, {"gate": W, "table": f32(3, 7, 8)}, X) == half

    def scanned(p, x):
        return lax.scan(lambda c, w: (c, x @ (w * p["gate"])), 0, p["table"])

    got = macs(scanned, {"gate": W, "table": f32(3, 4, 6)}, X)
    assert got == {path: 3 * n for path, n in half.items()}

    def stacked(p, x):
        scaled = lax.scan(lambda c, w: (c, w * 2), 0, p["table"])[1]
        return jnp.einsum("bi,lio->lbo", x, scaled * p["gate"])

    got = macs(stacked, {"gate": f32(3, 4, 6), "table": f32(3, 4, 6)}, X)
    assert got == {path: 3 * n for path, n in half.items()}


def test_weight_norm_counts_for_the_direction():
    def function(params, x):
        v = params["v"]
        return x @ (params["g"] * v / jnp.linalg.norm(v, axis=0, keepdims=True))

    assert macs(function, {"g": f32(1, 6), "v": W}, X) == {"g": 0, "v": DENSE}


def test_a_leaf_times_itself_counts_once():
    assert macs(lambda w: w.T @ w, W) == {"": 6 * 4 * 6}


def test_learned_queries():
    """Scores of queries that are made from leaves alone are products of activations."""

    def function(params, x):
        queries = params["latents"] @ params["q"] + params["bias"]
        scores = queries @ (x @ params["k"]).T
        return jax.nn.softmax(scores) @ x

    params = {"latents": f32(3, 4), "q": f32(4, 4), "k": f32(4, 4), "bias": f32(1, 4)}
    report = flops(function, params, X)
    got = {row.path: row.macs for row in report.rows}
    first = 3 * 4 * 4
    assert got == {
        "bias": 0,
        "k": 5 * 4 * 4,
        "latents": -(-first * 12 // 28),
        "q": first * 16 // 28,
    }
    assert report.activations == 2 * 3 * 4 * 5


def test_a_bias_on_a_product_of_leaves_takes_no_part():
    def function(params):
        return (params["latent"] @ params["q"] + params["bias"]) @ params["out"]

    params = {"latent": f32(4), "q": f32(4, 4), "bias": f32(4), "out": f32(4, 3)}
    got = macs(function, params)
    assert (got["bias"], got["out"]) == (0, 4 * 3)
    assert got["latent"] + got["q"] == 4 * 4


# --- loops, branches and transforms


def test_scan_over_layers():
    def function(params, x):
        def layer(x, p):
            return jax.nn.relu(x @ p["kernel"] + p["bias"][None]), None

        return lax.scan(layer, x, params)[0]

    params = {"kernel": f32(7, 4, 4), "bias": f32(7, 4)}
    assert macs(function, params, X) == {"bias": 0, "kernel": 7 * 5 * 4 * 4}


@pytest.mark.parametrize("how", ["closure", "carry", "fori", "index", "nested"])
def test_a_leaf_in_a_loop_counts_each_pass(how):
    def function(w, x):
        if how == "closure":
            return lax.scan(lambda x, _: (x @ w, None), x, length=3)[0]
        if how == "carry":
            return lax.scan(lambda c, _: ((c[0], c[1] @ c[0]), None), (w, x), length=3)[0][1]
        if how == "fori":
            return lax.fori_loop(0, 3, lambda _, x: x @ w, x)
        if how == "index":
            stack = jnp.stack([w, w, w])
            return lax.fori_loop(0, 3, lambda i, x: x @ stack[i], x)
        inner = lambda x, _: (x @ w, None)  # noqa: E731
        return lax.scan(lambda x, _: (lax.scan(inner, x, length=3)[0], None), x, length=1)[0]

    assert macs(function, f32(4, 4), X) == {"": 3 * 5 * 4 * 4}


def test_a_carry_that_becomes_data_is_data():
    """The state of a recurrent network begins as a constant, and its scores are activations."""

    def function(params, xs):
        def step(h, x):
            h = jnp.tanh(x @ params["in"] + h @ params["hidden"])
            return h, h @ h.T

        return lax.scan(step, jnp.zeros((5, 6)), xs)

    report = flops(function, {"in": W, "hidden": f32(6, 6)}, f32(7, 5, 4))
    assert [row.macs for row in report.rows] == [7 * 5 * 6 * 6, 7 * DENSE]
    assert report.activations == 7 * 5 * 5 * 6


def test_leaves_that_change_places():
    """Which of two leaves a pass of a loop multiplies is not known: they share."""

    def function(params, x):
        def step(carry, _):
            a, b, x = carry
            return (b, a, x @ a), None

        return lax.scan(step, (params["a"], params["b"], x), length=4)[0][2]

    square = f32(4, 4)
    each = 2 * 5 * 4 * 4
    assert macs(function, {"a": square, "b": square}, X) == {"a": each, "b": each}


def test_weights_that_a_scan_makes():
    def function(stack, x):
        _, scaled = lax.scan(lambda c, w: (c, w * 2), 0, stack)
        return jnp.einsum("bi,lio->lbo", x, scaled)

    assert macs(function, f32(3, 4, 6), X) == {"": 3 * DENSE}


def test_while_counts_one_pass_and_says_so():
    def function(w, x):
        return lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x)

    report = flops(function, f32(4, 4), X)
    assert report.total == 5 * 4 * 4
    assert report.partial == ("while",)
    assert (
        flops(lambda x: lax.while_loop(lambda i: i < 3, lambda i: i + 1, x), ints()).partial == ()
    )


def test_cond_counts_its_largest_branch():
    def function(params, x, which):
        def small(x):
            return x @ params["a"] @ params["b"]

        branches = [small, lambda x: x @ params["w"], lambda x: jnp.zeros((5, 6))]
        return lax.switch(which, branches, x)

    params = {"a": f32(4, 1), "b": f32(1, 6), "w": W}
    assert macs(function, params, X, ints()) == {"a": 0, "b": 0, "w": DENSE}


def test_a_branch_may_choose_a_leaf():
    def function(params, x, which):
        w = lax.cond(which, lambda: params["a"], lambda: params["b"])
        return x @ w

    got = macs(function, {"a": W, "b": W}, X, bools())
    assert got == {"a": DENSE // 2, "b": DENSE // 2}


@pytest.mark.parametrize(
    "wrap", [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(jax.jit(f)))]
)
def test_calls(wrap):
    assert macs(wrap(lambda w, x: jax.nn.silu(x @ w)), W, X) == {"": DENSE}


def test_custom_derivatives():
    @jax.custom_vjp
    def product(w, x):
        return x @ w

    product.defvjp(lambda w, x: (x @ w, x), lambda x, g: (x.T @ g, None))

    @jax.custom_jvp
    def ternary(w):
        return jnp.sign(w)

    ternary.defjvps(lambda dw, _, w: dw)
    assert macs(lambda w, x: product(ternary(w), x), W, X) == {"": DENSE}


def test_vmap_over_data_and_over_members():
    def function(w, x):
        return x @ w

    assert macs(jax.vmap(function, (None, 0)), W, f32(7, 5, 4)) == {"": 7 * DENSE}
    assert macs(jax.vmap(function, (0, None)), f32(7, 4, 6), X) == {"": 7 * DENSE}


def test_shard_map_counts_all_devices():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    P = jax.sharding.PartitionSpec

    @jax.shard_map(mesh=mesh, in_specs=(P(None, "model"), P("data")), out_specs=P("data", "model"))
    def both(w, x):
        return x @ w

    @jax.shard_map(mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P("data"))
    def one(w, x):
        return x @ lax.all_gather(w, "data", tiled=True)

    assert macs(both, W, f32(8, 4)) == {"": 8 * 4 * 6}
    assert macs(one, W, f32(8, 4)) == {"": 8 * 4 * 6}


def test_what_cannot_be_read_is_named():
    def function(w, x):
        y = x @ w
        return jax.pure_callback(lambda y: y, y, y)

    report = flops(function, W, X)
    assert (report.total, report.partial) == (DENSE, ("pure_callback",))


def test_kernels_that_hide_products_are_named():
    def kernel(x, w, out):
        out[...] = x[...] @ w[...]

    def function(w, x):
        return pallas.pallas_call(kernel, out_shape=f32(5, 6))(x, w)

    report = flops(function, W, X)
    assert (report.total, report.partial) == (0, ("pallas_call",))


def test_a_solver_is_no_product_and_is_named():
    report = flops(jnp.linalg.solve, f32(4, 4), f32(4))
    assert (report.macs, report.partial) == (0, ("custom_linear_solve",))


# --- networks


def test_attention():
    batch, length, width, heads = 2, 7, 12, 3
    model = linen.MultiHeadDotProductAttention(heads)
    x = f32(batch, length, width)
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    report = flops(lambda p, x: model.apply({"params": p}, x), params, x)
    rows = {row.path: row.macs for row in report.rows}
    each = batch * length * width * width
    names = ("key", "out", "query", "value")
    assert rows == {f"{n}/kernel": each for n in names} | {f"{n}/bias": 0 for n in names}
    assert report.activations == 2 * batch * length * length * width


def test_linen_scan_and_remat():
    class Block(linen.Module):
        @linen.compact
        def __call__(self, x, _):
            h = linen.LayerNorm()(x)
            return x + linen.Dense(4)(jax.nn.gelu(linen.Dense(8)(h))), None

    layers = linen.scan(
        linen.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=6
    )()
    params = jax.eval_shape(layers.init, jax.random.key(0), X, None)["params"]
    got = macs(lambda p, x: layers.apply({"params": p}, x, None)[0], params, X)
    assert {path: n for path, n in got.items() if n} == {
        "Dense_0/kernel": 6 * 5 * 4 * 8,
        "Dense_1/kernel": 6 * 5 * 8 * 4,
    }
    assert set(got) == {
        *(f"{m}/{n}" for m in ("Dense_0", "Dense_1") for n in ("bias", "kernel")),
        "LayerNorm_0/bias",
        "LayerNorm_0/scale",
    }


def test_nnx():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.head = nnx.Linear(8, 5, rngs=rngs)

        def __call__(self, x):
            return self.head(jax.nn.relu(self.norm(self.conv(x))).mean((1, 2)))

    abstract = nnx.eval_shape(lambda: Model(nnx.Rngs(0)))
    abstract.eval()
    graph, params, rest = nnx.split(abstract, nnx.Param, ...)

    def function(params, rest, x):
        return nnx.merge(graph, params, rest)(x)

    got = macs(function, params, rest, f32(2, 8, 8, 3))
    assert got == {
        "conv/bias": 0,
        "conv/kernel": 2 * 4 * 4 * 3 * 3 * 3 * 8,
        "head/bias": 0,
        "head/kernel": 2 * 8 * 5,
        "norm/bias": 0,
        "norm/scale": 0,
    }


def test_equinox_with_leaves_that_are_no_arrays():
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.MLP(4, 3, 8, 1, activation=jax.nn.gelu, key=jax.random.key(0))
    got = macs(lambda m, x: jax.vmap(m)(x), model, X)
    assert {path: n for path, n in got.items() if n} == {
        "layers/0/weight": 5 * 4 * 8,
        "layers/1/weight": 5 * 8 * 3,
    }
    assert {"layers/0/bias", "layers/1/bias"} < set(got)


# --- arguments


def test_arrays_count_as_shapes_do():
    def function(p, x):
        return x @ p["kernel"]

    arrays = {"kernel": np.ones((4, 6), np.float32)}
    assert macs(function, arrays, jnp.ones((5, 4))) == {"kernel": DENSE}


def test_arguments_that_are_no_arrays_are_handed_over():
    def function(p, x, options, times):
        for _ in range(times):
            x = x @ p["kernel"] if options["use"] == "kernel" else x
        return x

    got = macs(function, {"kernel": f32(4, 4), "rate": 0.5}, X, {"use": "kernel"}, 3)
    assert got == {"kernel": 3 * 5 * 4 * 4, "rate": 0}


def test_trees_without_leaves():
    assert macs(lambda p, x: x @ x.T, {}, X) == {}


def test_arguments_in_the_wrong_order():
    with pytest.raises(TypeError, match=r"function=\{.* is not callable; the order is"):
        macs({"kernel": W}, lambda p: p)


def test_two_leaves_of_one_path():
    with pytest.raises(ValueError, match="two leaves have the path 'a/b'"):
        macs(lambda p: p, {"a": {"b": W}, "a/b": W})
