"""The local loss of a hidden layer (equation 1), by autograd and with its gradient by hand."""

import math
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from rllib_lpdm.local_learning.distances import (
    Metric,
    MetricLike,
    Pairs,
    check_rows,
    metric_of,
    pair_count,
    pairwise_distances,
    vanishes,
)
from rllib_lpdm.local_learning.targets import RunningMaximum, has_structure
from rllib_lpdm.schema.registry import Scaling


class LocalLoss(NamedTuple):
    """The local loss of every hidden layer of a network.

    Attributes:
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.
        neighbours, fraction: the pairs of rows that are matched (appendix A), selected once from
            the input batch: see :func:`~rllib_lpdm.local_learning.neighbours.neighbour_pairs`.
        propagate_error: a layer matches its own input, scaled by the previous layer's error
            (appendix B), instead of the network's input.
        scaling: the divisors of the distances. All but the last divide both matrices by their
            maximum.

            - "own": also the inputs' by d_x and the outputs' by d_y.
            - "target": also the inputs' by d_x.
            - "none": by nothing else.
            - "absolute": the inputs' by their maximum alone, the outputs' by d_y alone.
        maximum: takes in each target's largest entry and is the target's divisor; None divides by
            the target's own. Not with ``propagate_error``, whose layers have different targets.
        original: values guide the input's distances as they are, not over their maximum.
    """

    metric: MetricLike = "l1"
    neighbours: str = "all"
    fraction: float = 0.5
    propagate_error: bool = False
    scaling: Scaling = "own"
    maximum: RunningMaximum | None = None
    original: bool = False


PAPER_LOSS: Final = LocalLoss()


class LayerMatch(NamedTuple):
    """How well a layer's outputs match a target, and how to match it better.

    Attributes:
        loss: equation 1.
        gradient: (N, d_y) by the outputs. Where several processes share the pairs of rows, it is
            this process's part of the sum.
        error: the target minus the matched distances, for the next layer's target; zeros where the
            outputs have no distances, None where it was not asked for.
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
    """Returns ``|| D_Y / (d_y max |D_Y|) - A ||_F``, equation 1, which autograd differentiates.

    It is the reference of :func:`distance_matching_gradient`.

    Args:
        outputs: (N, d_y) a layer's outputs Y.
        target: (N (N - 1) / 2,) condensed target A of
            :func:`~rllib_lpdm.local_learning.targets.target_distances`; (P,) with pairs.
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.
        pairs: the pairs to match (appendix A), None for all. The maximum is taken over the kept
            pairs, and each squared error counts ``weight`` times instead of twice.
        absolute: whether to compare ``D_Y / d_y`` with A, without the maximum of D_Y.

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
        largest = metric_of(metric).magnitudes(distances).max(dim=0).values
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
    """Returns the same loss and its gradient by the outputs, without autograd.

    Let k be the pair of largest magnitude, ``m = |D_k|``, ``M = D_Y / (m d_y)`` and ``E = M - A``.
    The loss is ``L = sqrt(sum w E^2)`` over the pairs, where w = 2 unless pairs are given. Its
    gradient by M is ``G0 = w E / L``, and ``G0 / (m d_y)`` by D_Y. The pair k also carries
    ``-sum(G0 M) / D_k``, because m moves with it. With ``absolute`` m is 1, and no pair carries
    more than its own error.

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
    with_error: bool = False,
    dimensions: int | None = None,
    absolute: bool = False,
) -> LayerMatch:
    """Matches a target with structure, as :func:`distance_matching_gradient` does.

    Call it under ``torch.no_grad()``. The scalars between the kernels are Python floats: at a
    hundred rows a 0-dimensional tensor costs more than the work done with it.

    Args:
        outputs, target, pairs, absolute: as there.
        metric: of both.
        keep_error: whether to return the error.
        with_error: whether to measure the distance error.
        dimensions: divides D_Y in place of d_y.
    """
    distances = metric.distances(outputs, pairs)
    apart = distance_error(distances, target, metric) if with_error else 0.0
    extreme, place = (1.0, 0) if absolute else metric.largest_entry(distances)
    if vanishes(abs(extreme), distances.dtype):
        return LayerMatch(0.0, torch.zeros_like(outputs), torch.zeros_like(distances), apart)
    scale = 1.0 / (abs(extreme) * (dimensions or outputs.shape[1]))
    error = torch.add(target, distances, alpha=-scale)
    if pairs is None:
        loss = math.sqrt(2.0) * torch.linalg.vector_norm(error).item()
    else:
        loss = math.sqrt(torch.dot(pairs.weight, error.square()).item())
    if loss == 0.0 or (len(target) == 1 and not absolute):
        return LayerMatch(loss, torch.zeros_like(outputs), error, apart)
    by_distance = (error.clone() if keep_error else error).mul_(-2.0 * scale / loss)
    if pairs is not None:
        by_distance *= 0.5 * pairs.weight
    if not absolute:
        by_distance[place].sub_(torch.dot(by_distance, distances).item() / extreme)
    gradient = metric.gradient(by_distance, outputs, distances, pairs)
    return LayerMatch(loss, gradient, error if keep_error else None, apart)


def distance_error(distances: Tensor, target: Tensor, metric: MetricLike = "l1") -> float:
    """Returns how far outputs are from keeping the distances of a target.

    Unlike the loss, it can be compared between layers and networks of different widths.

    Args:
        distances: (P,) condensed distances D_Y of a layer's outputs, of all pairs or some.
        target: (P,) condensed target A of the same pairs, with structure.
        metric: of both, see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.

    Returns:
        Root mean square over the pairs of ``D_Y / max |D_Y| - A / max |A|``. It is 0 where all
        distances are kept up to one common factor, and at most 1; at most 2 for a similarity.
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
