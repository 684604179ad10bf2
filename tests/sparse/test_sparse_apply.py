"""Programs run with blocks: results and gradients are those of the dense masked weights."""

import functools
import warnings

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import put
from flax import nnx
from sparse_cases import PLAIN, blocks_of, blocky, count_blocks

import jaxprune
from jaxprune import sparse
from jaxprune.sparse import Matrix, sparse_apply


def close(a, b, tolerance=1e-5):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


# --- one product, all dimension numbers, by NumPy -------------------------------------------------

PRODUCTS = [
    ("bi,io->bo", (13, 10), Matrix()),
    ("bi,oi->bo", (10, 13), Matrix()),
    ("io,bi->ob", (12, 8), Matrix()),
    ("i,io->o", (12, 8), Matrix()),
    ("abci,io->abco", (12, 8), Matrix()),
    ("bai,io->boa", (12, 8), Matrix()),
    ("bld,dhk->blhk", (8, 2, 6), Matrix()),
    ("bld,dhk->bkhl", (8, 2, 6), Matrix()),
    ("blhk,hkd->bld", (2, 8, 12), Matrix(0, 2)),
    ("blkh,hkd->bld", (2, 8, 12), Matrix(0, 2)),
    ("blhk,hkd->bld", (2, 8, 12), Matrix(1, 1)),
    ("blhk,dhk->bld", (12, 2, 8), Matrix()),
    ("ebi,eio->ebo", (3, 8, 12), Matrix(1, 1)),
    ("bei,eio->beo", (3, 8, 12), Matrix(1, 1)),
    ("bi,eio->beo", (3, 8, 12), Matrix(1, 1)),
    ("bo,eio->bei", (3, 8, 12), Matrix(1, 1)),
    ("ebi,eio->bo", (3, 8, 12), Matrix(1, 1)),
    ("ebi,feio->fbo", (2, 3, 8, 12), Matrix(1, 2)),
]


def spelled(spec, seed, **sizes):
    return np.random.default_rng(seed).normal(size=[sizes[c] for c in spec]).astype(np.float32)


@pytest.mark.parametrize(("spec", "shape", "matrix"), PRODUCTS)
def test_a_product(spec, shape, matrix):
    inputs, out = spec.split("->")
    first, second = inputs.split(",")
    side = 0 if spec.startswith("io") else 1
    names = [first, second][side]
    sizes = {"a": 2, "b": 3, "c": 2, "l": 5, "e": 3} | dict(zip(names, shape, strict=True))
    w = blocky(0, shape, matrix)
    x = spelled([first, second][1 - side], 1, **sizes)
    ct = spelled(out, 2, **sizes)
    leaf = blocks_of(w, matrix)

    def apply(p, x):
        return jnp.einsum(spec, *((p, x) if side == 0 else (x, p)))

    @jax.jit
    def both(p, x, ct):
        y, back = jax.vjp(sparse_apply(apply), p, x)
        return y, *back(ct)

    y, dw, dx = both(leaf, x, ct)
    exact = functools.partial(np.einsum, dtype=np.float64)
    a, b = (w, x) if side == 0 else (x, w)
    close(y, exact(spec, a, b))
    da = exact(f"{out},{second}->{first}", ct, b)
    db = exact(f"{first},{out}->{second}", a, ct)
    expected_w, expected_x = (da, db) if side == 0 else (db, da)
    close(dx, expected_x)
    assert jax.tree.structure(dw) == jax.tree.structure(leaf)
    of_blocks = blocks_of(np.where(_kept(w, matrix), 1, 0).astype(np.float32), matrix)
    close(sparse.to_dense(dw), expected_w * np.asarray(sparse.to_dense(of_blocks)))


def _kept(w, matrix):
    """True in the blocks that are not all 0."""
    end = matrix.stack + matrix.inputs
    m, n = (int(np.prod(s)) for s in (w.shape[matrix.stack : end], w.shape[end:]))
    flat = w.reshape(-1, m, n)
    kept = np.zeros(flat.shape, bool)
    for i in range(0, m, 4):
        for j in range(0, n, 4):
            kept[:, i : i + 4, j : j + 4] = flat[:, i : i + 4, j : j + 4].any((1, 2), keepdims=True)
    return kept.reshape(w.shape)


