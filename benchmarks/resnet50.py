"""ResNet-50 v1.5 over the tree of `trees.resnet50`: what a training step is measured with."""

import itertools

import jax
import jax.numpy as jnp
import optax
from jax import lax


def logits(params, images):
    """Of images [batch, height, width, 3]; strides are those of v1.5, in the 3x3 convolutions."""
    x = jax.nn.relu(_normed(params["stem"], images, stride=2))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    for i in itertools.takewhile(lambda i: f"block{i}_conv1" in params, itertools.count()):
        widens = f"block{i}_projection" in params
        stride = 2 if widens and i > 0 else 1
        y = jax.nn.relu(_normed(params[f"block{i}_conv1"], x))
        y = jax.nn.relu(_normed(params[f"block{i}_conv2"], y, stride))
        y = _normed(params[f"block{i}_conv3"], y)
        x = jax.nn.relu(y + (_normed(params[f"block{i}_projection"], x, stride) if widens else x))
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None]


def loss(params, batch):
    """The mean cross-entropy of a batch of images and labels."""
    images, labels = batch
    found = logits(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(found, labels).mean()


def random_batch(key, number, side):
    """Images of noise, side by side, and labels."""
    images, labels = jax.random.split(key)
    return (
        jax.random.normal(images, (number, side, side, 3)),
        jax.random.randint(labels, (number,), 0, 1000),
    )


def _normed(layer, x, stride=1):
    """A convolution and batch norm: the batch's own statistics, its scale 1, its shift the bias."""
    x = lax.conv_general_dilated(
        x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean = x.mean((0, 1, 2), keepdims=True)
    variance = jnp.square(x - mean).mean((0, 1, 2), keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) + layer["bias"][None, None, None]
