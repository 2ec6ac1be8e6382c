"""The local loss of a hidden layer (equation 1), by autograd and with its gradient by hand."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rllib_lpdm.local_learning.distances import (
    Metric,
    MetricLike,
    check_rows,
    metric_of,
    pairwise_distances,
    vanishes,
)
from rllib_lpdm.local_learning.pairs import Pairs, pair_count
from rllib_lpdm.local_learning.targets import has_structure


class Match(NamedTuple):
    """How well a layer's outputs match a target, and how to match it better.

    Attributes:
        loss: equation 1.
        gradient: (N, d_y) with respect to the outputs.
        distances: condensed distances D_Y of the outputs.
        error: condensed target minus matched distances, A - M; zeros where the outputs have no
            distances, None where it was not asked for.
    """

    loss: float
    gradient: Tensor
    distances: Tensor
    error: Tensor | None


class LayerMatch(NamedTuple):
    """What a layer needs of a match, whoever computed it.

    Attributes:
        loss: equation 1.
        gradient: (N, d_y) with respect to the outputs; where several processes share the pairs of
            rows, this process's part of the sum.
        error: for the next layer's target, None where it was not asked for.
        distance_error: see :func:`distance_error`; 0 where it was not asked for.
    """

    loss: float
    gradient: Tensor
    error: Any
    distance_error: float


def distance_matching_loss(
    outputs: Tensor,
    target: Tensor,
    metric: MetricLike = "l1",
    *,
    pairs: Pairs | None = None,
    absolute: bool = False,
) -> Tensor:
    """``|| D_Y / (d_y max |D_Y|) - A ||_F``, equation 1: the reference, differentiated by autograd.

    Args:
        outputs: (N, d_y) a layer's outputs Y.
        target: (N (N - 1) / 2,) condensed target A of
            :func:`~rllib_lpdm.local_learning.targets.target_distances`; (P,) with pairs.
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.
        pairs: the pairs to match (appendix A), None for all. The maximum is then that over the
            kept pairs, and each squared error counts ``weight`` times instead of twice.
        absolute: compare ``D_Y / d_y`` with A, without the maximum of D_Y.

    Returns:
        Scalar. Zero, with zero gradient, where nothing can be matched: fewer than two rows, equal
        inputs (a target of zeros), or outputs without any distance. With ``absolute`` outputs
        without any distance have the loss ``|| A ||_F``.

    Raises:
        ValueError: the shapes do not belong together, or the metric is unknown.
    """
    distances = pairwise_distances(outputs, metric, pairs=pairs)
    _check_pairs(outputs, target, pairs)
    if not has_structure(target):
        return torch.mul(outputs.sum(), 0.0)
    if absolute:
        error = distances / outputs.shape[1] - target
    else:
        magnitudes = distances.abs() if metric_of(metric).signed else distances
        largest = magnitudes.max(dim=0).values
        if vanishes(largest.item(), distances.dtype):
            return torch.mul(outputs.sum(), 0.0)
        error = distances / (largest * outputs.shape[1]) - target
    if pairs is None:
        loss = torch.mul(torch.linalg.vector_norm(error), math.sqrt(2.0))
    else:
        loss = torch.linalg.vector_norm(error * pairs.weight.sqrt())
    if len(target) == 1 and not absolute:
        # One pair: its distance is its own maximum, and rounding must not pass for a gradient.
        return loss.detach() + torch.mul(outputs.sum(), 0.0)
    return loss


@torch.no_grad()
def distance_matching_gradient(
    outputs: Tensor,
    target: Tensor,
    metric: MetricLike = "l1",
    *,
    pairs: Pairs | None = None,
    absolute: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same loss and its gradient with respect to the outputs, without autograd.

    With k the pair of largest magnitude, ``m = |D_k|``, ``M = D_Y / (m d_y)`` and ``E = M - A`` the
    loss is ``L = sqrt(sum w E^2)`` over the pairs, where w = 2 unless pairs are given, its gradient
    ``G0 = w E / L`` with respect to M, and ``G0 / (m d_y)`` with respect to D_Y, where the pair k
    also carries ``-sum(G0 M) / D_k`` because m moves with it. With ``absolute`` m is 1, and no pair
    carries more than its own error.

    Args:
        outputs: (N, d_y) a layer's outputs Y.
        target: (N (N - 1) / 2,) condensed target A; (P,) with pairs.
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.
        pairs, absolute: as in :func:`distance_matching_loss`.

    Returns:
        The scalar loss and its (N, d_y) gradient. Both are zero where nothing can be matched (see
        :func:`distance_matching_loss`). The gradient of one pair is zero unless ``absolute``.

    Raises:
        ValueError: the shapes do not belong together, or the metric is unknown.
    """
    check_rows(outputs)
    known = metric_of(metric)
    _check_pairs(outputs, target, pairs)
    if not has_structure(target):
        return outputs.new_zeros(()), torch.zeros_like(outputs)
    match = matching_step(outputs, target, known, pairs, absolute=absolute)
    return outputs.new_tensor(match.loss), match.gradient


