"""Published networks in Flax linen, with the layers and parameter counts of their papers.

Images are [batch, height, width, 3]. `apply(variables, images, train=False)` gives logits; with
`train=True` batch norm takes the batch's own statistics, and `mutable=["batch_stats"]` keeps them.
Transformers are in `benchmarks.transformers`.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "densenet121": 7_978_856,
    "mobilenet_v2": 3_504_872,
}


def resnet18(classes=1000):
    """ResNet-18: two convolutions to a block (arXiv:1512.03385)."""
    return ResNet((2, 2, 2, 2), bottleneck=False, classes=classes)


def resnet50(classes=1000):
    """ResNet-50 v1.5: strides are in the 3x3 convolutions (arXiv:1512.03385)."""
    return ResNet((3, 4, 6, 3), bottleneck=True, classes=classes)


def densenet121(classes=1000):
    """DenseNet-121: every layer sees all before it in its block (arXiv:1608.06993)."""
    return DenseNet((6, 12, 24, 16), classes=classes)


def mobilenet_v2(classes=1000):
    """MobileNetV2 of width 1: depthwise convolutions between narrow layers (arXiv:1801.04381)."""
    return MobileNetV2(classes)


def count(module, *inputs):
    """The number of parameters of a module; inputs may be shapes, and nothing is computed."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))


def _conv(features, side, stride=1, groups=1):
    return nn.Conv(
        features, (side, side), stride, side // 2, feature_group_count=groups, use_bias=False
    )


def _max_pool(x):
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def _norm(train):
    return nn.BatchNorm(use_running_average=not train, momentum=0.9)


class Residual(nn.Module):
    """A residual block; the shortcut is a convolution where the shape changes."""

    width: int
    stride: int
    bottleneck: bool

    @nn.compact
    def __call__(self, x, train):
        basic = ((self.width, 3, self.stride), (self.width, 3, 1))
        narrow = ((self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1))
        y = x
        for i, conv in enumerate(narrow if self.bottleneck else basic):
            y = _norm(train)(_conv(*conv)(nn.relu(y) if i else y))
        if x.shape != y.shape:
            x = _norm(train)(_conv(y.shape[-1], 1, self.stride)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stages of residual blocks; each stage but the first halves the image."""

    depths: Sequence[int]
    bottleneck: bool
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        x = _max_pool(nn.relu(_norm(train)(_conv(64, 7, 2)(x))))
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                x = Residual(64 << stage, stride, self.bottleneck)(x, train)
        return nn.Dense(self.classes)(x.mean((1, 2)))


class DenseNet(nn.Module):
    """Dense blocks of growth 32; half the channels and half the image go on to the next."""

    depths: Sequence[int]
    classes: int
    growth: int = 32

    @nn.compact
    def __call__(self, x, train=False):
        x = _max_pool(nn.relu(_norm(train)(_conv(2 * self.growth, 7, 2)(x))))
        for i, depth in enumerate(self.depths):
            if i:
                x = _conv(x.shape[-1] // 2, 1)(nn.relu(_norm(train)(x)))
                x = nn.avg_pool(x, (2, 2), (2, 2))
            for _ in range(depth):
                y = _conv(4 * self.growth, 1)(nn.relu(_norm(train)(x)))
                y = _conv(self.growth, 3)(nn.relu(_norm(train)(y)))
                x = jnp.concatenate([x, y], axis=-1)
        x = nn.relu(_norm(train)(x))
        return nn.Dense(self.classes)(x.mean((1, 2)))


class InvertedResidual(nn.Module):
    """Widens by `expand`, convolves each channel by itself, narrows; no activation at the end."""

    features: int
    stride: int
    expand: int

    @nn.compact
    def __call__(self, x, train):
        y, wide = x, self.expand * x.shape[-1]
        if self.expand > 1:
            y = nn.relu6(_norm(train)(_conv(wide, 1)(y)))
        y = nn.relu6(_norm(train)(_conv(wide, 3, self.stride, groups=wide)(y)))
        y = _norm(train)(_conv(self.features, 1)(y))
        same = self.stride == 1 and self.features == x.shape[-1]
        return x + y if same else y


class MobileNetV2(nn.Module):
    """Inverted residuals in seven stages: (expand, features, blocks, stride of the first)."""

    classes: int
    stages: Sequence[Sequence[int]] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu6(_norm(train)(_conv(32, 3, 2)(x)))
        for expand, features, blocks, stride in self.stages:
            for block in range(blocks):
                x = InvertedResidual(features, 1 if block else stride, expand)(x, train)
        x = nn.relu6(_norm(train)(_conv(1280, 1)(x)))
        return nn.Dense(self.classes)(x.mean((1, 2)))
