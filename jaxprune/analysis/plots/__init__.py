"""Figures in one style: training, layers, masks, sensitivity, accuracy against sparsity."""

from jaxprune.analysis.plots._gains import gains as gains
from jaxprune.analysis.plots._layers import layers as layers
from jaxprune.analysis.plots._mask import mask as mask
from jaxprune.analysis.plots._sensitivity import sensitivity as sensitivity
from jaxprune.analysis.plots._tradeoff import tradeoff as tradeoff
from jaxprune.analysis.plots._training import training as training

__all__ = ["gains", "layers", "mask", "sensitivity", "tradeoff", "training"]
