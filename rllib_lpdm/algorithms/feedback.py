"""The matrices by which ``dfa`` takes the RL loss from the outputs to every hidden layer."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_lpdm.algorithms.module import ActorCriticModule
from rllib_lpdm.algorithms.seeding import Purpose, stream
from rllib_lpdm.local_learning import input_gradient


def random_feedback(module: ActorCriticModule, seed: int) -> list[NDArray[Any]]:
    """One (outputs, d_y) float32 matrix for each hidden layer (Nøkland, 2016).

    A row for each output of the policy head, then one for the value head, if there is one. Entries
    are uniform in +-1 / sqrt(d_y), as those of a head on that layer would start.

    Args:
        module: whose layers and heads they are for.
        seed: the run's, of which they are a function.
    """
    outputs = sum(map(len, module.heads[-1].weights))
    return [
        (
            stream(seed, Purpose.FEEDBACK, index=index).uniform(-1.0, 1.0, (outputs, size))
            / math.sqrt(size)
        ).astype(np.float32)
        for index, size in enumerate(module.encoder.output_sizes)
    ]


@torch.no_grad()
def sign_feedback(module: ActorCriticModule) -> list[Tensor]:
    """As :func:`random_feedback`, but +-1 / sqrt(d_y) by the signs of the forward weights' product.

    The product is that of all weights from the layer's outputs to the network's, as they are now.
    """
    product = torch.cat(module.heads[-1].weights)
    matrices = []
    for layer in reversed(module.encoder.layers):
        matrices.append(product.sign() / math.sqrt(product.shape[1]))
        product = input_gradient(layer, product)
    return matrices[::-1]
