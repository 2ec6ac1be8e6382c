"""The loops that matching pairwise L1 distances costs, in single precision, for numba.

Rows are packed in *panels* [block][group of 8 columns][column][64 rows], so that the lanes of a
vector are rows. A *tile* (64, 64) holds the distances of the rows i of one block, its lanes, to the
rows j of another, ``tile[j, i]``. Of every two blocks there is one tile, in which each pair of rows
stands once, and of every block with itself one, in which each stands twice. A tile's *weights* are
those of its pairs, and zero for rows that only fill up a block, and for a row with itself; where
they are zero, so are distances and targets.

``where`` lists the tiles: the block of the lanes, the block of the others, and the place of the
weights, which equal tiles share.

The loops become vectors because their bounds are known, indices begin at zero, no branch stands in
the innermost, and eight terms are added before anything goes into memory. All sums are taken in an
order that depends on the shapes alone.

What these functions call is in this file, since numba's cache notices no change of another one.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.local_learning.kernels.compilation import jit, kernel, wide_vectors

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

SIDE: Final = 64  # rows of a block
GROUP: Final = 8  # columns, or rows, whose terms are added before they go into memory
ZERO: Final = np.float32(0.0)
HALF: Final = np.float32(0.5)
TWO: Final = np.float32(2.0)
LARGEST: Final = np.finfo(np.float32).max
TINY: Final = float(np.finfo(np.float32).tiny)


@kernel("f4(f4[:,::1], i8[:,::1], f4[:,:,::1], f4[:,:,:,::1], f4[:,:,::1], f4[::1])")
def measure(
    rows: Floats, where: Indices, weights: Floats, panels: Floats, tiles: Floats, largest: Floats
) -> np.float32:
    """L1 distances of all pairs of rows.

    Args:
        rows: (N, d).
        where, weights: the tiles.
        panels: (blocks, groups, 8, 64), written: the rows.
        tiles: (T, 64, 64), written: the distances.
        largest: (T,), written: the largest distance of each tile.

    Returns:
        The largest distance; NaN where an entry is not finite, and then no distances.
    """
    wide_vectors()
    if not all_finite(rows):
        return np.float32(np.nan)
    pack(rows, panels)
    highest = ZERO
    for t in range(len(where)):
        lanes, others, weight = where[t]
        measure_tile(panels[lanes], panels[others], tiles[t])
        largest[t] = mask_tile(weights[weight], tiles[t])
        highest = max(highest, largest[t])
    return highest


@jit
def all_finite(rows: Floats) -> bool:
    for n in range(rows.shape[0]):
        row, bad = rows[n], 0
        for column in range(len(row)):
            bad += not abs(row[column]) <= LARGEST
        if bad:
            return False
    return True


@jit
def pack(rows: Floats, panels: Floats) -> None:
    """(N, d) rows -> panels, filled up with zeros."""
    for block in range(panels.shape[0]):
        for group in range(panels.shape[1]):
            panel = panels[block, group]
            part = rows[block * SIDE : (block + 1) * SIDE, group * GROUP : (group + 1) * GROUP]
            if part.shape != (SIDE, GROUP):
                panel[:] = ZERO
            for column in range(part.shape[1]):
                for lane in range(part.shape[0]):
                    panel[column, lane] = part[lane, column]


@jit
def measure_tile(lanes: Floats, others: Floats, tile: Floats) -> None:
    wide_vectors()
    tile[:] = ZERO
    for group in range(len(lanes)):
        x, y = lanes[group], others[group]
        for j in range(SIDE):
            distances = tile[j]
            for i in range(SIDE):
                total = ZERO
                for column in range(GROUP):
                    total += abs(x[column, i] - y[column, j])
                distances[i] += total


@jit
def mask_tile(weights: Floats, tile: Floats) -> np.float32:
    """Clears the entries without weight; returns the largest of the others."""
    highest = np.zeros(SIDE, np.float32)
    for j in range(SIDE):
        for i in range(SIDE):
            entry = tile[j, i] if weights[j, i] > ZERO else ZERO
            tile[j, i] = entry
            highest[i] = entry if entry > highest[i] else highest[i]
    return np.float32(highest.max())


@kernel("f4(f4[:,:,::1], i8[:,::1], f4[:,:,::1], f4[:,::1], f4)")
def guide(
    tiles: Floats, where: Indices, weights: Floats, guidance: Floats, scale: np.float32
) -> np.float32:
    """Scales distances and adds the guidance of both rows, in place.

    Args:
        tiles, where, weights: the distances.
        guidance: (blocks, 64) of each row.
        scale: what the distances are multiplied with.

    Returns:
        The largest entry.
    """
    highest = ZERO
    for t in range(len(where)):
        tile, of_lanes, of_others = tiles[t], guidance[where[t, 0]], guidance[where[t, 1]]
        for j in range(SIDE):
            other = of_others[j]
            for i in range(SIDE):
                tile[j, i] = tile[j, i] * scale + of_lanes[i] + other
        highest = max(highest, mask_tile(weights[where[t, 2]], tile))
    return highest


@kernel("UniTuple(f8, 3)(f4[:,:,::1], f4[:,:,::1], i8[:,::1], f4[:,:,::1], f4, f4, f4)")
def compare(
    tiles: Floats,
    target: Floats,
    where: Indices,
    weights: Floats,
    scale: np.float32,
    unit: np.float32,
    target_unit: np.float32,
) -> tuple[float, float, float]:
    """Sums over all pairs, with the error e = A - D scale and weights w.

    Args:
        tiles: the distances D.
        target: the target A.
        where, weights: the tiles.
        scale: what makes D comparable with A.
        unit, target_unit: what make either's largest entry 1.

    Returns:
        ``sum w e^2``, ``sum w e D`` and ``sum (D unit - A target_unit)^2``.
    """
    sums = np.empty((3, SIDE), np.float32)
    squares, products, differences = sums
    square = product = difference = 0.0
    for t in range(len(where)):
        distances, wanted, weight = tiles[t], target[t], weights[where[t, 2]]
        sums[:] = ZERO
        for j in range(SIDE):
            for i in range(SIDE):
                error = wanted[j, i] - distances[j, i] * scale
                weighted = weight[j, i] * error
                squares[i] += weighted * error
                products[i] += weighted * distances[j, i]
                apart = distances[j, i] * unit - wanted[j, i] * target_unit
                differences[i] += apart * apart
        times = 0.5 if where[t, 0] == where[t, 1] else 1.0
        for i in range(SIDE):
            square += times * squares[i]
            product += times * products[i]
            difference += times * differences[i]
    return square, product, difference


@kernel("i8(f4[:,:,::1], i8[:,::1], f4[::1], f4, i8)")
def find(tiles: Floats, where: Indices, largest: Floats, entry: np.float32, count: int) -> int:
    """i N + j of the first pair i < j, in the order of a condensed matrix, of a given distance.

    Args:
        tiles, where: the distances.
        largest: (T,) the largest of each tile: the entry, or less.
        entry: the distance.
        count: N; N^2 is returned where no pair has it.
    """
    first = count * count
    for t in range(len(where)):
        if largest[t] < entry:
            continue
        for j in range(SIDE):
            row = tiles[t, j]
            hits = 0
            for i in range(SIDE):
                hits += row[i] == entry
            if hits == 0:
                continue
            for i in range(SIDE):
                lower, upper = where[t, 0] * SIDE + i, where[t, 1] * SIDE + j
                if row[i] == entry and lower < upper:
                    first = min(first, lower * count + upper)
    return first


@kernel(
    "void(f4[:,:,:,::1], b1[:,::1], f4[:,:,::1], f4[:,:,::1], i8[:,::1], f4[:,:,::1], "
    "f4, f4, f4, i8, f4[:,::1])"
)
def differentiate(
    panels: Floats,
    tied: Flags,
    tiles: Floats,
    target: Floats,
    where: Indices,
    weights: Floats,
    scale: np.float32,
    factor: np.float32,
    correction: np.float32,
    pair: int,
    gradient: Floats,
) -> None:
    """Gradient by the rows, ``dx_i = sum_j G_ij sign(x_i - x_j)`` with sign(0) = 0.

    It is taken as ``2 sum_j G_ij [x_i > x_j] - sum_j G_ij``, which for rows without equal entries
    is the same; in columns with equal entries those count half.

    Args:
        panels: the rows,
        tied: (groups, 8) and the columns that have equal entries.
        tiles, target, where, weights, scale: as in :func:`compare`.
        factor: G is the weighted error times this,
        correction: and for one pair this is added.
        pair: i N + j of that pair i < j.
        gradient: (N, d), written.
    """
    wide_vectors()
    larger = np.zeros_like(panels)  # sum_j G_ij [x_i > x_j]
    every = np.zeros((len(panels), SIDE), np.float32)  # sum_j G_ij
    by_tile = np.empty((SIDE, SIDE), np.float32)
    turned = np.empty((SIDE, SIDE), np.float32)
    for t in range(len(where)):
        lanes, others, weight = where[t]
        by_distance(tiles[t], target[t], weights[weight], scale, factor, by_tile)
        i, j = pair // len(gradient) - lanes * SIDE, pair % len(gradient) - others * SIDE
        if 0 <= i < SIDE and 0 <= j < SIDE:
            by_tile[j, i] += correction
            if lanes == others:
                by_tile[i, j] += correction
        add_larger(panels[lanes], panels[others], by_tile, tied, larger[lanes], every[lanes])
        if lanes != others:
            turn(by_tile, turned)
            add_larger(panels[others], panels[lanes], turned, tied, larger[others], every[others])
    for block in range(len(panels)):
        part = gradient[block * SIDE : (block + 1) * SIDE]
        for lane in range(part.shape[0]):
            for column in range(part.shape[1]):
                group, place = column // GROUP, column % GROUP
                part[lane, column] = TWO * larger[block, group, place, lane] - every[block, lane]


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
    for m in range(SIDE // GROUP):
        weight = weights[m]
        for i in range(SIDE):
            total = ZERO
            for j in range(GROUP):
                total += weight[j, i]
            every[i] += total
    for group in range(len(lanes)):
        x, sums = lanes[group], larger[group]
        y = others[group].reshape(GROUP, SIDE // GROUP, GROUP)
        for m in range(SIDE // GROUP):
            weight = weights[m]
            for column in range(GROUP):
                for i in range(SIDE):
                    total = ZERO
                    for j in range(GROUP):
                        total = total + weight[j, i] if x[column, i] > y[column, m, j] else total
                    sums[column, i] += total
                if tied[group, column]:
                    for i in range(SIDE):
                        total = ZERO
                        for j in range(GROUP):
                            equal = x[column, i] == y[column, m, j]
                            total = total + HALF * weight[j, i] if equal else total
                        sums[column, i] += total
