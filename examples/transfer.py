"""Hidden layers of one environment, used in another (section 5).

The local loss knows no reward: layers that learned to keep distances of CartPole's observations
are tried on InvertedPendulum, which has four numbers too, with new heads. ``frozen`` keeps them as
they are, ``lpdm`` trains them on. In an experiment file the same is a setting,
``init_hidden_from: results/cartpole/CartPole-v1_reinforce_lpdm_s{seed}``.

Results to expect, in 40 seconds: CartPole's layers help from the start, kept or trained on, and
backpropagation stays ahead of both in so few iterations.

Return on InvertedPendulum-v4, mean over 3 seeds::

                                   1-100   101-200   201-300   301-400
    bp                             39.98     75.29    103.01    201.90
    lpdm                            8.43      9.27     11.73     27.49
    lpdm, layers of CartPole       23.17     52.96     62.93     67.51
    frozen                         10.58     18.68     29.46     40.18
    frozen, layers of CartPole     19.71     49.66     77.80     97.77
"""

import tempfile
from pathlib import Path

import numpy as np
from runs import print_table, returns, start, trained

from rllib_lpdm.algorithms import ReinforceConfig

SEEDS = range(3)
SETTINGS = {"hidden_sizes": (128, 128), "lr": 1e-3, "grad_clip": 0.1}


def reinforce(environment: str, seed: int) -> ReinforceConfig:
    config = ReinforceConfig().environment(environment).training(**SETTINGS)
    return config.debugging(seed=seed)


def save_cartpole_layers(folder: Path, seed: int) -> None:
    """Trains on CartPole and writes ``weights_<seed>.npz``; a cell's folder would do as well."""
    algo = trained(reinforce("CartPole-v1", seed), iterations=300)
    np.savez(folder / f"weights_{seed}.npz", **algo.numpy_weights())  # type: ignore[arg-type]
    algo.stop()


def pendulum(seed: int, method: str, init_hidden_from: str | None) -> list[float]:
    config = reinforce("InvertedPendulum-v4", seed).training(method=method, action_std=1.0)
    return returns(config.training(init_hidden_from=init_hidden_from), iterations=400)


def main() -> None:
    start(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            save_cartpole_layers(Path(folder), seed)
        cartpole = f"{folder}/weights_{{seed}}.npz"  # the algorithm replaces {seed}
        runs = {
            "bp": ("bp", None),
            "lpdm": ("lpdm", None),
            "lpdm, layers of CartPole": ("lpdm", cartpole),
            "frozen": ("frozen", None),
            "frozen, layers of CartPole": ("frozen", cartpole),
        }
        curves = {name: [pendulum(seed, *run) for seed in SEEDS] for name, run in runs.items()}
    print_table("Return on InvertedPendulum-v4", curves)


if __name__ == "__main__":
    main()