def test_padding_has_no_gradient():
    leaf = blocks_of(blocky(3, (24, 40)))
    grads = jax.grad(lambda p: sparse_apply(lambda w: (jnp.ones((2, 24)) @ w).sum())(p))(leaf)
    padding = 0
    for blocks, grad, counts in zip(leaf.blocks, grads.blocks, leaf.layout.counts, strict=True):
        for column, count in enumerate(counts.array):
            np.testing.assert_array_equal(blocks[column, count:], 0)
            np.testing.assert_array_equal(grad[column, count:], 0)
            np.testing.assert_array_equal(grad[column, :count], 2)
            padding += blocks.shape[1] - count
    assert padding


def test_padding_is_read_as_zeros_whatever_is_in_it():
    w = np.zeros((2, 8, 8), np.float32)
    w[0, :, :4], w[1, :4] = 1, 1
    leaf = blocks_of(w, Matrix(1, 1))
    assert leaf.stored == 6  # and 4 are real
    for found in (1.0, np.nan):
        filled = jax.tree.map(lambda x, found=found: jnp.full_like(x, found), leaf)
        where = np.asarray(sparse.to_dense(filled))
        np.testing.assert_array_equal(where, np.where(w == 1, np.float32(found), w))
    filled = jax.tree.map(jnp.ones_like, leaf)
    y = sparse_apply(lambda w, x: x @ w)(filled, np.ones((2, 3, 8), np.float32))
    np.testing.assert_array_equal(y, np.ones((2, 3, 8)) @ w)
    y = sparse_apply(lambda w, x: x @ w.mT)(filled, np.ones((2, 3, 8), np.float32))
    np.testing.assert_array_equal(y, np.ones((2, 3, 8)) @ w.swapaxes(1, 2))


@pytest.mark.parametrize("spec", ["bi,io->bo", "bo,io->bi", "bi,eio->ebo", "ebi,eio->ebo"])
def test_a_batch_of_nothing(spec):
    first, second = spec.split("->")[0].split(",")
    sizes = {"b": 0, "e": 2, "i": 10, "o": 13}
    x = jnp.zeros([sizes[c] for c in first])
    matrix = Matrix(len(second) - 2, 1)
    leaf = blocks_of(blocky(0, [sizes[c] for c in second], matrix), matrix)
    product = sparse_apply(lambda w, x: jnp.einsum(spec, x, w))
    assert product(leaf, x).shape == tuple(sizes[c] for c in spec.split("->")[1])
    grads = jax.grad(lambda w: product(w, x).sum())(leaf)
    np.testing.assert_array_equal(sparse.to_dense(grads), np.zeros(leaf.shape))


def test_nan_stays_where_its_blocks_are():
    w = np.zeros((8, 12), np.float32)
    w[4:, :4], w[:4, 4:8] = 1, 1
    x = np.ones((2, 8), np.float32)
    x[0, 0] = np.nan
    y = sparse_apply(lambda p, x: x @ p)(blocks_of(w), x)
    np.testing.assert_array_equal(np.isnan(y[0]), [False] * 4 + [True] * 4 + [False] * 4)
    np.testing.assert_array_equal(y[1], [4] * 8 + [0] * 4)


@pytest.mark.parametrize("spec", ["bi,io->bo", "bi,oi->bo"])
def test_bfloat16_is_summed_in_float32(spec):
    w = blocky(0, (64, 64), block=(8, 8), density=0.5)
    leaf = jax.tree.map(lambda x: x.astype(jnp.bfloat16), blocks_of(w, block=(8, 8)))
    x = jax.random.normal(jax.random.key(0), (4, 64), jnp.bfloat16)
    apply = functools.partial(jnp.einsum, spec)
    y, back = jax.vjp(lambda p, x: sparse_apply(lambda p, x: apply(x, p))(p, x), leaf, x)
    assert y.dtype == jnp.bfloat16
    dense = np.asarray(sparse.to_dense(leaf), np.float64)
    close(y, np.einsum(spec, np.asarray(x, np.float64), dense), 2**-8)
    dw, dx = back(jnp.ones_like(y))
    assert dw.dtype == dx.dtype == jnp.bfloat16
    other = "bo,io->bi" if spec == "bi,io->bo" else "bo,oi->bi"
    close(dx, np.einsum(other, np.ones(y.shape), dense), 2**-6)


