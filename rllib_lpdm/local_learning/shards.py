"""The rows of a batch that a process computes, where several train the same layers."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from rllib_lpdm.local_learning.layers import parameter_gradients


class WholeBatch:
    """All rows, in one process; its methods are explained at :class:`Shards`."""

    rank = 0
    processes = 1

    def own(self, count: int) -> slice:
        return slice(0, count)

    def gathered(self, rows: Tensor, count: int) -> Tensor:
        return rows.detach()

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)

    def combined(self, numbers: Sequence[float], how: str) -> Sequence[float]:
        return numbers

    def forward(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        return function(inputs)

    def parameter_gradients(
        self, layer: nn.Module, inputs: Tensor, output_gradient: Tensor
    ) -> list[Tensor]:
        return parameter_gradients(layer, inputs, output_gradient)


class Shards(WholeBatch):
    """The part of every batch's rows that this process of ``torch.distributed`` computes.

    All processes have the same layers and are given the same batches. Each passes its own rows
    through a layer, and the outputs of all are gathered: pairwise distances do not decompose over
    parts of a batch. A parameter's gradient is a sum over rows. Each process takes it over its own
    rows, and the sums are added up. So every loss is the whole batch's, and every process makes the
    same step, as one process would up to rounding.

    All processes must call every method, in the same order, except :meth:`own`.
    """

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.processes = torch.distributed.get_world_size()

    def own(self, count: int) -> slice:
        """Returns this process's share of ``count`` rows; the last may be shorter or empty."""
        start = min(count, self.rank * self._share(count))
        return slice(start, min(count, start + self._share(count)))

    def gathered(self, rows: Tensor, count: int) -> Tensor:
        """(own rows, ...) of every process -> (count, ...), all rows in order, without autograd."""
        share = self._share(count)
        padded = rows.detach().contiguous()
        if len(rows) < share:
            padded = rows.new_zeros(share, *rows.shape[1:])
            padded[: len(rows)] = rows.detach()
        batch = rows.new_empty(share * self.processes, *rows.shape[1:])
        torch.distributed.all_gather_single(batch, padded)
        return batch[:count]

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns the sum over all processes of each tensor, in one message."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        parts = torch.split_with_sizes(flat, [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def combined(self, numbers: Sequence[float], how: str) -> Sequence[float]:
        """Returns the "sum", "max" or "min" over all processes of each number."""
        operations = torch.distributed.ReduceOp
        tensor = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(tensor, getattr(operations, how.upper()))
        combined: list[float] = tensor.tolist()
        return combined

    def forward(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Returns a function's outputs for all rows, of which each process computes its own.

        Args:
            function: (n, d) -> (n, ...), row by row.
            inputs: (N, d) the whole batch.
        """
        count = len(inputs)
        return self.gathered(function(inputs[self.own(count)]), count)

    def parameter_gradients(
        self, layer: nn.Module, inputs: Tensor, output_gradient: Tensor
    ) -> list[Tensor]:
        """Returns the gradients of a layer's weight and bias for the whole batch."""
        own = self.own(len(inputs))
        return self.summed(parameter_gradients(layer, inputs[own], output_gradient[own]))

    def _share(self, count: int) -> int:
        return -(-count // self.processes)


WHOLE_BATCH = WholeBatch()
