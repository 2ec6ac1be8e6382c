"""Condensed pairwise distances of a batch of rows, and their gradient.

A condensed distance matrix lists the pairs (i, j) with i < j row by row, as ``torch.pdist`` and
``scipy.spatial.distance.pdist`` do. With :class:`Pairs` it lists only the kept pairs.
"""

import functools
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

from rllib_lpdm.local_learning.torch_internals import pdist_backward
from rllib_lpdm.schema.registry import METRICS


class Pairs(NamedTuple):
    """The pairs of rows that are compared (appendix A), in the order of a condensed matrix.

    Attributes:
        first: (P,) indices i of the rows.
        second: (P,) indices j > i.
        weight: (P,) how many of the two rows keep the pair: 1 or 2.
        place: (P,) index of the pair in the condensed matrix of all pairs.
    """

    first: Tensor
    second: Tensor
    weight: Tensor
    place: Tensor

    def spread(self, kept: Tensor, rows: int) -> Tensor:
        """Returns (N (N - 1) / 2,) entries of all pairs: the (P,) kept ones, and zeros."""
        return kept.new_zeros(pair_count(rows, None)).index_copy_(0, self.place, kept)


class Metric(NamedTuple):
    """A metric by its values and its gradient, over all pairs of rows.

    With :class:`Pairs` the other distances are computed too, and left out. That takes no longer
    than gathering the rows of each pair, unless the pairs are very few.

    Attributes:
        values: x -> condensed distances; differentiable by autograd.
        derivative: (gradient by the distances, x, distances) -> gradient by x.
        similarity: whether larger entries mean closer rows.
        signed: whether entries may be negative.
    """

    values: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor, Tensor], Tensor]
    similarity: bool = False
    signed: bool = False

    def distances(self, x: Tensor, pairs: Pairs | None) -> Tensor:
        """Returns the condensed distances of (N, d) rows."""
        distances = self.values(x)
        return distances if pairs is None else distances.index_select(0, pairs.place)

    def gradient(self, g: Tensor, x: Tensor, distances: Tensor, pairs: Pairs | None) -> Tensor:
        """Returns the (N, d) gradient by the rows from the (P,) gradient by the distances."""
        if pairs is not None:
            g, distances = (pairs.spread(kept, x.shape[0]) for kept in (g, distances))
        return self.derivative(g, x, distances)

    def magnitudes(self, distances: Tensor) -> Tensor:
        """Returns the magnitude of each entry."""
        return distances.abs() if self.signed else distances

    def largest(self, distances: Tensor) -> float:
        """Returns the largest magnitude of (P,) distances, P > 0."""
        return self.magnitudes(distances).max().item()

    def largest_entry(self, distances: Tensor) -> tuple[float, int]:
        """Returns the first entry of largest magnitude, with its sign, and its index; P > 0."""
        if self.signed:
            index = int(distances.abs().argmax().item())
            return distances[index].item(), index
        largest, place = distances.max(dim=0)
        return largest.item(), int(place.item())


MetricLike = str | Metric | Callable[[Tensor], Tensor]


def pairwise_distances(
    x: Tensor, metric: MetricLike = "l1", *, pairs: Pairs | None = None
) -> Tensor:
    """Returns the distances between all pairs of rows (section 3.1, the matrices D_X and D_Y).

    Args:
        x: (N, d) rows. Differentiable by autograd.
        metric: one of

            - "l1", the paper's choice: the sum of absolute differences.
            - "l2", "squared_l2": the Euclidean distance and its square.
            - "cosine": 1 - cosine similarity, where a row of zeros has similarity 0 to all rows.
              Distances within 16 units of rounding of zero are zero.
            - "gram": inner products. A similarity: larger means closer, and it may be negative.
            - a name that :func:`~rllib_lpdm.schema.registry.register_metric` was given.
            - a function ``f(x: (N, d)) -> (N (N - 1) / 2,)``, differentiable by autograd. Its
              values are taken for distances and may be negative.
        pairs: (P,) the pairs to list, None for all.

    Returns:
        (N (N - 1) / 2,) condensed distances, or (P,) of the pairs; empty for N < 2.

    Raises:
        ValueError: ``x`` is not a matrix, the metric is unknown, or a function did not return one
            entry a pair.
    """
    check_rows(x)
    return metric_of(metric).distances(x, pairs)


def pairwise_distances_gradient(
    distance_gradient: Tensor,
    x: Tensor,
    distances: Tensor,
    metric: MetricLike = "l1",
    *,
    pairs: Pairs | None = None,
) -> Tensor:
    """Returns the gradient by ``x`` of a function of ``pairwise_distances(x)``, without autograd.

    With g the gradient by the distances, and sums over all j that form a pair with i:

    - l1: ``dx_i = sum_j g_ij sign(x_i - x_j)`` with sign(0) = 0.
    - l2: ``dx_i = sum_j g_ij (x_i - x_j) / D_ij``, where equal rows contribute nothing.
    - squared_l2: ``dx_i = 2 sum_j g_ij (x_i - x_j)``.
    - gram: ``dx_i = sum_j g_ij x_j``.
    - cosine: with unit rows n and ``v_i = -sum_j g_ij n_j``, ``dx_i = (v_i - (v_i n_i) n_i) /
      |x_i|``; zero for a row of zeros, and pairs at distance 0 contribute nothing.

    Autograd differentiates a function in place of a name, over a copy of ``x``: its graph spans
    that function and no layer.

    Args:
        distance_gradient: (N (N - 1) / 2,) gradient by the condensed distances, or (P,).
        x: (N, d) the rows.
        distances: ``pairwise_distances(x, metric, pairs=pairs)``.
        metric, pairs: as in :func:`pairwise_distances`.

    Returns:
        (N, d) gradient by the rows.

    Raises:
        ValueError: ``x`` is not a matrix, the others do not have one entry a pair of its rows, or
            the metric is unknown.
    """
    check_rows(x)
    known = metric_of(metric)
    count = pair_count(x.shape[0], pairs)
    if distance_gradient.shape != (count,) or distances.shape != (count,):
        raise ValueError(
            f"{x.shape[0]} rows have {count} pairs, but the gradient has shape "
            f"{tuple(distance_gradient.shape)} and the distances have {tuple(distances.shape)}"
        )
    return known.gradient(distance_gradient, x, distances, pairs) if count else torch.zeros_like(x)