# --- what lies around a product -------------------------------------------------------------------


def dense_and_blocks(apply, w, *args, matrix=PLAIN, tolerance=1e-5):
    """Compares results and gradients of both, and returns the warnings of blocks."""
    leaf = blocks_of(w, matrix)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        loss = lambda f: lambda p, *a: jnp.sum(f(p, *a) ** 2)  # noqa: E731
        y = jax.jit(sparse_apply(apply))(leaf, *args)
        dw, dx = jax.jit(jax.grad(loss(sparse_apply(apply)), (0, 1)))(leaf, *args)
    close(y, jax.jit(apply)(w, *args), tolerance)
    expected_w, expected_x = jax.jit(jax.grad(loss(apply), (0, 1)))(w, *args)
    close(dx, expected_x, tolerance)
    close(sparse.to_dense(dw), np.where(_kept(w, matrix), expected_w, 0), tolerance)
    return [str(w.message) for w in seen]


X = np.random.default_rng(5).normal(size=(3, 12)).astype(np.float32)
W = blocky(0, (12, 12))
STACK = blocky(1, (4, 12, 12), Matrix(1, 1))

AROUND = {
    "transposed and cast": lambda w, x: x @ w.T.astype(jnp.float32),
    "reshaped there and back": lambda w, x: x @ w.reshape(3, 4, 2, 6).reshape(12, 12),
    "an axis of length 1": lambda w, x: jnp.einsum("abi,cio->abo", x[None], w[None]),
    "jit": lambda w, x: jax.jit(lambda a, b: jnp.tanh(a @ b))(x, w.T),
    "jit that returns weights": lambda w, x: x @ jax.jit(jnp.transpose)(w),
    "twice, both ways": lambda w, x: jnp.tanh(x @ w) @ w.T,
    "remat": lambda w, x: jax.checkpoint(lambda a, b: jnp.tanh(a @ b) @ b)(x, w),
    "scan with shared weights": lambda w, x: jax.lax.scan(
        lambda c, b: (jnp.tanh(c @ w) + b, None), x, jnp.ones((3, 1, 1))
    )[0],
    "closed over": lambda w, x: jax.vmap(lambda row: row @ w)(x),
    "map": lambda w, x: jax.lax.map(lambda row: row @ w, x),
    "stopped": lambda w, x: x @ w + x @ jax.lax.stop_gradient(w),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_lies_around_it(name):
    assert not dense_and_blocks(AROUND[name], W, X)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("remat", [False, True])
def test_stacked_layers_in_a_loop(reverse, remat):
    def layer(x, w):
        y = jnp.tanh(x @ w)
        return y, y.sum()

    def apply(stack, x):
        body = jax.checkpoint(layer) if remat else layer
        y, sums = jax.lax.scan(body, x, stack, reverse=reverse)
        return y + sums.sum()

    assert not dense_and_blocks(apply, STACK, X, matrix=Matrix(1, 1))


def test_loops_in_loops():
    stack = blocky(1, (2, 3, 12, 12), Matrix(2, 1))

    def apply(stack, x):
        def one(x, w):
            return jnp.tanh(x @ w), None

        return jax.lax.scan(lambda x, ws: jax.lax.scan(one, x, ws), x, stack)[0]

    assert not dense_and_blocks(apply, stack, X, matrix=Matrix(2, 1))


DENSE = {
    "mul": lambda w, x: x @ (w * 2.0),
    "reduce_sum": lambda w, x: x @ w + (w * w).sum(),
    "a result": lambda w, x: w + 0 * x.sum(),
    "dot_general": lambda w, x: jnp.einsum("bi,ij,ik->jk", x, w, w),
    "scan": lambda w, x: jax.lax.scan(lambda c, _: (c * 0.5, None), w, None, length=2)[0] * x.sum(),
}


@pytest.mark.parametrize("name", DENSE)
def test_other_uses_are_exact_and_said(name):
    said = dense_and_blocks(DENSE[name], W, X)
    assert said
    assert all(" is made dense in each call" in text for text in said)


def test_the_warning_names_leaf_use_and_remedy():
    params = {"table": {"w": blocks_of(W)}}
    with pytest.warns(UserWarning, match=r"table/w is made dense in each call, for gather.*rules="):
        y = sparse_apply(lambda p, i: p["table"]["w"][i])(params, jnp.array([1, 3]))
    np.testing.assert_array_equal(y, W[[1, 3]])


def test_weights_that_are_returned_come_dense():
    with pytest.warns(UserWarning, match="for a result"):
        made = sparse_apply(lambda p: {"w": p["w"].T, "n": 3})({"w": blocks_of(W)})
    np.testing.assert_array_equal(made["w"], W.T)
    assert made["n"] == 3


def test_gradients_of_their_own_are_kept():
    @jax.custom_vjp
    def ten_times(x):
        return x

    ten_times.defvjp(lambda x: (x, None), lambda _, g: (10 * g,))

    def apply(w, x):
        return jax.nn.relu(ten_times(x @ w) * jnp.zeros(()) + jnp.minimum(x @ w, 0)).sum() + (
            ten_times(x @ w).sum()
        )

    leaf = blocks_of(W)
    found = jax.grad(sparse_apply(apply), 1)(leaf, X)
    close(found, jax.grad(apply, 1)(put(W), X))
    at_zero = jax.grad(sparse_apply(lambda w, x: jax.nn.relu(x @ w).sum()))(leaf, 0 * X)
    assert all(np.all(np.asarray(g) == 0) for g in at_zero.blocks)  # of max it would be 1/2


def test_weights_that_enter_such_a_function_are_dense_there():
    @jax.custom_vjp
    def straight(w):
        return jnp.sign(w)

    straight.defvjp(lambda w: (jnp.sign(w), None), lambda _, g: (g,))
    assert dense_and_blocks(lambda w, x: x @ straight(w), W, X)


def test_transforms_of_jax():
    leaf, apply = blocks_of(W), sparse_apply(lambda w, x: jnp.tanh(x @ w))
    dense = lambda w, x: jnp.tanh(x @ w)  # noqa: E731
    rows = jax.vmap(apply, in_axes=(None, 0))(leaf, X[:, None])
    close(rows[:, 0], dense(W, X))
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), leaf)
    close(jax.vmap(apply, in_axes=(0, None))(many, X)[1], dense(2 * W, X))
    tangent = jax.tree.map(jnp.ones_like, leaf)
    y, dy = jax.jvp(apply, (leaf, X), (tangent, 0.5 * X))
    expected = jax.jvp(dense, (W, X), (1.0 * _kept(W, Matrix()).astype(np.float32), 0.5 * X))
    close(y, expected[0])
    close(dy, expected[1])
    hessian = jax.grad(lambda x: jax.grad(lambda x: apply(leaf, x).sum())(x).sum())(X)
    close(hessian, jax.grad(lambda x: jax.grad(lambda x: dense(W, x).sum())(x).sum())(X))


