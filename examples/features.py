"""What hidden layers do to a fixed batch of observations while they learn.

A policy head learns on features that the local loss moves under it. Five figures of the last
hidden layer's outputs on 256 observations, which no update changes, say how far they move: the
share of saturated outputs, their spread, their change in ten iterations, the distance error, and
what the head makes of them. Trained are two settings of PPO on CartPole, the whole iteration as one
batch and minibatches of 64, and two deviations of REINFORCE on InvertedPendulum, each by ``lpdm``
and by ``bp``; and REINFORCE on CartPole with distances that are divided by their maximum alone, by
``lpdm`` and with guidance, at one rate and with a faster head on slower hidden layers.

It takes some minutes, prints the means of each quarter and writes ``features.svg``.
"""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from runs import start

from rllib_lpdm.algorithms import PPOConfig, ReinforceConfig
from rllib_lpdm.algorithms.config import LocalConfig

ITERATIONS, EVERY, PROBES, SATURATED = 1000, 10, 256, 0.98
SHARED = {"hidden_sizes": (64, 128, 256), "lr": 7e-4, "grad_clip": 0.5}
PPO: dict[str, Any] = {"episodes_per_iteration": 1, "num_epochs": 4}
MEASURES = {
    "episode_return": "return",
    "saturated": "share saturated",
    "spread": "spread of the features",
    "change": f"change in {EVERY} iterations",
    "distance_error": "distance error",
    "head": "spread of the head",
}
COLOURS = {"lpdm": "C0", "bp": "C1", "lpdm_guided": "C2"}
Array = NDArray[np.float32]


def cases() -> dict[str, tuple[LocalConfig, tuple[str, str]]]:
    """The configs that are compared, by environment and setting, and the methods."""
    cartpole, pendulum = "CartPole-v1", "InvertedPendulum-v4"
    whole = PPOConfig().environment(cartpole).training(**SHARED, **PPO, minibatch_size=10**6)
    split = PPOConfig().environment(cartpole).training(**SHARED, **PPO, minibatch_size=64)
    narrow = ReinforceConfig().environment(pendulum).training(**SHARED, action_std=0.5)
    wide = ReinforceConfig().environment(pendulum).training(**SHARED, action_std=1.0)
    plain = ReinforceConfig().environment(cartpole).training(**SHARED, scaling="none")
    slow = plain.copy(copy_frozen=False).training(lr=5e-3, hidden_lr=7e-5)
    with_bp, guided = ("lpdm", "bp"), ("lpdm", "lpdm_guided")
    return {
        "CartPole, PPO, whole batch": (whole, with_bp),
        "CartPole, PPO, minibatches of 64": (split, with_bp),
        "InvertedPendulum, REINFORCE, deviation 0.5": (narrow, with_bp),
        "InvertedPendulum, REINFORCE, deviation 1.0": (wide, with_bp),
        "CartPole, REINFORCE, scaling none": (plain, guided),
        "CartPole, REINFORCE, scaling none, two rates": (slow, guided),
    }


def probes(environment: str) -> Array:
    """(PROBES, d_x) observations of random actions."""
    env = gym.make(environment)
    env.action_space.seed(0)
    seen: list[Any] = [env.reset(seed=0)[0]]
    while len(seen) < PROBES:
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append(env.reset()[0] if terminated or truncated else observation)
    return np.array(seen, np.float32)


def outputs(weights: dict[str, Array], inputs: Array) -> tuple[Array, Array]:
    """Of a network of tanh layers: (N, d_y) of the last hidden layer, and of the policy head."""
    count = sum(name.startswith("encoder.layers.") for name in weights) // 2
    for place in range(count):
        name = f"encoder.layers.{place}"
        inputs = np.tanh(inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
    return inputs, inputs @ weights["policy_head.weight"].T + weights["policy_head.bias"]


def distances(rows: Array) -> Array:
    """(N, N) L1 distances over their maximum."""
    found = np.abs(rows[:, None] - rows[None]).sum(-1)
    return found / found.max()


def measured(config: LocalConfig, iterations: int) -> pd.DataFrame:
    """A row of all measures every ten iterations."""
    algo = config.training(iterations=iterations, iterations_per_report=EVERY).build_algo()
    inputs = probes(config.env)
    wanted = distances(inputs)
    before, _ = outputs(algo.numpy_weights(), inputs)
    rows = []
    while not algo.finished:
        algo.train()
        features, head = outputs(algo.numpy_weights(), inputs)
        rows.append(
            {
                "iteration": algo.iterations_done,
                "episode_return": np.mean([row["episode_return"] for row in algo.iteration_rows]),
                "saturated": np.mean(np.abs(features) > SATURATED),
                "spread": features.std(axis=0).mean(),
                "change": np.abs(features - before).mean(),
                "distance_error": np.sqrt(np.mean((distances(features) - wanted) ** 2)),
                "head": head.std(axis=0).mean(),
            }
        )
        before = features
    algo.stop()
    return pd.DataFrame(rows)


def draw(curves: dict[tuple[str, str], pd.DataFrame], path: Path) -> None:
    """A column of panels for each case, a line for each method."""
    names = list(dict.fromkeys(case for case, _ in curves))
    figure = Figure(figsize=(3.4 * len(names), 2.0 * len(MEASURES)), layout="constrained")
    axes = figure.subplots(len(MEASURES), len(names), sharex="col", squeeze=False)
    for column, name in enumerate(names):
        axes[0, column].set_title(name.replace(", ", "\n", 1), fontsize=9)
        axes[-1, column].set_xlabel("iteration")
        for row, measure in enumerate(MEASURES):
            for (case, method), frame in curves.items():
                if case == name:
                    smooth = frame[measure].rolling(5, min_periods=1).mean()
                    axes[row, column].plot(
                        frame.iteration, smooth, COLOURS[method], label=method, linewidth=1.2
                    )
            axes[row, 0].set_ylabel(MEASURES[measure], fontsize=8)
    colours = {line.get_label(): line for axis in axes[0] for line in axis.lines}
    axes[0, 0].legend(handles=colours.values(), fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    start(__doc__)
    curves = {}
    for name, (config, methods) in cases().items():
        for method in methods:
            trained = config.copy(copy_frozen=False).training(method=method).debugging(seed=0)
            curves[name, method] = frame = measured(trained, ITERATIONS)
            quarters = frame.groupby(np.arange(len(frame)) * 4 // len(frame)).mean()
            print(f"\n{name}, {method}\n{quarters.round(3).to_string(index=False)}", flush=True)
    draw(curves, Path("features.svg"))


if __name__ == "__main__":
    main()
