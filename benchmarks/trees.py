"""Trees of parameters with the shapes of known networks."""

import jax
import numpy as np

RESNET50 = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks and width of each stage
SMALL = ((1, 8), (1, 16))  # of a network for smoke tests


def resnet50(key, stages=RESNET50):
    """The 25.5 million weights of ResNet-50's convolutions and head, and their biases.

    With other `stages`, a smaller network of its kind.
    """
    shapes = {"stem": (7, 7, 3, 64)}
    inputs, block = 64, 0
    for repeats, width in stages:
        for i in range(repeats):
            shapes[f"block{block}_conv1"] = (1, 1, inputs, width)
            shapes[f"block{block}_conv2"] = (3, 3, width, width)
            shapes[f"block{block}_conv3"] = (1, 1, width, 4 * width)
            if i == 0:
                shapes[f"block{block}_projection"] = (1, 1, inputs, 4 * width)
            inputs, block = 4 * width, block + 1
    shapes["head"] = (inputs, 1000)
    return {
        name: {"kernel": normal(k, shape), "bias": jax.numpy.zeros(shape[-1])}
        for (name, shape), k in zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True)
    }


def matrix(key, n=4096):
    """One matrix, n by n."""
    return {"kernel": normal(key, (n, n))}


def normal(key, shape):
    """Weights as an initialiser draws them."""
    return jax.random.normal(key, shape) * np.sqrt(2 / np.prod(shape[:-1])).astype(np.float32)