def test_flags_and_keywords_are_handed_over():
    def apply(p, x, double=False, *, scale):
        assert isinstance(double, bool)
        return scale * (x @ p["w"]) * (2 if double else 1), p["name"]

    y, name = sparse_apply(apply)({"w": blocks_of(W), "name": "n"}, X, True, scale=jnp.float32(3))
    close(y, 6 * X @ W)
    assert name == "n"


def test_one_program_serves_a_layout():
    traces = []

    def apply(w, x):
        traces.append(1)
        return x @ w

    run = jax.jit(sparse_apply(apply))
    leaf = blocks_of(W)
    run(leaf, X)
    run(jax.tree.map(lambda x: 2 * x, leaf), X)
    run(blocks_of(3 * W), X)
    assert len(traces) == 1


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="apply=3 is not callable"):
        sparse_apply(3)


# --- models of every library ----------------------------------------------------------------------


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(y)
        y = nn.LayerNorm()(x)
        gated = nn.silu(nn.Dense(32, name="gate")(y)) * nn.Dense(32, name="up")(y)
        return x + nn.Dense(16, name="down")(gated), None


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(24, 16, name="embed")
        x, _ = nn.remat(Layer)(name="first")(embed(tokens))
        stack = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        x, _ = stack(name="stack")(x, None)
        return nn.Dense(24, name="head")(x)


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(8, name="down")(nn.relu(nn.Dense(32, name="up")(x)))