def matching_step(
    outputs: Tensor,
    target: Tensor,
    metric: Metric,
    pairs: Pairs | None = None,
    keep_error: bool = False,
    dimensions: int | None = None,
    absolute: bool = False,
) -> Match:
    """:func:`distance_matching_gradient` for a target with structure, under ``torch.no_grad()``.

    D_Y is divided by ``dimensions`` in place of its own d_y.

    The scalars between the kernels are Python floats: at a hundred rows a 0-dimensional tensor
    costs more than what is computed with it.
    """
    distances = metric.distances(outputs, pairs)
    extreme, place = (1.0, 0) if absolute else metric.largest_entry(distances)
    if vanishes(abs(extreme), distances.dtype):
        return Match(0.0, torch.zeros_like(outputs), distances, torch.zeros_like(distances))
    scale = 1.0 / (abs(extreme) * (dimensions or outputs.shape[1]))
    error = torch.add(target, distances, alpha=-scale)
    if pairs is None:
        loss = math.sqrt(2.0) * torch.linalg.vector_norm(error).item()
    else:
        loss = math.sqrt(torch.dot(pairs.weight, error.square()).item())
    if loss == 0.0 or (len(target) == 1 and not absolute):
        return Match(loss, torch.zeros_like(outputs), distances, error)
    by_distance = (error.clone() if keep_error else error).mul_(-2.0 * scale / loss)
    if pairs is not None:
        by_distance *= 0.5 * pairs.weight
    if not absolute:
        by_distance[place].sub_(torch.dot(by_distance, distances).item() / extreme)
    gradient = metric.gradient(by_distance, outputs, distances, pairs)
    return Match(loss, gradient, distances, error if keep_error else None)


def distance_error(distances: Tensor, target: Tensor, metric: MetricLike = "l1") -> float:
    """How far the outputs are from keeping the distances, whatever their number of dimensions.

    Unlike the loss, it can be compared between layers and networks.

    Args:
        distances: (P,) condensed distances D_Y of a layer's outputs, of all pairs or some.
        target: (P,) condensed target A of the same pairs, with structure.
        metric: that of both, see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.

    Returns:
        Root mean square over the pairs of ``D_Y / max |D_Y| - A / max |A|``: 0 where all distances
        are kept up to one common factor, at most 1; at most 2 for a similarity.
    """
    known = metric_of(metric)
    largest = known.largest(distances)
    kept = distances if vanishes(largest, distances.dtype) else distances / largest
    error = torch.sub(kept, target, alpha=1.0 / known.largest(target))
    return float(torch.linalg.vector_norm(error).item()) / math.sqrt(len(target))


def _check_pairs(outputs: Tensor, target: Tensor, pairs: Pairs | None) -> None:
    count = pair_count(outputs.shape[0], pairs)
    if target.shape != (count,):
        raise ValueError(
            f"the target has shape {tuple(target.shape)}, but {outputs.shape[0]} rows of outputs "
            f"have {count} pairs"
        )
