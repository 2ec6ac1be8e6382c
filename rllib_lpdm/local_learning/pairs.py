"""Which pairs of a batch's rows are compared: all of them, or those listed."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """A part of all pairs of rows (appendix A), in the order of a condensed distance matrix.

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
        """(N (N - 1) / 2,) condensed entries of all pairs: those of the kept ones, and zeros."""
        return kept.new_zeros(pair_count(rows, None)).index_copy_(0, self.place, kept)


def all_pairs(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column index of every entry of a condensed matrix of ``count`` rows."""
    first, second = torch.triu_indices(count, count, offset=1, device=device)
    return first, second


def condensed_place(first: Tensor, second: Tensor, count: int) -> Tensor:
    """Index in a condensed matrix of ``count`` rows of the pairs (first, second > first)."""
    row = torch.arange(count, device=first.device)
    return (row * (2 * count - row - 3) // 2 - 1)[first] + second


def pair_count(rows: int, pairs: Pairs | None) -> int:
    """Number of entries of a condensed matrix."""
    return rows * (rows - 1) // 2 if pairs is None else len(pairs.first)


def symmetric(condensed: Tensor, count: int) -> Tensor:
    """(N, N) matrix with a diagonal of zeros from its (N (N - 1) / 2,) condensed entries."""
    upper = torch.ones(count, count, dtype=torch.bool, device=condensed.device).triu_(1)
    matrix = condensed.new_zeros(count, count).masked_scatter_(upper, condensed)
    return matrix + matrix.t().contiguous()