def linen(module, x):
    """Drawn by NumPy: nothing is compiled."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda s: put(0.3 * rng.normal(size=s.shape), s.dtype), shapes)
    return lambda p, x: module.apply({"params": p}, x), params, x


def nnx_model():
    model = nnx.Sequential(
        nnx.Linear(16, 32, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(32, 8, rngs=nnx.Rngs(1))
    )
    graph, state = nnx.split(model, nnx.Param)[:2]
    return lambda s, x: nnx.merge(graph, s)(x), state, jnp.ones((3, 16))


def equinox_model():
    model = eqx.nn.MLP(16, 8, 32, 2, key=jax.random.key(0))
    arrays, rest = eqx.partition(model, eqx.is_array)
    x = jax.random.normal(jax.random.key(1), (3, 16))
    return lambda m, x: jax.vmap(eqx.combine(m, rest))(x), arrays, x


TOKENS = jax.random.randint(jax.random.key(1), (2, 5), 0, 24)
MODELS = {
    "linen": (lambda: linen(MLP(), jnp.ones((3, 16))), {}, 2),
    "decoder": (
        lambda: linen(Decoder(), TOKENS),
        {"first/.*/out/kernel": Matrix(0, 2), "stack/.*/out/kernel": Matrix(1, 2)}
        | {"first/.*(query|key|value)/kernel": Matrix(0, 1)}
        | {"stack/.*(query|key|value)/kernel": Matrix(1, 1)},
        15,
    ),
    "nnx": (nnx_model, {}, 2),
    "equinox": (equinox_model, {}, 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_every_library(name):
    make, rules, converted = MODELS[name]
    apply, params, x = make()
    # Every block of 4x4 of the matrices that are read so keeps or loses all its weights.
    everything = sparse.to_blocks(params, block=4, rules=rules, min_sparsity=0.0)
    rng = np.random.default_rng(0)

    def prune(leaf):
        if not isinstance(leaf, sparse.BlockELL):
            return leaf
        w = np.asarray(sparse.to_dense(leaf))
        return put(w * (blocky(rng.integers(99), w.shape, leaf.layout.matrix) != 0))

    params = jax.tree.map(prune, everything, is_leaf=lambda x: isinstance(x, sparse.BlockELL))
    masks = jaxprune.masks.from_zeros(params)
    leaf_rules = {**rules, ".*embed.*": False} if name == "decoder" else None
    blocks = sparse.to_blocks(params, masks, block=4, rules=leaf_rules, min_sparsity=0.0)
    assert count_blocks(blocks) == converted

    def loss(f):
        return lambda p, x: jnp.mean(f(p, x).astype(jnp.float32) ** 2)

    close(jax.jit(sparse_apply(apply))(blocks, x), jax.jit(apply)(params, x))
    found = jax.jit(jax.grad(sparse_apply(loss(apply))))(blocks, x)
    assert jax.tree.structure(found) == jax.tree.structure(blocks)
    expected = jaxprune.apply_masks(jax.jit(jax.grad(loss(apply)))(params, x), masks)
    found = jaxprune.apply_masks(jax.jit(sparse.to_dense)(found), masks)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if np.abs(np.asarray(b)).max() > 1e-4:
            close(a, b)


def test_training_goes_as_with_dense_masked_weights():
    params = {"w": blocky(0, (12, 16)), "v": blocky(1, (16, 4))}
    masks = {k: _kept(w, Matrix()) for k, w in params.items()}
    y = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)

    def loss(p, x):
        return jnp.mean((jnp.tanh(x @ p["w"]) @ p["v"] - y) ** 2)

    def train(tx, loss, params):
        @jax.jit
        def step(params, state):
            updates, state = tx.update(jax.grad(loss)(params, X), state, params)
            return optax.apply_updates(params, updates), state

        state = tx.init(params)
        for _ in range(5):
            params, state = step(params, state)
        return params

    blocks = train(optax.adam(1e-2), sparse_apply(loss), jax.tree.map(blocks_of, params))
    dense = train(jaxprune.keep(optax.adam(1e-2), masks), loss, jax.tree.map(jnp.asarray, params))
    for name, w in sparse.to_dense(blocks).items():
        np.testing.assert_allclose(w, dense[name], rtol=1e-4, atol=1e-6)
