"""The local loss of a hidden layer (equation 1), by autograd and with its gradient by hand."""

import math

import torch
from torch import Tensor

from rllib_lpdm.local_learning.distances import (
    check_rows,
    pairwise_distances,
    pairwise_distances_gradient,
)


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
    _check_pairs(outputs, target)
    if not has_structure(target):
        return torch.mul(outputs.sum(), 0.0)
    largest = distances.max(dim=0).values
    if _vanishes(largest.item(), distances.dtype):
        return torch.mul(outputs.sum(), 0.0)
    matched = distances / (largest * outputs.shape[1])
    loss = torch.mul(torch.linalg.vector_norm(matched - target), math.sqrt(2.0))
    # Two rows: the one distance is its own maximum, and rounding must not pass for a gradient.
    return loss.detach() + torch.mul(outputs.sum(), 0.0) if outputs.shape[0] == 2 else loss


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
    check_rows(outputs, metric)
    _check_pairs(outputs, target)
    if not has_structure(target):
        return outputs.new_zeros(()), torch.zeros_like(outputs)
    loss, gradient, _ = matching_step(outputs, target, metric)
    return outputs.new_tensor(loss), gradient


def matching_step(
    outputs: Tensor, target: Tensor, metric: str = "l1"
) -> tuple[float, Tensor, Tensor]:
    """:func:`distance_matching_gradient` for a target with structure, under ``torch.no_grad()``.

    Returns the (N (N - 1) / 2,) condensed distances of the outputs too.

    The scalars between the kernels are Python floats: at a hundred rows a 0-dimensional tensor
    costs more than what is computed with it.
    """
    distances = pairwise_distances(outputs, metric)
    maximum, argmax = distances.max(dim=0)
    largest = maximum.item()
    if _vanishes(largest, distances.dtype):
        return 0.0, torch.zeros_like(outputs), distances
    scale = 1.0 / (largest * outputs.shape[1])
    negative_error = torch.add(target, distances, alpha=-scale)
    loss = math.sqrt(2.0) * torch.linalg.vector_norm(negative_error).item()
    if outputs.shape[0] == 2 or loss == 0.0:
        return loss, torch.zeros_like(outputs), distances
    gradient = negative_error.mul_(-2.0 * scale / loss)
    gradient[int(argmax.item())].sub_(torch.dot(gradient, distances).item() / largest)
    return loss, pairwise_distances_gradient(gradient, outputs, distances, metric), distances


def distance_error(distances: Tensor, target: Tensor) -> float:
    """How far the outputs are from keeping the distances, whatever their number of dimensions.

    Unlike the loss, it can be compared between layers and networks.

    Args:
        distances: (N (N - 1) / 2,) condensed distances D_Y of a layer's outputs.
        target: (N (N - 1) / 2,) condensed target A, with structure.

    Returns:
        Root mean square over the pairs of ``D_Y / max D_Y - A / max A``: 0 where all distances are
        kept up to one common factor, at most 1.
    """
    largest = distances.max().item()
    kept = distances if _vanishes(largest, distances.dtype) else distances / largest
    error = torch.sub(kept, target, alpha=1.0 / target.max().item())
    return float(torch.linalg.vector_norm(error).item()) / math.sqrt(len(target))


def has_structure(target: Tensor) -> bool:
    """Whether a target has pairs and not all of its rows were equal."""
    return target.numel() > 0 and target.max().item() != 0.0


def _check_pairs(outputs: Tensor, target: Tensor) -> None:
    pairs = outputs.shape[0] * (outputs.shape[0] - 1) // 2
    if target.shape != (pairs,):
        raise ValueError(
            f"the target has shape {tuple(target.shape)}, but {outputs.shape[0]} rows of outputs "
            f"have {pairs} pairs"
        )


def _vanishes(largest: float, dtype: torch.dtype) -> bool:
    """Whether all outputs are equal, up to numbers too small to divide by."""
    return largest < torch.finfo(dtype).tiny
