"""Which pairs of a batch's rows are compared: all of them, or those listed."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

# Entries of a block of gathered rows: half a MiB in single precision, which stays in the cache.
BLOCK_ENTRIES: Final = 2**17


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

    def blocks(self, width: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Slice, first and second indices of so many pairs that their rows stay in the cache.

        Args:
            width: entries of a row.
        """
        size = max(1, BLOCK_ENTRIES // max(1, width))
        for start in range(0, len(self.first), size):
            block = slice(start, start + size)
            yield block, self.first[block], self.second[block]


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
