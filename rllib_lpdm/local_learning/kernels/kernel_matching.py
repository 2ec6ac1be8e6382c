"""Matching of L1 distances by the kernels, with the methods of ``TorchMatching``."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rllib_lpdm.local_learning.distances import Pairs
from rllib_lpdm.local_learning.kernels import loops
from rllib_lpdm.local_learning.kernels.compilation import compile_kernels
from rllib_lpdm.local_learning.kernels.gradient import differentiate
from rllib_lpdm.local_learning.kernels.loops import SIDE, TINY, Floats
from rllib_lpdm.local_learning.kernels.tiles import tiles_of
from rllib_lpdm.local_learning.kernels.values import guidance
from rllib_lpdm.local_learning.layers import parameter_gradients
from rllib_lpdm.local_learning.losses import LayerMatch
from rllib_lpdm.local_learning.shards import WholeBatch
from rllib_lpdm.local_learning.targets import RunningMaximum

NAN = math.nan


class Target(NamedTuple):
    """A target A in tiles.

    Attributes:
        tiles: (T, 64, 64).
        largest: the largest of all entries; NaN where inputs or values are not finite, or overflow.
    """

    tiles: Floats
    largest: float


class KernelMatching:
    """The matching of a batch; each of several processes computes some of its tiles.

    Args:
        count: rows of the batch.
        pairs: the pairs to match, None for all.
        shards: the processes.
    """

    def __init__(self, count: int, pairs: Pairs | None, shards: WholeBatch) -> None:
        compile_kernels()
        self._shards = shards
        self._tiles = tiles_of(count, pairs, shards.rank, shards.processes)

    def target(
        self,
        inputs: Tensor,
        values: Tensor | None,
        error: Floats | None = None,
        dimensions: int | None = None,
        maximum: RunningMaximum | None = None,
        original: bool = False,
    ) -> Target | None:
        if self._tiles.pairs == 0:
            return None
        where, weights, blocks, _ = self._tiles
        _, tiles, highest, _ = loops.measure(_array(inputs), where, weights)
        (largest,) = self._shards.combined([highest], "max")
        if error is not None and math.isfinite(largest):
            (highest,) = self._shards.combined([np.abs(error).max(initial=0.0)], "max")
            if highest != 0.0:
                tiles *= 1.0 + np.abs(error) / np.float32(highest)
                (largest,) = self._shards.combined([tiles.max(initial=0.0)], "max")
        if largest < TINY:
            return None
        if values is not None and math.isfinite(largest):
            of_rows = np.zeros((blocks, SIDE), np.float32)
            spread = guidance(values.detach().to(inputs.dtype).contiguous().numpy(), of_rows)
            if not math.isfinite(spread):
                largest = NAN
            elif spread > 0.0:
                unit = 1.0 if original else 1.0 / largest
                highest = loops.guide(tiles, where, weights, of_rows, unit)
                (largest,) = self._shards.combined([highest], "max")
        if not math.isfinite(largest):
            return Target(tiles, NAN)  # nobody reads the tiles, which may never have been filled
        divisor = largest if maximum is None else maximum.take(largest)
        scale = 1.0 / (divisor * (dimensions or inputs.shape[1]))
        tiles *= np.float32(scale)
        return Target(tiles, largest * scale)

    def step(
        self,
        outputs: Tensor,
        target: Target,
        keep_error: bool,
        with_error: bool,
        dimensions: int | None = None,
        absolute: bool = False,
    ) -> LayerMatch:
        where, weights, _, pairs = self._tiles
        combined = self._shards.combined
        rows = _array(outputs)
        panels, tiles, highest, pair = loops.measure(rows, where, weights)
        (largest,) = combined([highest], "max")
        if not (math.isfinite(largest) and math.isfinite(target.largest)):
            error = np.full_like(tiles, NAN) if keep_error else None
            return LayerMatch(NAN, torch.full_like(outputs, NAN), error, NAN)
        unit = 1.0 if largest < TINY else 1.0 / largest
        vanishes = largest < TINY and not absolute
        divisor = (1.0 if absolute else largest) * (dimensions or outputs.shape[1])
        scale = 0.0 if vanishes else 1.0 / divisor
        sums = loops.compare(tiles, target.tiles, where, weights, scale, unit, 1.0 / target.largest)
        squares, products, differences = combined(sums, "sum")
        loss = 0.0 if vanishes else math.sqrt(squares)
        if loss == 0.0 or (pairs == 1 and not absolute):
            gradient = torch.zeros_like(outputs)
        else:
            (pair,) = combined([pair if highest == largest else len(rows) ** 2], "min")
            factor = -scale / loss
            correction = 0.0 if absolute else -factor * products / largest
            gradient = torch.from_numpy(
                differentiate(
                    rows,
                    panels,
                    tiles,
                    target.tiles,
                    where,
                    weights,
                    scale,
                    factor,
                    correction,
                    int(pair),
                )
            )
        error = target.tiles - tiles * np.float32(scale) if keep_error else None
        if vanishes and keep_error:
            error = np.zeros_like(tiles)  # as the outputs have no distances to scale
        return LayerMatch(loss, gradient, error, math.sqrt(differences / pairs))

    def parameter_gradients(
        self, layer: nn.Module, inputs: Tensor, output_gradient: Tensor
    ) -> list[Tensor]:
        """Returns a layer's gradients, summed over all rows and all processes' pairs."""
        return self._shards.summed(parameter_gradients(layer, inputs, output_gradient))


def _array(rows: Tensor) -> Floats:
    array: Floats = rows.detach().contiguous().numpy()
    return array
