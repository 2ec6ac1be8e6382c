"""The guidance that values of rows add to the distances between them."""

from typing import Final

import numpy as np

from rllib_lpdm.local_learning.kernels.compilation import kernel
from rllib_lpdm.local_learning.kernels.loops import LARGEST, SIDE, Floats

EPSILON: Final = float(np.finfo(np.float32).eps)


@kernel("f8(f4[::1], f4[:,::1])")
def guidance(values: Floats, result: Floats) -> float:
    """Writes each row's addition to its distances (section 3.2): 1/2 for the lowest value.

    Args:
        values: (N,) of the rows.
        result: (blocks, 64), written where the values are finite and not all equal.

    Returns:
        The difference of the extreme values, 0 where it is only rounding, and NaN where a value is
        not finite.
    """
    for n in range(len(values)):
        if not abs(values[n]) <= LARGEST:
            return np.nan
    lowest, highest = np.float64(values.min()), np.float64(values.max())
    spread = highest - lowest
    if spread <= 8.0 * EPSILON * max(abs(highest), abs(lowest)):
        return 0.0
    for n in range(len(values)):
        result[n // SIDE, n % SIDE] = (highest - values[n]) * (0.5 / spread)
    return spread