def metric_of(metric: MetricLike) -> Metric:
    """Returns the metric of a name or of a function; raises ValueError for an unknown name."""
    if isinstance(metric, str) and metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; choose one of {', '.join(METRICS)}")
    function = METRICS[metric] if isinstance(metric, str) else metric
    if isinstance(function, Metric):
        return function
    return Metric(
        functools.partial(_by_function, function),
        functools.partial(_gradient_by_function, function),
        signed=True,
    )


def vanishes(largest: float, dtype: torch.dtype) -> bool:
    """Whether the largest magnitude of all distances is too small to divide by."""
    return largest < torch.finfo(dtype).tiny


def check_rows(x: Tensor) -> None:
    """Raises ValueError unless ``x`` is a matrix."""
    if x.ndim != 2:
        raise ValueError(f"pairwise distances need rows of shape (N, d), got {tuple(x.shape)}")


def all_pairs(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the row and the column of every entry of a condensed matrix of ``count`` rows."""
    first, second = torch.triu_indices(count, count, offset=1, device=device)
    return first, second


def pair_count(rows: int, pairs: Pairs | None) -> int:
    """Returns the number of entries of a condensed matrix."""
    return rows * (rows - 1) // 2 if pairs is None else len(pairs.first)


def symmetric(condensed: Tensor, count: int) -> Tensor:
    """Returns the (N, N) matrix of condensed entries, with a diagonal of zeros."""
    upper = torch.ones(count, count, dtype=torch.bool, device=condensed.device).triu_(1)
    matrix = condensed.new_zeros(count, count).masked_scatter_(upper, condensed)
    return matrix + matrix.t().contiguous()


def _lp_metric(p: float) -> Metric:
    return Metric(
        functools.partial(torch.pdist, p=p),
        lambda g, x, distances: pdist_backward(g, x, p, distances),
    )


def _squared_l2(x: Tensor) -> Tensor:
    return torch.pdist(x, p=2.0).square()


def _squared_l2_gradient(g: Tensor, x: Tensor, distances: Tensor) -> Tensor:
    matrix = symmetric(2.0 * g, x.shape[0])
    centred = x - x.mean(0)  # no digits are lost where rows are far from zero
    return matrix.sum(1, keepdim=True) * centred - matrix @ centred


def _gram(x: Tensor) -> Tensor:
    return (x @ x.t())[all_pairs(x.shape[0], x.device)]


def _gram_gradient(g: Tensor, x: Tensor, distances: Tensor) -> Tensor:
    return symmetric(g, x.shape[0]) @ x


def _cosine(x: Tensor) -> Tensor:
    distances = 1.0 - _gram(x * _inverse_norms(x))
    # The distance of rows that differ by a factor is only rounding: no structure to learn.
    return distances.masked_fill(distances < 16.0 * torch.finfo(x.dtype).eps, 0.0)


def _cosine_gradient(g: Tensor, x: Tensor, distances: Tensor) -> Tensor:
    inverse = _inverse_norms(x)
    unit = x * inverse
    by_unit = _gram_gradient(g.masked_fill(distances == 0.0, 0.0).neg_(), unit, distances)
    radial = (by_unit * unit).sum(1, keepdim=True) * unit
    return (by_unit - radial).mul_(inverse)


def _inverse_norms(x: Tensor) -> Tensor:
    """Returns (N, 1) inverse Euclidean norms; 0 for rows too small to divide by."""
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    zero = norms < torch.finfo(x.dtype).tiny
    inverse: Tensor = norms.masked_fill(zero, 1.0).reciprocal().masked_fill(zero, 0.0)
    return inverse


def _by_function(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    count = pair_count(x.shape[0], None)
    distances = function(x) if count else x.new_zeros(0)
    if distances.shape != (count,):
        raise ValueError(
            f"{x.shape[0]} rows have {count} pairs, but the metric returned shape "
            f"{tuple(distances.shape)}"
        )
    return distances


def _gradient_by_function(
    function: Callable[[Tensor], Tensor], g: Tensor, x: Tensor, distances: Tensor
) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        again = _by_function(function, leaf)
        if not again.requires_grad:
            raise ValueError("the metric's function is not differentiable by autograd")
        (gradient,) = torch.autograd.grad(again, leaf, g.clone())
    return gradient


L1: Final = _lp_metric(1.0)
L2: Final = _lp_metric(2.0)
SQUARED_L2: Final = Metric(_squared_l2, _squared_l2_gradient)
COSINE: Final = Metric(_cosine, _cosine_gradient)
GRAM: Final = Metric(_gram, _gram_gradient, similarity=True, signed=True)
