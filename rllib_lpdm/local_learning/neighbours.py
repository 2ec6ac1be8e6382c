"""Sparse distance matrices: the pairs of a batch that are worth comparing (appendix A)."""

from typing import Final, get_args

import numpy as np
import torch
from torch import Tensor

from rllib_lpdm.local_learning.distances import (
    MetricLike,
    Pairs,
    metric_of,
    pairwise_distances,
    symmetric,
)
from rllib_lpdm.schema.registry import Neighbours

NEIGHBOURS: Final = get_args(Neighbours)


def neighbour_pairs(
    inputs: Tensor,
    neighbours: str = "all",
    fraction: float = 0.5,
    metric: MetricLike = "l1",
) -> Pairs | None:
    """Returns the pairs of which at least one row keeps the other (appendix A).

    Every row keeps ``k = max(1, round(fraction (N - 1)))`` of the other rows, by rank of their
    distance to it: the closest, the furthest, or ("both") the closest half of k, rounded up, and
    the furthest half. Equal distances are ranked by index: a row keeps exactly k.

    A pair's weight is the number of its rows that keep it, as the loss is a norm over ordered
    pairs. With all rows kept every weight is 2 and the loss is equation 1.

    The selection ranks an (N, N) matrix, once a batch, and layers compute the distances of all
    pairs before they leave some out. So an update takes longer than with all of them.

    Args:
        inputs: (N, d_x) the network's input batch.
        neighbours: "all", "closest", "furthest" or "both".
        fraction: share of the other rows that a row keeps, in (0, 1]; the paper keeps half. It
            changes nothing for "all".
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`; for a
            similarity the closest rows are those with the largest entries.

    Returns:
        The kept pairs, or None for "all".

    Raises:
        ValueError: unknown neighbours, a fraction outside (0, 1], ``inputs`` is not a matrix, or
            the metric is unknown.
    """
    if neighbours not in NEIGHBOURS:
        raise ValueError(
            f"unknown neighbours {neighbours!r}; choose one of {', '.join(NEIGHBOURS)}"
        )
    if neighbours == "all":
        return None
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"the fraction of neighbours must be in (0, 1], got {fraction}")
    count = inputs.shape[0]
    distances = pairwise_distances(inputs.detach(), metric)
    ranks = symmetric(distances.neg() if metric_of(metric).similarity else distances, count)
    ranks.nan_to_num_(torch.finfo(ranks.dtype).max)  # rows with NaN are kept, to be reported
    kept = torch.zeros_like(ranks, dtype=torch.bool)
    for wanted in _counts(count - 1, neighbours, fraction):
        if wanted > 0:
            kept |= _lowest(ranks.fill_diagonal_(torch.inf), wanted, kept)
        ranks.neg_()
    weight = (kept.to(torch.int8) + kept.t()).triu_(1)
    first, second = weight.nonzero(as_tuple=True)
    row = torch.arange(count, device=first.device)
    place = (row * (2 * count - row - 3) // 2 - 1)[first] + second
    return Pairs(first, second, weight[first, second].to(inputs.dtype), place)


def _counts(others: int, neighbours: str, fraction: float) -> tuple[int, int]:
    """Returns how many of its closest, and of its furthest, other rows a row keeps."""
    kept = min(others, max(1, round(fraction * others)))
    closest = {"closest": kept, "furthest": 0, "both": (kept + 1) // 2}[neighbours]
    return closest, kept - closest


def _lowest(matrix: Tensor, count: int, taken: Tensor) -> Tensor:
    """Returns a mask of each row's ``count`` lowest entries.

    Of equal entries it prefers the lowest indices, and passes over the entries already taken.
    """
    if matrix.is_cpu:  # much faster than kthvalue
        limit = torch.from_numpy(np.partition(matrix.numpy(), count - 1)[:, count - 1 : count])
    else:
        limit = matrix.kthvalue(count, dim=1, keepdim=True).values
    lowest = matrix <= limit
    if lowest.count_nonzero().item() > count * len(matrix):
        below = matrix < limit
        tied = lowest & ~below & ~taken
        lowest = below | (tied & (tied.cumsum(1) <= count - below.sum(1, keepdim=True)))
    return lowest
