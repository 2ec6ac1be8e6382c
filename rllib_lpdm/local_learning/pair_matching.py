"""How the layers' distances are matched: in torch, or by the kernels where there are some.

The torch path is the reference; the kernels give the same up to rounding, faster.
"""

from typing import Any, Final, Protocol

import numba
import torch
from torch import Tensor, nn

from rllib_lpdm.local_learning.distances import Metric, MetricLike, metric_of
from rllib_lpdm.local_learning.kernels.kernel_matching import KernelMatching
from rllib_lpdm.local_learning.losses import LayerMatch, distance_error, matching_step
from rllib_lpdm.local_learning.pairs import Pairs
from rllib_lpdm.local_learning.shards import WholeBatch
from rllib_lpdm.local_learning.targets import RunningMaximum, has_structure, target_distances

NUMBA: Final = "numba"
TORCH: Final = "torch"


class Matching(Protocol):
    """The distances of one batch, and how a layer's outputs match them."""

    def target(
        self,
        inputs: Tensor,
        values: Tensor | None,
        error: Any = None,
        dimensions: int | None = None,
        maximum: RunningMaximum | None = None,
        original: bool = False,
    ) -> Any:
        """See :func:`~rllib_lpdm.local_learning.targets.target_distances`.

        Returns:
            What :meth:`step` takes; None where there is nothing to match.
        """

    def step(
        self,
        outputs: Tensor,
        target: Any,
        keep_error: bool,
        with_error: bool,
        dimensions: int | None = None,
        absolute: bool = False,
    ) -> LayerMatch:
        """The loss of a layer's outputs and its gradient.

        Args:
            outputs: (N, d_y).
            target: of :meth:`target`.
            keep_error: keep the error for the next layer's target.
            with_error: measure the distance error.
            dimensions: a divisor of their distances; None for d_y.
            absolute: leave out the other divisor, the largest of their distances.
        """

    def parameter_gradients(
        self, layer: nn.Module, inputs: Tensor, output_gradient: Tensor
    ) -> list[Tensor]:
        """Gradients of a layer's weight and bias, of all processes' rows.

        Args:
            layer: see :func:`~rllib_lpdm.local_learning.layers.parameter_gradients`.
            inputs: (N, d_h) the layer's inputs.
            output_gradient: (N, d_z), from that of :meth:`step`.
        """


def kernel_for(metric: MetricLike, dtype: torch.dtype, device: torch.device) -> str:
    """Which implementation matches distances: "numba" or "torch"."""
    fits = metric == "l1" and dtype == torch.float32 and device.type == "cpu"
    return NUMBA if fits and not numba.config.DISABLE_JIT else TORCH


def matching_for(
    metric: MetricLike, inputs: Tensor, pairs: Pairs | None, shards: WholeBatch
) -> Matching:
    """The matching of a batch.

    Args:
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.
        inputs: (N, d_x) the rows that are compared.
        pairs: those to match, None for all.
        shards: the processes that share the work.

    Raises:
        ValueError: the metric is unknown.
    """
    if kernel_for(metric, inputs.dtype, inputs.device) == NUMBA:
        return KernelMatching(len(inputs), pairs, shards)
    return TorchMatching(metric_of(metric), metric, pairs, shards)


class TorchMatching:
    """All pairs in every process; of several processes each differentiates by its own rows."""

    def __init__(
        self, known: Metric, metric: MetricLike, pairs: Pairs | None, shards: WholeBatch
    ) -> None:
        self._known, self._metric, self._pairs, self._shards = known, metric, pairs, shards

    def target(
        self,
        inputs: Tensor,
        values: Tensor | None,
        error: Tensor | None = None,
        dimensions: int | None = None,
        maximum: RunningMaximum | None = None,
        original: bool = False,
    ) -> Tensor | None:
        target = target_distances(
            inputs,
            values,
            self._metric,
            pairs=self._pairs,
            error=error,
            dimensions=dimensions,
            maximum=maximum,
            original=original,
        )
        return target if has_structure(target) else None

    def step(
        self,
        outputs: Tensor,
        target: Tensor,
        keep_error: bool,
        with_error: bool,
        dimensions: int | None = None,
        absolute: bool = False,
    ) -> LayerMatch:
        match = matching_step(
            outputs, target, self._known, self._pairs, keep_error, dimensions, absolute
        )
        kept = distance_error(match.distances, target, self._metric) if with_error else 0.0
        return LayerMatch(match.loss, match.gradient, match.error, kept)

    def parameter_gradients(
        self, layer: nn.Module, inputs: Tensor, output_gradient: Tensor
    ) -> list[Tensor]:
        return self._shards.parameter_gradients(layer, inputs, output_gradient)
