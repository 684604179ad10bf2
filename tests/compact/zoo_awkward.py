"""Networks with axes that cannot be cut, or that mean something else once they are."""

import jax
import jax.numpy as jnp
from draws import put
from jax import lax
from zoo_case import Case, generator, normal, raw

X = normal(3, 6)
BETWEEN = {"in": (6, 12), "out": (12, 5)}


def between(function):
    """A layer, `function` of its twelve features (and all parameters), and a layer."""

    def apply(p, x):
        return function(p, jnp.tanh(x @ p["in"])) @ p["out"]

    apply.__name__ = function.__name__
    return apply


def softmax_over_features(p, x):
    return jax.nn.softmax(3.0 * x)


def layer_norm_of_a_residual_stream(p, x):
    y = x + jnp.tanh(x @ p["up"]) @ p["down"]
    y = y - y.mean(-1, keepdims=True)
    return y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + 1e-5) * p["scale"]


def unit_length(p, x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def maxout(p, x):
    return x.reshape(-1, 4, 3).max(-1)


def max_over_features(p, x):
    return x - x.max(-1, keepdims=True)


def sort(p, x):
    return jnp.sort(x, axis=-1)


def top_k(p, x):
    values, indices = lax.top_k(x, 4)
    return values * jnp.take(p["by_index"], indices)


def cumsum(p, x):
    return jnp.cumsum(x, axis=-1)


def fixed_gather(p, x):
    return x[:, jnp.array([3, 0, 7, 7, 11])]


def permuted(p, x):
    return x[:, jnp.array([3, 0, 7, 4, 11, 1, 2, 10, 5, 9, 8, 6])]


def reversed_features(p, x):
    return x[:, ::-1]


def rolled(p, x):
    return jnp.roll(x, 5, axis=-1)


def padded(p, x):
    return jnp.pad(x, ((0, 0), (2, 3))) + jnp.sin(jnp.arange(17.0))


def strided(p, x):
    return x[:, ::2]


def flattened_products(p, x):
    return (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)


def mixed_reshape(p, x):
    """Rows of twelve become rows of nine: no row is what it was."""
    return x.reshape(4, 9)[:3]


def fft(p, x):
    return jnp.fft.fft(x, axis=-1).real


def position_weights(p, x):
    """A table of features' numbers, made inside."""
    return x * jnp.cos(jnp.arange(12.0))


def size_of_features(p, x):
    return x / x.shape[-1]


def inverse(p, x):
    return x @ jnp.linalg.inv(p["square"] + 4.0 * jnp.eye(12))


def while_loop(p, x):
    def body(carry):
        i, x = carry
        return i + 1, jnp.tanh(x @ p["square"]) + 0.1

    return lax.while_loop(lambda carry: carry[0] < 3, body, (0, x))[1]


def fori_loop(p, x):
    return lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ p["square"]), x)


def cond(p, x):
    return lax.cond(x.max() > 0, lambda x: jnp.tanh(x @ p["square"]), lambda x: -x, x)


@jax.custom_vjp
def _ternary(x):
    return jnp.sign(jnp.round(2.0 * x))


_ternary.defvjp(lambda x: (_ternary(x), None), lambda _, g: (g,))


def custom_vjp(p, x):
    return _ternary(x)


@jax.custom_jvp
def _clipped(x):
    return jnp.clip(x, -0.5, 0.5)


_clipped.defjvp(lambda x, t: (_clipped(*x), *t))


def custom_jvp(p, x):
    return _clipped(x)


def weight_norm(p, x):
    """Rows as well as columns: each kernel axis is normed once (arXiv:1602.07868)."""
    direction = p["square"] / jnp.linalg.norm(p["square"], axis=0)
    other = p["other"] / jnp.linalg.norm(p["other"], axis=1, keepdims=True)
    return jnp.tanh(x @ (direction * p["scale"])) @ other


def standardized_weights(p, x):
    w = p["square"] - p["square"].mean(0)
    return x @ (w / (w.std(0) + 1e-3))


def unused(p, x):
    return x * p["scale"]


def dynamic_slice(p, x):
    return lax.dynamic_slice_in_dim(x, jnp.argmax(p["scale"]), 5, axis=1)


def argmax(p, x):
    return x + p["square"][jnp.argmax(x, axis=-1)]


