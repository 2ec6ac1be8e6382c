"""A small lake seen as images, made of gymnasium's own parts."""

import gymnasium as gym
import numpy as np
from images import frozen_lake

CONVOLUTIONS = ((8, 2, 1), (12, 2, 1))
LAKE = {"conv_layers": CONVOLUTIONS, "hidden_sizes": (16,)}


class Lake(gym.Wrapper):
    """The example's environment as a class, which RLlib takes without a registration."""

    def __init__(self, config=None):
        super().__init__(frozen_lake())


def images(count, seed=0, shape=(3, 3, 3)):
    """(count, *shape) random bytes."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
