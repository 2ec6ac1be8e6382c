"""``dfa``: direct feedback alignment, which sends the outputs' loss straight to every layer."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rllib_lpdm.methods.method import DISTANCE_SETTINGS, Batch, Method, Metrics, metrics
from rllib_lpdm.schema.columns import column

if TYPE_CHECKING:
    from torch import Tensor


class DirectFeedback(Method):
    """A step of every hidden layer by the RL loss at the outputs, sent to it by a fixed matrix."""

    description = "direct feedback alignment"
    ignores = DISTANCE_SETTINGS | {"local_heads"}

    def update(self, batch: Batch) -> Metrics:
        network = self.network
        inputs = network.inputs(batch.observations)
        passes = list(network.encoder.passes(inputs, self.shards))
        features = passes[-1].outputs if passes else inputs
        loss = self.loss(features, batch.loss)
        sizes = [len(weight) for weight in network.heads[-1].weights]
        measured: Metrics = {}
        skipped: list[bool] = []
        for number, (each, matrix) in enumerate(zip(passes, self.feedback(), strict=True), 1):
            parts = matrix.split_with_sizes(sizes)
            gradient = self.by_features(loss, parts)
            norm, not_finite = self.step_hidden(number, each, gradient)
            measured[column("grad_norm_hidden", number)] = norm
            skipped.append(not_finite)
        norms, heads_skipped = self.step_heads(features, loss)
        return metrics(batch, [*skipped, *heads_skipped], measured | norms, loss)

    def feedback(self) -> list[Tensor]:
        """Returns the (outputs, d_y) matrix that takes the loss to each hidden layer."""
        if self.config.feedback == "sign":
            return self._signs()
        return self.random_matrices

    @functools.cached_property
    def random_matrices(self) -> list[Tensor]:
        """One (outputs, d_y) float32 matrix for each hidden layer (Nøkland, 2016).

        There is a row for each output of the policy head, then one for the value head, if there is
        one. Entries are uniform in +-1 / sqrt(d_y), as a head on that layer would start. They are
        drawn from the run's seed and never change.
        """
        import torch

        weights = self.network.heads[-1].weights
        outputs, device = sum(map(len, weights)), weights[0].device
        matrices: list[NDArray[Any]] = [
            self.random(index).uniform(-1.0, 1.0, (outputs, size)) / math.sqrt(size)
            for index, size in enumerate(self.network.encoder.output_sizes)
        ]
        return [torch.from_numpy(matrix.astype(np.float32)).to(device) for matrix in matrices]

    def _signs(self) -> list[Tensor]:
        """Returns matrices of +-1 / sqrt(d_y), by the signs of the weights' product.

        The product is taken over all present weights from the layer's outputs to the network's.
        """
        import torch

        from rllib_lpdm.local_learning import input_gradient

        product = torch.cat(self.network.heads[-1].weights)
        matrices = []
        for layer in reversed(self.network.encoder.layers):
            matrices.append(product.sign() / math.sqrt(product.shape[1]))
            product = input_gradient(layer, product)
        return matrices[::-1]
