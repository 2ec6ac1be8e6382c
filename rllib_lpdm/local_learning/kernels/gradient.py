"""The gradient of a function of pairwise L1 distances, in the loops' panels and tiles.

These functions call only functions of this file, because numba's cache notices no change of another
one. Whoever changes ``room`` or ``wide_vectors`` in ``compilation`` must also change this file.
"""

from typing import Final

import numpy as np

from rllib_lpdm.local_learning.kernels.compilation import jit, kernel, room, wide_vectors
from rllib_lpdm.local_learning.kernels.loops import GROUP, SIDE, ZERO, Flags, Floats, Indices

HALF: Final = np.float32(0.5)
TWO: Final = np.float32(2.0)


@kernel(
    "f4[:,::1](f4[:,::1], f4[:,:,:,::1], f4[:,:,::1], f4[:,:,::1], i8[:,::1], f4[:,:,::1], "
    "f4, f4, f4, i8)"
)
def differentiate(
    rows: Floats,
    panels: Floats,
    tiles: Floats,
    target: Floats,
    where: Indices,
    weights: Floats,
    scale: np.float32,
    factor: np.float32,
    correction: np.float32,
    pair: int,
) -> Floats:
    """Returns the gradient by the rows, ``dx_i = sum_j G_ij sign(x_i - x_j)`` with sign(0) = 0.

    It is computed as ``2 sum_j G_ij [x_i > x_j] - sum_j G_ij``, which is the same where a column
    has no equal entries. Equal entries count half.

    Args:
        rows, panels: the same rows in both forms.
        tiles, target, where, weights, scale: as in :func:`~.loops.compare`.
        factor: G is the weighted error times this.
        correction: is added to G for one pair.
        pair: i N + j of that pair i < j.

    Returns:
        (N, d).
    """
    wide_vectors()
    tied = columns_with_equal_entries(rows)
    larger = room(panels.shape)  # sum_j G_ij [x_i > x_j]
    larger[:] = ZERO
    every = np.zeros((len(panels), SIDE), np.float32)  # sum_j G_ij
    by_tile, turned = room((SIDE, SIDE)), room((SIDE, SIDE))
    for t in range(len(where)):
        lanes, others, weight = where[t]
        by_distance(tiles[t], target[t], weights[weight], scale, factor, by_tile)
        i, j = pair // len(rows) - lanes * SIDE, pair % len(rows) - others * SIDE
        if 0 <= i < SIDE and 0 <= j < SIDE:
            by_tile[j, i] += correction
            if lanes == others:
                by_tile[i, j] += correction
        add_larger(panels[lanes], panels[others], by_tile, tied, larger[lanes], every[lanes])
        if lanes != others:
            turn(by_tile, turned)
            add_larger(panels[others], panels[lanes], turned, tied, larger[others], every[others])
    gradient: Floats = room(rows.shape)
    for block in range(len(panels)):
        for first in range(0, SIDE, GROUP):  # rows that the cache has room for
            some = gradient[block * SIDE + first : block * SIDE + first + GROUP]
            for group in range(panels.shape[1]):
                sums, part = larger[block, group], some[:, group * GROUP : (group + 1) * GROUP]
                for row in range(part.shape[0]):
                    total = every[block, first + row]
                    for column in range(part.shape[1]):
                        part[row, column] = TWO * sums[column, first + row] - total
    return gradient


@jit
def by_distance(
    distances: Floats,
    target: Floats,
    weights: Floats,
    scale: np.float32,
    factor: np.float32,
    result: Floats,
) -> None:
    for j in range(SIDE):
        for i in range(SIDE):
            error = target[j, i] - distances[j, i] * scale
            result[j, i] = weights[j, i] * error * factor


@jit
def turn(tile: Floats, result: Floats) -> None:
    for i in range(SIDE):
        for j in range(SIDE):
            result[i, j] = tile[j, i]


@jit
def add_larger(
    lanes: Floats,
    others: Floats,
    by_tile: Floats,
    tied: Flags,
    larger: Floats,
    every: Floats,
) -> None:
    """Adds ``sum_j G_ij [x_i > x_j]`` and ``sum_j G_ij`` over the rows j of a block."""
    wide_vectors()
    weights = by_tile.reshape(SIDE // GROUP, GROUP, SIDE)
    assert weights.shape == (SIDE // GROUP, GROUP, SIDE)
    for m in range(SIDE // GROUP):
        for i in range(SIDE):
            total = ZERO
            for j in range(GROUP):
                total += weights[m, j, i]
            every[i] += total
    for group in range(len(lanes)):
        x = lanes[group]
        y = others[group].reshape(GROUP, SIDE // GROUP, GROUP)
        assert x.shape == (GROUP, SIDE)
        assert y.shape == (GROUP, SIDE // GROUP, GROUP)
        for column in range(GROUP):
            sums = larger[group, column]
            for m in range(SIDE // GROUP):
                for i in range(SIDE):
                    total = ZERO
                    for j in range(GROUP):
                        above = x[column, i] > y[column, m, j]
                        total = total + weights[m, j, i] if above else total
                    sums[i] += total
                if tied[group, column]:
                    for i in range(SIDE):
                        total = ZERO
                        for j in range(GROUP):
                            equal = x[column, i] == y[column, m, j]
                            total = total + HALF * weights[m, j, i] if equal else total
                        sums[i] += total


@jit
def columns_with_equal_entries(rows: Floats) -> Flags:
    """Finds the columns of rows that have equal entries.

    It sorts 64 columns at a time by Knuth's merge exchange (Algorithm 5.2.2M). Its comparisons do
    not depend on the entries, which lets the lanes of a vector be columns.

    Args:
        rows: (N, d), finite.

    Returns:
        (groups, 8), in the order of the columns in panels.
    """
    wide_vectors()
    count, width = rows.shape
    tied = np.zeros(-(-width // GROUP) * GROUP, np.bool_)
    strip = room((count, SIDE))
    top = 1
    while 2 * top < count:
        top *= 2
    for start in range(0, width, SIDE):
        part = rows[:, start : start + SIDE]
        marks = tied[start : start + part.shape[1]]
        for n in range(count):
            row, copy = part[n], strip[n]
            for column in range(len(row)):
                copy[column] = row[column]
        p = top
        while p > 0:
            q, r, distance = top, 0, p
            while True:
                for n in range(count - distance):
                    if n & p == r:
                        exchange(strip[n], strip[n + distance])
                if q == p:
                    break
                distance, q, r = q - p, q // 2, p
            p //= 2
        for n in range(count - 1):
            lower, upper = strip[n], strip[n + 1]
            for column in range(len(marks)):
                marks[column] |= lower[column] == upper[column]
    return tied.reshape(-1, GROUP)


@jit
def exchange(lower: Floats, upper: Floats) -> None:
    """Puts the smaller entries of two rows into the first."""
    wide_vectors()
    for column in range(SIDE):
        a, b = lower[column], upper[column]
        lower[column] = a if a < b else b
        upper[column] = b if a < b else a
