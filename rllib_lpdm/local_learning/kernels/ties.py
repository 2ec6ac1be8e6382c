"""Equal entries of columns, where a sign is zero."""

import numpy as np

from rllib_lpdm.local_learning.kernels.compilation import jit, kernel, wide_vectors
from rllib_lpdm.local_learning.kernels.loops import GROUP, SIDE, Flags, Floats


@kernel("b1[:,::1](f4[:,::1])")
def columns_with_equal_entries(rows: Floats) -> Flags:
    """Which columns of rows have equal entries.

    They are sorted 64 at a time by Knuth's merge exchange (Algorithm 5.2.2M), whose comparisons do
    not depend on the entries, so that the lanes of a vector are columns.

    Args:
        rows: (N, d), finite.

    Returns:
        (groups, 8), as the columns stand in panels.
    """
    wide_vectors()
    count, width = rows.shape
    tied = np.zeros(-(-width // SIDE) * SIDE, np.bool_)
    strip = np.zeros((count, SIDE), np.float32)
    top = 1
    while 2 * top < count:
        top *= 2
    for start in range(0, width, SIDE):
        part = rows[:, start : start + SIDE]
        strip[:, : part.shape[1]] = part
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
        marks = tied[start : start + SIDE]
        for n in range(count - 1):
            lower, upper = strip[n], strip[n + 1]
            for column in range(SIDE):
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
