"""Networks of Flax linen with axes that cannot be cut, or not without a warning."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from zoo_case import linen, normal


def channel_shuffle(x):
    """Groups of channels are dealt anew (arXiv:1707.01083)."""
    x = nn.relu(nn.Conv(24, (1, 1), feature_group_count=3)(nn.Conv(12, (3, 3))(x)))
    x = x.reshape(*x.shape[:3], 3, 8).swapaxes(3, 4).reshape(*x.shape[:3], 24)
    x = nn.relu(nn.Conv(24, (3, 3), feature_group_count=24)(x))
    x = nn.relu(nn.Conv(18, (1, 1), feature_group_count=3)(x))
    return nn.Dense(5)(x.mean((1, 2)))


def padded_shortcut(x):
    """A shortcut that widens with zeros (option A of arXiv:1512.03385)."""
    x = nn.relu(nn.Conv(8, (3, 3))(x))
    y = nn.Conv(14, (3, 3))(nn.relu(nn.Conv(10, (3, 3), strides=2)(x)))
    x = y + jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (3, 3)))
    return nn.Dense(5)(nn.relu(x).mean((1, 2)))


def local_response(x):
    """Each channel is divided by its neighbours, as in AlexNet."""
    x = nn.relu(nn.Conv(12, (3, 3))(x))
    near = lax.reduce_window(x * x, 0.0, lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
    return nn.Dense(5)((x / (1.0 + near)).mean((1, 2)))


def linen_weight_norm(x):
    x = nn.relu(nn.WeightNorm(nn.Dense(16))(x))
    return nn.Dense(5)(x)


def spectral_norm(x):
    x = nn.relu(nn.SpectralNorm(nn.Dense(16))(x, update_stats=False))
    return nn.Dense(5)(x)


def statistics_as_output(x):
    """What a layer computes is also an answer."""
    x = nn.relu(nn.Dense(16)(x))
    return nn.Dense(5)(x), x.mean(0)


X = normal(3, 6)
IMAGES = normal(2, 8, 8, 3)
CASES = [
    linen(channel_shuffle, IMAGES),
    linen(padded_shortcut, IMAGES),
    linen(local_response, IMAGES),
    linen(linen_weight_norm, X),
    linen(spectral_norm, X),
    linen(statistics_as_output, X),
]
