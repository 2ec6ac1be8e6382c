"""The local loss of a hidden layer (equation 1), by autograd and with its gradient by hand."""

import math

import torch
from torch import Tensor

from rllib_lpdm.local_learning.distances import pairwise_distances, pairwise_distances_gradient


def distance_matching_loss(outputs: Tensor, target: Tensor, metric: str = "l1") -> Tensor:
    """``|| D_Y / (d_y max D_Y) - A ||_F``, equation 1: the reference that autograd differentiates.

    Args:
        outputs: (N, d_y) a layer's outputs Y.
        target: (N (N - 1) / 2,) condensed target A of
            :func:`~rllib_lpdm.local_learning.targets.target_distances`.
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.

    Returns:
        Scalar. Zero, with zero gradient, where nothing can be matched: fewer than two rows, equal
        inputs (a target of zeros), or equal outputs.

    Raises:
        ValueError: the shapes do not belong together, or the metric is unknown.
    """
    distances = pairwise_distances(outputs, metric)
    _check_pairs(distances, target)
    if distances.numel() == 0:
        return torch.mul(outputs.sum(), 0.0)
    largest = distances.max(dim=0).values
    if _nothing_to_match(largest.item(), target):
        return torch.mul(outputs.sum(), 0.0)
    matched = distances / (largest * outputs.shape[1])
    return torch.mul(torch.linalg.vector_norm(matched - target), math.sqrt(2.0))


@torch.no_grad()
def distance_matching_gradient(
    outputs: Tensor, target: Tensor, metric: str = "l1"
) -> tuple[Tensor, Tensor]:
    """The same loss and its gradient with respect to the outputs, without autograd.

    With ``m = max D_Y``, ``M = D_Y / (m d_y)`` and ``E = M - A`` the loss is
    ``L = sqrt(2 sum E^2)`` over the pairs, its gradient ``G0 = 2 E / L`` with respect to M, and
    ``G0 / (m d_y)`` with respect to D_Y, where the pair that attains the maximum also carries
    ``-sum(G0 M) / m`` because m moves with it.

    Args:
        outputs: (N, d_y) a layer's outputs Y.
        target: (N (N - 1) / 2,) condensed target A.
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.

    Returns:
        The scalar loss and its (N, d_y) gradient. Both are zero where nothing can be matched (see
        :func:`distance_matching_loss`); for two rows the gradient is zero, whatever the loss.

    Raises:
        ValueError: the shapes do not belong together, or the metric is unknown.
    """
    distances = pairwise_distances(outputs, metric)
    _check_pairs(distances, target)
    if distances.numel() == 0:
        return outputs.new_zeros(()), torch.zeros_like(outputs)
    maximum, argmax = distances.max(dim=0)
    largest = maximum.item()
    if _nothing_to_match(largest, target):
        return outputs.new_zeros(()), torch.zeros_like(outputs)
    scale = 1.0 / (largest * outputs.shape[1])
    negative_error = torch.add(target, distances, alpha=-scale)
    loss = math.sqrt(2.0) * torch.linalg.vector_norm(negative_error)
    if outputs.shape[0] == 2 or loss.item() == 0.0:
        return loss, torch.zeros_like(outputs)
    gradient = negative_error.mul_(-2.0 * scale / loss.item())
    gradient[int(argmax.item())] -= torch.dot(gradient, distances).item() / largest
    return loss, pairwise_distances_gradient(gradient, outputs, distances, metric)


def _check_pairs(distances: Tensor, target: Tensor) -> None:
    if target.shape != distances.shape:
        raise ValueError(
            f"the target has shape {tuple(target.shape)}, "
            f"but the outputs have {distances.numel()} pairs of rows"
        )


def _nothing_to_match(largest: float, target: Tensor) -> bool:
    """Whether all outputs are equal, up to numbers too small to divide by, or all inputs were."""
    return largest < torch.finfo(target.dtype).tiny or target.max().item() == 0.0
