"""Convolutional networks and MLPs in Flax linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from zoo_case import linen, normal

IMAGES = normal(2, 8, 8, 3)


def _norm():
    return nn.BatchNorm(use_running_average=True)


def _head(x):
    return nn.Dense(5)(x.mean((1, 2)))


def _conv(features, side=3, **kwargs):
    return nn.Conv(features, (side, side), use_bias=False, **kwargs)


def mlp(x):
    x = nn.relu(nn.Dense(16)(x))
    x = nn.gelu(nn.Dense(12)(x))
    x = nn.PReLU()(nn.tanh(nn.Dense(20)(x)) - 0.1)
    return nn.Dense(5)(x)


def dense_general(x):
    x = nn.relu(nn.DenseGeneral((3, 8))(x))
    x = nn.gelu(nn.DenseGeneral((4, 6), axis=(-2, -1))(x))
    return nn.DenseGeneral(5, axis=(-2, -1))(x)


def residual_cnn(x):
    x = nn.relu(_norm()(_conv(8)(x)))
    y = nn.relu(_norm()(_conv(12)(x)))
    x = nn.relu(x + _norm()(_conv(8)(y)))
    y = nn.relu(_norm()(_conv(10, strides=2)(x)))
    y = _norm()(_conv(14)(y))
    x = nn.relu(y + _norm()(_conv(14, 1, strides=2)(x)))
    return _head(x)


def batch_norm_of_the_batch(x):
    x = nn.relu(nn.BatchNorm(use_running_average=False)(_conv(8)(x)))
    x = nn.relu(nn.BatchNorm(use_running_average=False, use_scale=False)(_conv(12)(x)))
    return _head(x)


def pooled_cnn(x):
    x = nn.max_pool(nn.relu(nn.Conv(8, (3, 3))(x)), (2, 2), (2, 2))
    x = nn.avg_pool(nn.relu(nn.Conv(12, (3, 3))(x)), (2, 2), (2, 2))
    x = nn.gelu(nn.Dense(10)(x.reshape(len(x), -1)))
    return nn.Dense(5)(x)


def vgg(x):
    for widths in ((8, 12), (10, 14)):
        for width in widths:
            x = nn.relu(_norm()(nn.Conv(width, (3, 3))(x)))
        x = nn.max_pool(x, (2, 2), (2, 2))
    x = nn.gelu(nn.Dense(20)(x.reshape(len(x), -1)))
    return nn.Dense(5)(x)


def separable_conv(x):
    x = nn.relu(_conv(8)(x))
    x = nn.relu(_norm()(_conv(8, feature_group_count=8)(x)))
    x = nn.relu(_norm()(_conv(12, 1)(x)))
    x = nn.relu(_conv(24, feature_group_count=12)(x))  # two of each channel
    return _head(nn.relu(_conv(10, 1)(x)))


def grouped_conv(x):
    x = nn.relu(_conv(16)(x))
    x = nn.relu(nn.Conv(24, (3, 3), feature_group_count=4)(x))
    x = nn.relu(nn.Conv(12, (3, 3), strides=2, feature_group_count=2)(x))
    return _head(nn.relu(_conv(10, 1)(x)))


def group_norm(x):
    x = nn.relu(nn.GroupNorm(3)(_conv(12)(x)))
    x = nn.relu(nn.GroupNorm(4)(_conv(16)(x)))
    return _head(x)


def instance_norm(x):
    x = nn.relu(nn.InstanceNorm()(_conv(12)(x)))
    x = nn.relu(nn.InstanceNorm()(_conv(10)(x)))
    return _head(x)


def dense_block(x):
    x = _conv(6)(x)
    for growth in (4, 5, 7):
        y = _conv(10, 1)(nn.relu(_norm()(x)))
        y = _conv(growth)(nn.relu(_norm()(y)))
        x = jnp.concatenate([x, y], axis=-1)
    x = nn.avg_pool(_conv(12, 1)(nn.relu(_norm()(x))), (2, 2), (2, 2))
    return _head(nn.relu(_norm()(x)))


def squeeze_excite(x):
    x = nn.relu(_norm()(_conv(12)(x)))
    gate = nn.relu(nn.Dense(4)(x.mean((1, 2), keepdims=True)))
    x = x * nn.sigmoid(nn.Dense(12)(gate))
    return _head(nn.relu(_norm()(_conv(10)(x))))


def inverted_residual(x):
    def block(x, wide, narrow, stride):
        y = nn.relu6(_norm()(_conv(wide, 1)(x)))
        y = nn.relu6(_norm()(_conv(wide, strides=stride, feature_group_count=wide)(y)))
        return _norm()(_conv(narrow, 1)(y))

    x = nn.relu6(_norm()(_conv(8)(x)))
    x = x + block(x, 24, 8, 1)
    x = block(x, 20, 10, 2)
    return _head(nn.relu6(_norm()(_conv(16, 1)(x))))


def unet(x):
    fine = nn.relu(nn.Conv(6, (3, 3))(x))
    middle = nn.relu(nn.Conv(10, (3, 3))(nn.max_pool(fine, (2, 2), (2, 2))))
    x = nn.relu(nn.Conv(14, (3, 3))(nn.max_pool(middle, (2, 2), (2, 2))))
    x = nn.ConvTranspose(9, (2, 2), strides=(2, 2))(x)
    x = nn.relu(nn.Conv(11, (3, 3))(jnp.concatenate([x, middle], axis=-1)))
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    x = nn.relu(nn.Conv(7, (3, 3))(jnp.concatenate([fine, x], axis=-1)))
    return nn.Conv(3, (1, 1))(x)


def resized(x):
    x = nn.relu(nn.Conv(6, (3, 3), strides=2)(x))
    x = jax.image.resize(x, (2, 8, 8, 6), "nearest")
    x = nn.relu(nn.Conv(10, (3, 3), strides=2)(x))
    x = jax.image.resize(x, (2, 8, 8, 10), "bilinear")
    return nn.Conv(3, (1, 1))(x)


def pixel_shuffle(x):
    x = nn.relu(nn.Conv(7, (3, 3))(x))
    x = nn.Conv(24, (3, 3))(x).reshape(2, 8, 8, 2, 2, 6)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 16, 6)
    return nn.Conv(3, (1, 1))(nn.relu(x))


def conv_1d(x):
    x = nn.relu(nn.Conv(8, (3,), padding="CAUSAL")(x))
    x = nn.relu(nn.Conv(12, (3,), strides=2)(x))
    return nn.Dense(5)(x.max(1))


def wavenet(x):
    def gated(x, dilation):
        y = nn.Conv(20, (2,), kernel_dilation=dilation, padding="CAUSAL")(x)
        a, b = jnp.split(y, 2, axis=-1)
        return nn.tanh(a) * nn.sigmoid(b)

    x = nn.Conv(8, (1,))(x)
    y = gated(x, 1)
    z = gated(x + nn.Conv(8, (1,))(y), 2)
    skips = nn.Conv(14, (1,))(y) + nn.Conv(14, (1,))(z)
    return nn.Conv(5, (1,))(nn.relu(skips))


def dropout(x):
    x = nn.Dropout(0.5, deterministic=False)(nn.relu(nn.Dense(16)(x)))
    x = nn.Dropout(0.2, deterministic=False)(nn.relu(nn.Dense(12)(x)))
    return nn.Dense(5)(x)


def multi_output(x):
    x = nn.relu(nn.Dense(16)(x))
    a, b = nn.relu(nn.Dense(12)(x)), nn.relu(nn.Dense(10)(x))
    return nn.Dense(5)(a), nn.Dense(3)(b), nn.Dense(2)(x)


def mixed_precision(x):
    for width in (16, 12):
        x = nn.relu(nn.Dense(width, dtype=jnp.bfloat16)(x))
    return nn.Dense(5, dtype=jnp.bfloat16)(x).astype(jnp.float32)


def shared_layer(x, y):
    tower = nn.Dense(16)
    x, y = nn.relu(tower(x)), nn.relu(tower(y))
    return nn.Dense(5)(nn.relu(nn.Dense(12)(abs(x - y))))


VECTORS = normal(3, 6)
SERIES = normal(2, 9, 4)
CASES = [
    linen(mlp, VECTORS),
    linen(dense_general, VECTORS),
    linen(residual_cnn, IMAGES),
    linen(batch_norm_of_the_batch, IMAGES, mutable=["batch_stats"]),
    linen(pooled_cnn, IMAGES),
    linen(vgg, IMAGES),
    linen(separable_conv, IMAGES),
    linen(grouped_conv, IMAGES),
    linen(group_norm, IMAGES),
    linen(instance_norm, IMAGES),
    linen(dense_block, IMAGES),
    linen(squeeze_excite, IMAGES),
    linen(inverted_residual, IMAGES),
    linen(unet, IMAGES),
    linen(resized, IMAGES),
    linen(pixel_shuffle, IMAGES),
    linen(conv_1d, SERIES),
    linen(wavenet, SERIES),
    linen(dropout, VECTORS, rngs=("dropout",)),
    linen(multi_output, VECTORS),
    linen(mixed_precision, VECTORS),
    linen(shared_layer, VECTORS, normal(3, 6)),
]