def kronecker(p, x):
    return x @ jnp.kron(p["small"], p["little"])


def triangular(p, x):
    return x @ jnp.tril(p["square"])


def added_eye(p, x):
    return x @ (p["square"] + jnp.eye(12))


def quadratic(p, x):
    return jnp.einsum("bi,ij,bj->bi", x, p["square"], x)


def tied_transposed(p, x):
    """An autoencoder: what reads is what writes."""
    hidden = jnp.tanh(x @ p["first"])
    code = jnp.tanh(hidden @ p["second"])
    return jnp.tanh(code @ p["second"].T + p["bias"]) @ p["first"].T


def in_place(p, x):
    return x.at[:, 2:5].set(p["three"])


SQUARE = BETWEEN | {"square": (12, 12)}
SCALE = BETWEEN | {"scale": (12,)}
RESIDUAL = SCALE | {"up": (12, 10), "down": (10, 12)}


def indices_as_parameters(key):
    """Integers among the parameters choose channels."""
    rng = generator(key)
    params = {
        "in": normal(6, 12)(rng),
        "index": put(rng.permutation(12)[:8]),
        "out": normal(8, 5)(rng),
    }

    def apply(p, x):
        return jnp.tanh(x @ p["in"])[:, p["index"]] @ p["out"]

    return apply, params, (X(rng),)


def complex_parameters(key):
    """Kernels of complex numbers."""
    rng = generator(key)
    shapes = {"in": (6, 12), "out": (12, 5)}
    params = {name: normal(*shapes[name])(rng) + 1j * normal(*shapes[name])(rng) for name in shapes}

    def apply(p, x):
        return jnp.abs((x * (1 + 0j)) @ p["in"] @ p["out"])

    return apply, params, (X(rng),)


CASES = [
    raw(between(softmax_over_features), BETWEEN, X),
    raw(between(layer_norm_of_a_residual_stream), RESIDUAL, X),
    raw(between(unit_length), BETWEEN, X),
    raw(between(maxout), {"in": (6, 12), "out": (4, 5)}, X),
    raw(between(max_over_features), BETWEEN, X),
    raw(between(sort), BETWEEN, X),
    raw(between(top_k), {"in": (6, 12), "by_index": (12,), "out": (4, 5)}, X),
    raw(between(cumsum), BETWEEN, X),
    raw(between(fixed_gather), {"in": (6, 12), "out": (5, 5)}, X),
    raw(between(permuted), BETWEEN, X),
    raw(between(reversed_features), BETWEEN, X),
    raw(between(rolled), BETWEEN, X),
    raw(between(padded), {"in": (6, 12), "out": (17, 5)}, X),
    raw(between(strided), {"in": (6, 12), "out": (6, 5)}, X),
    raw(between(flattened_products), {"in": (6, 12), "out": (144, 5)}, X),
    raw(between(mixed_reshape), {"in": (6, 12), "out": (9, 5)}, X),
    raw(between(fft), BETWEEN, X),
    raw(between(position_weights), BETWEEN, X),
    raw(between(size_of_features), BETWEEN, X),
    raw(between(inverse), SQUARE, X),
    raw(between(while_loop), SQUARE, X),
    raw(between(fori_loop), SQUARE, X),
    raw(between(cond), SQUARE, X),
    raw(between(custom_vjp), BETWEEN, X),
    raw(between(custom_jvp), BETWEEN, X),
    raw(between(weight_norm), SQUARE | {"other": (12, 12), "scale": (12,)}, X),
    raw(between(standardized_weights), SQUARE, X),
    raw(between(unused), SCALE | {"forgotten": (12, 8), "lost": (3,)}, X),
    raw(between(dynamic_slice), {"in": (6, 12), "scale": (8,), "out": (5, 5)}, X),
    raw(between(argmax), SQUARE, X),
    raw(between(kronecker), BETWEEN | {"small": (3, 2), "little": (4, 6)}, X),
    raw(between(triangular), SQUARE, X),
    raw(between(added_eye), SQUARE, X),
    raw(between(quadratic), SQUARE, X),
    raw(between(in_place), BETWEEN | {"three": (3,)}, X),
    raw(tied_transposed, {"first": (6, 16), "second": (16, 10), "bias": (16,)}, X),
    Case("raw indices as parameters", indices_as_parameters),
    Case("raw complex parameters", complex_parameters),
]
