"""Condensed pairwise distances of a batch of rows, and their gradient.

A condensed distance matrix lists the pairs (i, j) with i < j row by row, as ``torch.pdist`` and
``scipy.spatial.distance.pdist`` do.
"""

from typing import Final

import torch
from torch import Tensor

METRICS: Final = ("l1",)


def pairwise_distances(x: Tensor, metric: str = "l1") -> Tensor:
    """Distances between all pairs of rows (section 3.1, the matrices D_X and D_Y).

    Args:
        x: (N, d) rows. Differentiable by autograd.
        metric: "l1", the paper's choice: the sum of absolute differences.

    Returns:
        (N (N - 1) / 2,) condensed distances; empty for N < 2.

    Raises:
        ValueError: ``x`` is not a matrix, or the metric is unknown.
    """
    check_rows(x, metric)
    return torch.pdist(x, p=1.0)


def pairwise_distances_gradient(
    distance_gradient: Tensor, x: Tensor, distances: Tensor, metric: str = "l1"
) -> Tensor:
    """Gradient of a function of ``pairwise_distances(x)`` with respect to ``x``, without autograd.

    For L1 it is ``dx_i = sum_j g_ij sign(x_i - x_j)`` with sign(0) = 0.

    Args:
        distance_gradient: (N (N - 1) / 2,) gradient with respect to the condensed distances.
        x: (N, d) the rows.
        distances: (N (N - 1) / 2,) ``pairwise_distances(x, metric)``.
        metric: as in :func:`pairwise_distances`.

    Returns:
        (N, d) gradient with respect to the rows.

    Raises:
        ValueError: ``x`` is not a matrix, the others do not have one entry a pair of its rows, or
            the metric is unknown.
    """
    check_rows(x, metric)
    pairs = (x.shape[0] * (x.shape[0] - 1) // 2,)
    if distance_gradient.shape != pairs or distances.shape != pairs:
        raise ValueError(
            f"{x.shape[0]} rows have {pairs[0]} pairs, but the gradient has shape "
            f"{tuple(distance_gradient.shape)} and the distances have {tuple(distances.shape)}"
        )
    if pairs == (0,):
        return torch.zeros_like(x)
    gradient: Tensor = torch.ops.aten._pdist_backward.default(distance_gradient, x, 1.0, distances)
    return gradient


def check_rows(x: Tensor, metric: str) -> None:
    """Raises ValueError unless ``x`` is a matrix and the metric is known."""
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; choose one of {', '.join(METRICS)}")
    if x.ndim != 2:
        raise ValueError(f"pairwise distances need rows of shape (N, d), got {tuple(x.shape)}")
