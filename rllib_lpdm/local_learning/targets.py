"""The distances that every hidden layer is asked to reproduce."""

import math

import torch
from torch import Tensor

from rllib_lpdm.local_learning.distances import pairwise_distances


@torch.no_grad()
def target_distances(inputs: Tensor, values: Tensor | None = None, metric: str = "l1") -> Tensor:
    """Normalised distances of the network's input batch (sections 3.1 and 3.2).

    Without values, the unsupervised target ``(D_X / max D_X) / d_x``. With values, the guided one:
    ``u = (1 - (v - min v) / (max v - min v)) / 2`` is added to the rows and the columns of
    ``D_X / max D_X``, so that states of low value move apart, and the sum is normalised again.

    Args:
        inputs: (N, d_x) the network's input batch.
        values: (N,) a value per row: normalised return, learned baseline or critic's value.
            Values constant up to rounding give the unsupervised target.
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.

    Returns:
        (N (N - 1) / 2,) condensed target in [0, 1 / d_x]. All zero where all rows are equal: there
        is no structure to keep, and no layer is trained on it.

    Raises:
        ValueError: ``inputs`` is not a matrix, ``values`` does not have one entry a row, or the
            metric is unknown.
    """
    if values is not None and values.shape != inputs.shape[:1]:
        raise ValueError(
            f"values need one entry a row, shape ({inputs.shape[0]},), got {tuple(values.shape)}"
        )
    distances = pairwise_distances(inputs, metric)
    if distances.numel() == 0:
        return distances
    largest = distances.max().item()
    if largest < torch.finfo(distances.dtype).tiny:
        return torch.zeros_like(distances)
    if values is not None:
        values = values.to(inputs.dtype)
        lowest, highest = (bound.item() for bound in torch.aminmax(values))
        noise = 8.0 * torch.finfo(values.dtype).eps * max(abs(highest), abs(lowest))
        spread = highest - lowest
        if not (math.isfinite(spread) and spread <= noise):
            guidance = (highest - values) * (0.5 / spread)
            first, second = _pairs(inputs.shape[0], inputs.device)
            distances = distances / largest + guidance[first] + guidance[second]
            largest = distances.max().item()
    return distances * (1.0 / (largest * inputs.shape[1]))


def _pairs(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column index of every condensed entry."""
    first, second = torch.triu_indices(count, count, offset=1, device=device)
    return first, second
