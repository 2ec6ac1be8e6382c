"""Section 3 of the paper in plain torch: layers that learn to keep pairwise distances."""

from rllib_lpdm.local_learning.distances import pairwise_distances, pairwise_distances_gradient
from rllib_lpdm.local_learning.losses import (
    distance_error,
    distance_matching_gradient,
    distance_matching_loss,
)
from rllib_lpdm.local_learning.mlp import LayerStep, LocalMLP, clipped_step, step_linear
from rllib_lpdm.local_learning.optimizer import LayerAdam
from rllib_lpdm.local_learning.targets import target_distances

__all__ = [
    "LayerAdam",
    "LayerStep",
    "LocalMLP",
    "clipped_step",
    "distance_error",
    "distance_matching_gradient",
    "distance_matching_loss",
    "pairwise_distances",
    "pairwise_distances_gradient",
    "step_linear",
    "target_distances",
]
