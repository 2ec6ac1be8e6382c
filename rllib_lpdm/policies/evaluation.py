"""Evaluates and films a trained policy from its cell's folder alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.grid.cell import algorithm_config
from rllib_lpdm.grid.provenance import provenance
from rllib_lpdm.policies.saved import CheckpointName, SavedWeights, differences
from rllib_lpdm.policies.video import Filmed, frame_rate, gl_setting, headless, video
from rllib_lpdm.results.layout import RUN_FILE
from rllib_lpdm.schema.messages import UserError, one_line, shown

COMPARED = ("gymnasium", "mujoco", "numpy", "torch")  # packages that can change returns


@dataclass(frozen=True)
class Evaluation:
    """Episodes of a trained policy that takes its most probable actions.

    Attributes:
        policy: the policy.
        seed: the evaluation's seed; the same seed begins the same episodes.
        returns: (episodes,) float64 sums of the environment's rewards, not discounted.
        lengths: (episodes,) int64 environment steps.
    """

    policy: "SavedPolicy"
    seed: int
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    @property
    def std(self) -> float | None:
        """Sample standard deviation (ddof=1); None for one episode."""
        return float(self.returns.std(ddof=1)) if len(self.returns) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the file that ``--json`` writes."""
        cell = self.policy.cell
        return {
            "cell": cell.name,
            "environment": cell.environment,
            "algorithm": cell.algorithm,
            "method": cell.method,
            "variant": cell.variant,
            "seed": cell.seed,
            "status": self.policy.status,
            "checkpoint": self.policy.checkpoint,
            "iteration": self.policy.iteration,
            "evaluation_seed": self.seed,
            "episodes": [
                {"return": value, "length": length}
                for value, length in zip(self.returns.tolist(), self.lengths.tolist(), strict=True)
            ],
            "mean": self.mean,
            "std": self.std,
            "versions": {"then": self.policy.versions, "now": provenance()["versions"]},
        }


def json_text(content: object) -> str:
    """Returns strict JSON, in which a number that is not finite is null."""
    strict = json.loads(json.dumps(content), parse_constant=lambda _: None)
    return json.dumps(strict, indent=2) + "\n"


class SavedPolicy(SavedWeights):
    """A policy that acts with the weights of a checkpoint."""

    def evaluate(self, episodes: int = 20, seed: int = 0) -> Evaluation:
        """Plays whole episodes; arguments and errors as for :func:`evaluate`."""
        if episodes < 1:
            raise UserError(f"episodes={episodes}: must be at least 1")
        with self.runner(seed) as runner:
            played = runner.sample(num_episodes=episodes)
        return Evaluation(
            self,
            seed,
            np.array([episode.total_reward() for episode in played]),
            np.array([len(episode) for episode in played], np.int64),
        )

    def film(self, file: Path, seed: int = 0) -> Episode:
        """Plays the first episode of :meth:`evaluate` again and writes a video of it.

        An MP4 has a frame for the start and one for every step. A GIF has at most 50 frames a
        second of the environment's time. All frames get the first one's size.

        Args:
            file: the video, which ends in ``.mp4`` or ``.gif``. It appears when it is whole.
            seed: the evaluation's seed.

        Raises:
            UserError: the environment cannot be drawn here, there is no encoder, or the file
                cannot be written.
        """
        with (
            self.runner(seed, render_mode="rgb_array") as runner,
            headless(runner.env),
            video(file, frame_rate(runner.env)) as add,
        ):
            runner.env = Filmed(runner.env, add)
            (episode,) = runner.sample(num_episodes=1)
        return episode

    def changed_versions(self) -> list[str]:
        """Returns packages whose versions have changed since the training, with both versions."""
        then, now = self.versions, provenance()["versions"]
        return differences({name: (then[name], now[name]) for name in COMPARED if name in then})

    @contextmanager
    def runner(self, seed: int, **env_config: Any) -> Iterator[EpisodeRunner]:
        """Yields a runner that acts with these weights."""
        if not 0 <= seed < 2**32:
            raise UserError(f"seed={seed}: must be at least 0 and below 2**32")
        config = algorithm_config(self.cell).env_runners(num_env_runners=0).debugging(seed=seed)
        config.learners(num_learners=0)
        config.environment(env_config=config.env_config | env_config)
        try:
            config.validate()
            runner = EpisodeRunner(config=config)
        except Exception as error:  # an environment may raise anything
            mujoco = "mujoco" in str(gym.registry[self.cell.maker.spec.id].entry_point)
            raise UserError(
                f"{self.cell.name} cannot be set up here: {one_line(error)}"
                f"{gl_setting() if mujoco else ''}"
            ) from error
        try:
            spec = config.get_rl_module_spec(env=runner.env, spaces=runner.get_spaces())
            runner.module = spec.build()
            self._load(runner.module)
            yield runner
        finally:
            runner.stop()

    def _load(self, module: torch.nn.Module) -> None:
        expected = module.state_dict()
        for name in sorted(expected.keys() | self.weights.keys()):
            if name not in self.weights:
                fault = "is missing"
            elif name not in expected:
                fault = f"is no parameter of the network that {RUN_FILE} describes"
            elif self.weights[name].shape != expected[name].shape:
                fault = (
                    f"has the shape {self.weights[name].shape}, but {tuple(expected[name].shape)} "
                    f"in the network that {RUN_FILE} describes"
                )
            else:
                continue
            raise UserError(f"{self.source}: {shown(name)} {fault}")
        module.load_state_dict({name: torch.tensor(value) for name, value in self.weights.items()})


def evaluate(
    folder: str | Path, episodes: int = 20, checkpoint: CheckpointName = "best", seed: int = 0
) -> Evaluation:
    """Plays episodes with a cell's trained policy, which takes its most probable actions.

    It does not start Ray. The folder may have been moved, or its cell may still be trained.

    Args:
        folder: the cell's folder.
        episodes: number of episodes, at least 1.
        checkpoint: "best", of the highest smoothed return in training, or "last".
        seed: 0 <= seed < 2**32; episode k starts the same for the same seed, with any policy and
            any number of episodes.

    Raises:
        UserError: the folder is not a cell's, has no checkpoint yet or is damaged; its
            environment is not registered or cannot be made here.
    """
    return SavedPolicy.load(folder, checkpoint).evaluate(episodes, seed)
