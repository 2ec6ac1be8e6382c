"""The pairs of rows in each tile, and the tiles that a process computes."""

import functools
from typing import NamedTuple

import numpy as np

from rllib_lpdm.local_learning.distances import Pairs
from rllib_lpdm.local_learning.kernels.loops import SIDE, Floats, Indices


class Tiles(NamedTuple):
    """The tiles of a batch, as :mod:`~rllib_lpdm.local_learning.kernels.loops` takes them.

    Attributes:
        where: (T, 3) block of the lanes, block of the other rows, index of the weights.
        weights: (W, 64, 64).
        blocks: number of blocks of rows.
        pairs: number of pairs of rows with weight, in the tiles of all processes.
    """

    where: Indices
    weights: Floats
    blocks: int
    pairs: int


def tiles_of(count: int, pairs: Pairs | None, rank: int, processes: int) -> Tiles:
    """Returns the tiles of a batch that one process computes: every ``processes``-th.

    Args:
        count: number of rows.
        pairs: the pairs that are compared, None for all.
        rank: of this process.
        processes: their number.
    """
    if pairs is None:
        return _of_all_pairs(count, rank, processes)
    size = -(-count // SIDE) * SIDE
    matrix = np.zeros((size, size), np.float32)
    first, second = pairs.first.numpy(), pairs.second.numpy()
    matrix[first, second] = matrix[second, first] = pairs.weight.numpy()
    lanes, others = _blocks(size // SIDE, rank, processes)
    weights = matrix.reshape(size // SIDE, SIDE, size // SIDE, SIDE)[others, :, lanes, :]
    where = np.stack([lanes, others, np.arange(len(lanes))], axis=1)
    return Tiles(where, np.ascontiguousarray(weights), size // SIDE, len(first))


@functools.lru_cache(maxsize=64)
def _of_all_pairs(count: int, rank: int, processes: int) -> Tiles:
    """Returns the tiles of all pairs, whose weights are 2.

    Equal tiles share their weights. There are four kinds: on the diagonal or not, last or not.
    """
    blocks = -(-count // SIDE)
    lanes, others = _blocks(blocks, rank, processes)
    weights = np.full((4, SIDE, SIDE), 2.0, np.float32)
    left = count - SIDE * (blocks - 1)  # rows in the last block
    weights[2:, left:, :] = 0.0
    weights[3, :, left:] = 0.0
    weights[1::2] *= 1.0 - np.eye(SIDE, dtype=np.float32)
    kind = (lanes == others) + 2 * (others == blocks - 1)
    return Tiles(np.stack([lanes, others, kind], axis=1), weights, blocks, count * (count - 1) // 2)


def _blocks(blocks: int, rank: int, processes: int) -> tuple[Indices, Indices]:
    lanes, others = np.triu_indices(blocks)
    return lanes[rank::processes], others[rank::processes]
