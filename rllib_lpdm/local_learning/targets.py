"""The distances that every hidden layer is asked to reproduce."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rllib_lpdm.local_learning.distances import (
    MetricLike,
    Pairs,
    all_pairs,
    metric_of,
    pairwise_distances,
    vanishes,
)


@dataclass
class RunningMaximum:
    """The largest entry of all targets so far; 0 before the first."""

    value: float = 0.0

    def take(self, largest: float) -> float:
        """Takes in a batch's largest entry, and returns the largest so far.

        An entry that is not finite is returned and not taken in.
        """
        if not math.isfinite(largest):
            return largest
        self.value = max(self.value, largest)
        return self.value


@torch.no_grad()
def target_distances(
    inputs: Tensor,
    values: Tensor | None = None,
    metric: MetricLike = "l1",
    *,
    pairs: Pairs | None = None,
    error: Tensor | None = None,
    dimensions: int | None = None,
    maximum: RunningMaximum | None = None,
    original: bool = False,
) -> Tensor:
    """Returns the normalised distances of an input batch (sections 3.1 and 3.2, appendix B).

    Without values, the unsupervised target ``(D_X / max |D_X|) / d_x``. With values, the guided
    one: ``u = (1 - (v - min v) / (max v - min v)) / 2`` is added to the rows and the columns of
    ``D_X / max |D_X|``, which moves states of low value apart. The sum is normalised again. With
    ``original`` u is added to D_X as it is, and weighs less where inputs lie far apart. From a
    similarity ("gram") u is subtracted: there, smaller entries are further apart.

    With the previous layer's error E (appendix B) D_X is first scaled to
    ``D_X (1 + |E| / max |E|)``: pairs that the layer did not match weigh more.

    Args:
        inputs: (N, d_x) the network's input batch, or a layer's own with forward-error propagation.
        values: (N,) a value per row: normalised return, learned baseline or critic's value.
            Values constant up to rounding give the unsupervised target.
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.
        pairs: the pairs to keep, None for all. The maximum is taken over the kept pairs.
        error: one entry a pair, the difference of the previous layer's matched and target
            distances; None for the first layer.
        dimensions: the divisor d_x; None for the width of ``inputs``. Forward-error propagation
            keeps the width of the network's input: divided by a wide layer's, targets would be too
            small for the layers after it to learn.
        maximum: takes in this target's largest entry and is the divisor; None divides by this
            target's own.
        original: whether to add the guidance to the distances before they are normalised.

    Returns:
        (N (N - 1) / 2,) condensed target in [0, 1 / d_x], or in [-1 / d_x, 1 / d_x] for a
        similarity; (P,) with pairs. All zero where all rows are equal: there is no structure to
        keep, and no layer is trained on it.

    Raises:
        ValueError: ``inputs`` is not a matrix, ``values`` does not have one entry a row or
            ``error`` one a pair, or the metric is unknown.
    """
    if values is not None and values.shape != inputs.shape[:1]:
        raise ValueError(
            f"values need one entry a row, shape ({inputs.shape[0]},), got {tuple(values.shape)}"
        )
    known = metric_of(metric)
    distances = pairwise_distances(inputs, metric, pairs=pairs)
    if error is not None:
        distances = _scaled(distances, error)
    if distances.numel() == 0:
        return distances
    largest = known.largest(distances)
    rows_are_equal = known.similarity and bool((inputs == inputs[:1]).all())
    if vanishes(largest, distances.dtype) or rows_are_equal:
        return torch.zeros_like(distances)
    guidance = None if values is None else _guidance(values.to(inputs.dtype))
    if guidance is not None:
        first, second = (
            all_pairs(inputs.shape[0], inputs.device)
            if pairs is None
            else (pairs.first, pairs.second)
        )
        guidance = -guidance if known.similarity else guidance
        distances = distances / (1.0 if original else largest) + guidance[first] + guidance[second]
        largest = known.largest(distances)
        if vanishes(largest, distances.dtype):
            return torch.zeros_like(distances)
    largest = largest if maximum is None else maximum.take(largest)
    return distances * (1.0 / (largest * (dimensions or inputs.shape[1])))


def has_structure(target: Tensor) -> bool:
    """Whether a target has pairs and not all of its rows were equal."""
    return target.numel() > 0 and (target.max().item() != 0.0 or target.min().item() != 0.0)


def _guidance(values: Tensor) -> Tensor | None:
    """Returns (N,) u in [0, 1/2], 1/2 for the lowest value; None where all values are equal."""
    lowest, highest = (bound.item() for bound in torch.aminmax(values))
    noise = 8.0 * torch.finfo(values.dtype).eps * max(abs(highest), abs(lowest))
    spread = highest - lowest
    if math.isfinite(spread) and spread <= noise:
        return None
    return (highest - values) * (0.5 / spread)


def _scaled(distances: Tensor, error: Tensor) -> Tensor:
    """Returns the distances times one plus the error, normalised to [0, 1]."""
    if error.shape != distances.shape:
        raise ValueError(
            f"the error has shape {tuple(error.shape)}, but there are {len(distances)} pairs"
        )
    if not error.any():
        return distances
    magnitude = error.abs()
    return distances * (1.0 + magnitude / magnitude.max())
