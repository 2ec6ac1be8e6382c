"""The forward pass of a tanh network for one row, and bounds, for a policy's every step.

Every sum is taken in an order that depends on the sizes alone, and no product is fused with an
addition. So all processors give the same bits.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from rllib_lpdm.local_learning.kernels.compilation import jit, kernel, wide_vectors
from rllib_lpdm.local_learning.kernels.loops import Floats, Indices

GROUP: Final = 8  # inputs whose terms are added before they go into memory
ZERO: Final = np.float32(0.0)


def packed(layers: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Indices]:
    """Returns a network as :func:`forward` takes it.

    Args:
        layers: weight (out, in) and bias (out,) of each.

    Returns:
        A copy of all parameters (each layer's bias, then its transposed weight), and the
        (layers + 1,) sizes.
    """
    parts = [part for weight, bias in layers for part in (bias, weight.T.ravel())]
    sizes = [layers[0][0].shape[1], *(len(bias) for _, bias in layers)]
    return np.concatenate(parts), np.array(sizes, np.int64)


@kernel("f4[::1](f4[::1], f4[::1], i8[::1])")
def forward(row: Floats, parameters: Floats, sizes: Indices) -> Floats:
    """Returns the outputs of the last layer, which has no tanh.

    Args:
        row: (d_x,) inputs.
        parameters, sizes: of :func:`packed`.

    Returns:
        A new array (d_y,).

    Raises:
        ValueError: the row has not as many entries as the first layer has inputs.
    """
    wide_vectors()
    if len(row) != sizes[0]:
        raise ValueError("the observation has not as many entries as the policy has inputs")
    x, start = row, 0
    for place in range(1, len(sizes)):
        inputs, outputs = sizes[place - 1], sizes[place]
        y = parameters[start : start + outputs].copy()
        start += outputs
        weight = parameters[start : start + inputs * outputs].reshape(inputs, outputs)
        start += inputs * outputs
        add_product(x, weight, y)
        if place < len(sizes) - 1:
            squash(y)
        x = y
    return x


@kernel("f4[::1](f4[::1], f4[::1], f4[::1])")
def bounded(action: Floats, low: Floats, high: Floats) -> Floats:
    """Returns a new (d_y,) array with an action's entries held between two bounds; NaN stays.

    Raises:
        ValueError: there are not as many bounds as entries.
    """
    if not len(action) == len(low) == len(high):
        raise ValueError("the action has not as many entries as the action space")
    inside = np.empty_like(action)
    for i in range(len(action)):
        x = low[i] if action[i] <= low[i] else action[i]
        inside[i] = high[i] if x >= high[i] else x
    return inside


@jit
def add_product(x: Floats, weight: Floats, y: Floats) -> None:
    """Adds x W to y; the lanes of a vector are outputs."""
    wide_vectors()
    grouped = len(x) // GROUP * GROUP
    for first in range(0, grouped, GROUP):
        factors, rows = x[first : first + GROUP], weight[first : first + GROUP]
        for i in range(len(y)):
            total = ZERO
            for k in range(GROUP):
                total += factors[k] * rows[k, i]
            y[i] += total
    for k in range(grouped, len(x)):
        factor, row = x[k], weight[k]
        for i in range(len(y)):
            y[i] += factor * row[i]


@jit
def squash(z: Floats) -> None:
    """Replaces z by tanh(z), within 2e-7.

    The Padé approximant [7/6] gives tanh(z / 4), and tanh 2a = 2 tanh a / (1 + tanh^2 a) twice the
    rest. Beyond 10 the result is 1 in single precision.
    """
    wide_vectors()
    limit = np.float32(10.0)
    for i in range(len(z)):
        x = limit if z[i] > limit else z[i]  # as written, NaN stays
        x = -limit if x < -limit else x
        x *= np.float32(0.25)
        s = x * x
        above = np.float32(17325.0) + s * (np.float32(378.0) + s)
        below = np.float32(62370.0) + s * (np.float32(3150.0) + s * np.float32(28.0))
        constant = np.float32(135135.0)
        t = x * (constant + s * above) / (constant + s * below)
        t = (t + t) / (np.float32(1.0) + t * t)
        z[i] = (t + t) / (np.float32(1.0) + t * t)
