"""Hidden layers that learn from recorded observations before the first episode (section 5).

Observations are all that the local loss needs, so the layers can begin with those of any policy:
here of a random one, written as an ``.npz`` file with an array ``observations``. The folder of a
Minari dataset does as well.

Results to expect, in 50 seconds: layers that have learned from 2000 observations of a random policy
give lpdm a start of about 150 iterations. Kept frozen they are no better than random ones.

Return on CartPole-v1, mean over 3 seeds::

                            1-75    76-150   151-225   226-300
    bp                     44.34    183.31    278.36    394.15
    bp, pretrained         72.47    261.81    385.37    351.33
    lpdm                   25.00     25.32     35.64     90.98
    lpdm, pretrained       34.00     70.00    188.20    377.24
    frozen                 28.84     34.61     55.70     72.72
    frozen, pretrained     34.85     46.66     55.20     64.56
"""

import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
from runs import print_table, returns, start

from rllib_lpdm.algorithms import ReinforceConfig

SEEDS = range(3)
SETTINGS = {"hidden_sizes": (128, 128), "lr": 1e-3, "grad_clip": 0.1, "pretrain_epochs": 20}


def record(file: Path, steps: int = 2000) -> None:
    """Writes observations of random actions."""
    env = gym.make("CartPole-v1")
    env.action_space.seed(0)
    rows = [env.reset(seed=0)[0]]
    while len(rows) < steps:
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        rows.append(env.reset()[0] if terminated or truncated else observation)
    np.savez(file, observations=np.array(rows))


def cartpole(seed: int, method: str, pretrain_from: str | None) -> ReinforceConfig:
    config = ReinforceConfig().environment("CartPole-v1").debugging(seed=seed)
    return config.training(method=method, pretrain_from=pretrain_from, **SETTINGS)


def main() -> None:
    start(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.npz"
        record(file)
        curves = {
            f"{method}{', pretrained' if source else ''}": [
                returns(cartpole(seed, method, source), iterations=300) for seed in SEEDS
            ]
            for method in ("bp", "lpdm", "frozen")
            for source in (None, str(file))
        }
    print_table("Return on CartPole-v1", curves)


if __name__ == "__main__":
    main()
