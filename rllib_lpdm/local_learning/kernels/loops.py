"""The loops that match pairwise L1 distances, in single precision, for numba.

Rows are packed in *panels* [block][group of 8 columns][column][64 rows]: the lanes of a vector are
rows. A *tile* (64, 64) holds the distances of the rows i of one block, its lanes, to the rows j of
another, ``tile[j, i]``. Every two blocks have one tile, in which each pair of rows stands once.
Every block has one tile with itself, in which each pair stands twice. A tile's *weights* are the
weights of its pairs. They are zero for rows that only fill up a block, and for a row with itself.
Where they are zero, so are distances and targets.

``where`` lists the tiles: the block of the lanes, the block of the others, and the place of the
weights, which equal tiles share.

The compiler makes vectors of the loops because their bounds are known, indices begin at zero, and
no branch stands in the innermost. Eight terms are added before anything goes into memory. An
asserted shape tells the compiler the distance of the rows in memory. All sums are taken in an order
that depends on the shapes alone.

These functions call only functions of this file, because numba's cache notices no change of another
one. Whoever changes ``room`` or ``wide_vectors`` in ``compilation`` must also change this file.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.local_learning.kernels.compilation import jit, kernel, room, wide_vectors

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

SIDE: Final = 64  # rows of a block
GROUP: Final = 8  # columns, or rows, whose terms are added before they go into memory
STRIP: Final = 16  # lanes of a vector
ZERO: Final = np.float32(0.0)
LARGEST: Final = np.finfo(np.float32).max
TINY: Final = float(np.finfo(np.float32).tiny)


@kernel("Tuple((f4[:,:,:,::1], f4[:,:,::1], f4, i8))(f4[:,::1], i8[:,::1], f4[:,:,::1])")
def measure(
    rows: Floats, where: Indices, weights: Floats
) -> tuple[Floats, Floats, np.float32, int]:
    """Computes the L1 distances of all pairs of rows.

    Args:
        rows: (N, d).
        where, weights: the tiles.

    Returns:
        panels: (blocks, groups, 8, 64) the rows.
        tiles: (T, 64, 64) the distances.
        The largest distance; NaN where an entry is not finite, and then nothing else is valid.
        i N + j of the first pair i < j, in the order of a condensed matrix, that has it.
    """
    wide_vectors()
    count, width = rows.shape
    panels = room((-(-count // SIDE), -(-width // GROUP), GROUP, SIDE))
    tiles = room((len(where), SIDE, SIDE))
    if not all_finite(rows):
        return panels, tiles, np.float32(np.nan), 0
    pack(rows, panels)
    largest = np.empty(len(where), np.float32)
    for t in range(len(where)):
        lanes, others, weight = where[t]
        tiles[t] = ZERO
        if lanes == others:
            measure_own(panels[lanes], tiles[t])
        else:
            measure_tile(panels[lanes], panels[others], tiles[t])
        largest[t] = mask_tile(weights[weight], tiles[t])
    highest = largest.max() if len(where) else ZERO
    return panels, tiles, highest, find(tiles, where, largest, highest, count)


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
    """Writes (N, d) rows into panels, filled up with zeros."""
    for block in range(panels.shape[0]):
        for first in range(0, SIDE, GROUP):  # rows that the cache has room for
            some = rows[block * SIDE + first : block * SIDE + first + GROUP]
            for group in range(panels.shape[1]):
                panel, part = panels[block, group], some[:, group * GROUP : (group + 1) * GROUP]
                assert panel.shape == (GROUP, SIDE)
                if part.shape == (GROUP, GROUP):
                    for column in range(GROUP):
                        for row in range(GROUP):
                            panel[column, first + row] = part[row, column]
                else:
                    panel[:, first : first + GROUP] = ZERO
                    for column in range(part.shape[1]):
                        for row in range(part.shape[0]):
                            panel[column, first + row] = part[row, column]


@jit
def measure_tile(lanes: Floats, others: Floats, tile: Floats) -> None:
    """Adds the distances of the rows of two blocks."""
    wide_vectors()
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
def measure_own(lanes: Floats, tile: Floats) -> None:
    """Adds the distances of a block's rows to each other.

    It computes those with i in the strip of j or in a later one, and mirrors them for the others.
    """
    wide_vectors()
    assert tile.shape == (SIDE, SIDE)
    strips = tile.reshape(SIDE, SIDE // STRIP, STRIP)
    assert strips.shape == (SIDE, SIDE // STRIP, STRIP)
    for group in range(len(lanes)):
        y = lanes[group]
        x = y.reshape(GROUP, SIDE // STRIP, STRIP)
        assert y.shape == (GROUP, SIDE)
        assert x.shape == (GROUP, SIDE // STRIP, STRIP)
        for strip in range(SIDE // STRIP):
            for j in range((strip + 1) * STRIP):
                for i in range(STRIP):
                    total = ZERO
                    for column in range(GROUP):
                        total += abs(x[column, strip, i] - y[column, j])
                    strips[j, strip, i] += total
    for j in range(SIDE):
        for i in range(j):
            tile[j, i] = tile[i, j]


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


@jit
def find(tiles: Floats, where: Indices, largest: Floats, entry: np.float32, count: int) -> int:
    """Returns i N + j of the first pair i < j of a given distance; N^2 where none has it.

    Args:
        tiles, where: the distances.
        largest: (T,) the largest entry of each tile, at most the distance.
        entry: the distance.
        count: N.
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


@kernel("f4(f4[:,:,::1], i8[:,::1], f4[:,:,::1], f4[:,::1], f4)")
def guide(
    tiles: Floats, where: Indices, weights: Floats, guidance: Floats, scale: np.float32
) -> np.float32:
    """Scales distances and adds the guidance of both rows, in place.

    Args:
        tiles, where, weights: the distances.
        guidance: (blocks, 64) of each row.
        scale: multiplies the distances.

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
    """Takes sums over all pairs, with the error e = A - D scale and weights w.

    Args:
        tiles: the distances D.
        target: the target A.
        where, weights: the tiles.
        scale: makes D comparable with A.
        unit, target_unit: make the largest entry of D and of A 1.

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
