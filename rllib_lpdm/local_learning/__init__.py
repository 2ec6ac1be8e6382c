"""Section 3 of the paper in plain torch: layers that learn to keep pairwise distances."""

from rllib_lpdm.local_learning.activations import quantise, sign
from rllib_lpdm.local_learning.distances import (
    Pairs,
    pairwise_distances,
    pairwise_distances_gradient,
)
from rllib_lpdm.local_learning.layers import FlatConv2d, input_gradient, parameter_gradients
from rllib_lpdm.local_learning.losses import (
    LocalLoss,
    distance_error,
    distance_matching_gradient,
    distance_matching_loss,
)
from rllib_lpdm.local_learning.mlp import LayerPass, LayerStep, LocalMLP
from rllib_lpdm.local_learning.neighbours import NEIGHBOURS, neighbour_pairs
from rllib_lpdm.local_learning.optimizer import LayerAdam
from rllib_lpdm.local_learning.targets import RunningMaximum, target_distances
from rllib_lpdm.schema.registry import ACTIVATIONS, BLACK_BOXES, METRICS, Scaling

__all__ = [
    "ACTIVATIONS",
    "BLACK_BOXES",
    "METRICS",
    "NEIGHBOURS",
    "FlatConv2d",
    "LayerAdam",
    "LayerPass",
    "LayerStep",
    "LocalLoss",
    "LocalMLP",
    "Pairs",
    "RunningMaximum",
    "Scaling",
    "distance_error",
    "distance_matching_gradient",
    "distance_matching_loss",
    "input_gradient",
    "neighbour_pairs",
    "pairwise_distances",
    "pairwise_distances_gradient",
    "parameter_gradients",
    "quantise",
    "sign",
    "target_distances",
]
