"""Convolutions that learn by themselves, on images (section 5).

The lake of gymnasium is drawn in 3 x 3 pixels: the player in the first channel, the holes in the
second, the goal in the third. The local loss compares flattened feature maps with the image.
Return 1 is the goal, 0 a hole or 20 steps without either.

Results to expect, in 40 seconds: all learn the way, lpdm somewhat better than frozen layers.

Share of episodes that reach the goal, mean over 3 seeds::

                     1-15     16-30     31-45     46-60
    bp               0.25      0.83      0.99      1.00
    lpdm             0.42      0.79      0.87      0.92
    lpdm_guided      0.40      0.79      0.88      0.93
    frozen           0.32      0.72      0.84      0.87
"""

from typing import Any

import gymnasium as gym
import numpy as np
from ray.tune.registry import register_env
from runs import print_table, returns, start

from rllib_lpdm.algorithms import PPOConfig

SEEDS = range(3)
MAP = ["SFF", "FHF", "HFG"]
SETTINGS = {
    "conv_layers": ((16, 2, 1), (32, 2, 1)),  # filters, kernel, stride
    "hidden_sizes": (64,),
    "hidden_lr": 1e-3,
    "return_normalization": "running",
    "gamma": 0.95,
    "episodes_per_iteration": 16,
    "minibatch_size": 64,
}


def frozen_lake(config: Any = None) -> gym.Env[np.ndarray, int]:
    """FrozenLake whose observations are images (rows, columns, 3) of bytes."""
    env = gym.make("FrozenLake-v1", desc=MAP, is_slippery=False, max_episode_steps=20)
    tiles = np.array([list(row) for row in MAP])
    empty = np.stack([tiles == "", tiles == "H", tiles == "G"], axis=2).astype(np.uint8) * 255

    def image(state: int) -> np.ndarray:
        drawn = empty.copy()
        drawn[state // tiles.shape[1], state % tiles.shape[1], 0] = 255
        return drawn

    space = gym.spaces.Box(0, 255, empty.shape, np.uint8)
    return gym.wrappers.TransformObservation(env, image, space)


def lake(seed: int, method: str) -> PPOConfig:
    lr = 1e-3 if method == "bp" else 1e-2  # of the heads; bp trains all layers with it
    config = PPOConfig().environment("frozen-lake-images").debugging(seed=seed)
    return config.training(method=method, lr=lr, **SETTINGS)


def main() -> None:
    start(__doc__)
    register_env("frozen-lake-images", frozen_lake)
    curves = {
        method: [returns(lake(seed, method), iterations=60) for seed in SEEDS]
        for method in ("bp", "lpdm", "lpdm_guided", "frozen")
    }
    print_table("Share of episodes that reach the goal", curves)


if __name__ == "__main__":
    main()
