"""The distances of a batch and how layers match them: in torch, or by the kernels.

The torch path is the reference; the kernels give the same up to rounding, faster.
"""

from typing import Any, Final, Protocol

import numba
import torch
from torch import Tensor, nn

from rllib_lpdm.local_learning.distances import MetricLike, Pairs, metric_of
from rllib_lpdm.local_learning.kernels.kernel_matching import KernelMatching
from rllib_lpdm.local_learning.losses import LayerMatch, matching_step
from rllib_lpdm.local_learning.shards import WholeBatch
from rllib_lpdm.local_learning.targets import RunningMaximum, has_structure, target_distances

NUMBA: Final = "numba"
TORCH: Final = "torch"


class Matching(Protocol):
    """The distances of one batch; :class:`TorchMatching` explains the methods."""

    def target(self, *arguments: Any, **options: Any) -> Any: ...
    def step(self, *arguments: Any, **options: Any) -> LayerMatch: ...
    def parameter_gradients(self, *arguments: Any, **options: Any) -> list[Tensor]: ...


def kernel_for(metric: MetricLike, dtype: torch.dtype, device: torch.device) -> str:
    """Returns which implementation matches distances: "numba" or "torch"."""
    fits = metric == "l1" and dtype == torch.float32 and device.type == "cpu"
    return NUMBA if fits and not numba.config.DISABLE_JIT else TORCH


def matching_for(
    metric: MetricLike, inputs: Tensor, pairs: Pairs | None, shards: WholeBatch
) -> Matching:
    """Returns the matching of a batch; its arguments are those of :class:`TorchMatching`.

    Args:
        inputs: (N, d_x) the rows that are compared.

    Raises:
        ValueError: the metric is unknown.
    """
    if kernel_for(metric, inputs.dtype, inputs.device) == NUMBA:
        return KernelMatching(len(inputs), pairs, shards)
    return TorchMatching(metric, pairs, shards)


class TorchMatching:
    """The matching of a batch's distances in torch; every process computes all pairs.

    :class:`~rllib_lpdm.local_learning.kernels.kernel_matching.KernelMatching` has the same methods.

    Args:
        metric: see :func:`~rllib_lpdm.local_learning.distances.pairwise_distances`.
        pairs: the pairs of rows to match, None for all.
        shards: the processes, each of which differentiates by its own rows.
    """

    def __init__(self, metric: MetricLike, pairs: Pairs | None, shards: WholeBatch) -> None:
        self._metric, self._pairs, self._shards = metric_of(metric), pairs, shards

    def target(
        self,
        inputs: Tensor,
        values: Tensor | None,
        error: Tensor | None = None,
        dimensions: int | None = None,
        maximum: RunningMaximum | None = None,
        original: bool = False,
    ) -> Tensor | None:
        """Returns the target that :meth:`step` takes; None where there is nothing to match.

        The arguments are those of :func:`~rllib_lpdm.local_learning.targets.target_distances`.
        """
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

    def step(self, outputs: Tensor, target: Tensor, *options: Any) -> LayerMatch:
        """Returns the loss of a layer's (N, d_y) outputs and its gradient.

        The options are those of :func:`~rllib_lpdm.local_learning.losses.matching_step`, from
        ``keep_error`` on.
        """
        return matching_step(outputs, target, self._metric, self._pairs, *options)

    def parameter_gradients(
        self, layer: nn.Module, inputs: Tensor, output_gradient: Tensor
    ) -> list[Tensor]:
        """Returns the gradients of a layer's weight and bias, summed over all processes' rows.

        Args:
            layer: see :func:`~rllib_lpdm.local_learning.layers.parameter_gradients`.
            inputs: (N, d_h) the layer's inputs.
            output_gradient: (N, d_z), from the gradient of :meth:`step`.
        """
        return self._shards.parameter_gradients(layer, inputs, output_gradient)
