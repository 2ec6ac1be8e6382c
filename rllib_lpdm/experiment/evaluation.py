"""A trained policy from its cell's folder alone: its returns, and a video of it.

A folder may come from anyone, so what it holds is read as data: JSON, CSV and arrays without
Python objects. Nothing is unpickled, and no module that a file names is imported.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
import pydantic
import torch
from numpy.typing import NDArray

from rllib_lpdm.algorithms.catalogue import ALGORITHMS
from rllib_lpdm.algorithms.environments import EnvironmentSpec
from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.methods import METHODS
from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.experiment.cell import algorithm_config
from rllib_lpdm.experiment.faults import unknown_environment
from rllib_lpdm.experiment.provenance import provenance
from rllib_lpdm.experiment.spec import (
    Cell,
    CellSettings,
    EvaluationError,
)
from rllib_lpdm.experiment.video import DEFAULT_RATE, Filmed, gl_setting, headless, video
from rllib_lpdm.results.checkpoints import best_iteration, checkpoints
from rllib_lpdm.results.iterations import RETURN, read_columns
from rllib_lpdm.results.layout import ITERATIONS_FILE, RUN_FILE, WEIGHTS_FILE, cell_folders
from rllib_lpdm.results.messages import one_line, shown, unknown_name
from rllib_lpdm.results.record import RecordError, RunRecord

Array = NDArray[Any]
CheckpointName = Literal["best", "last"]
CHECKPOINT_NAMES: tuple[CheckpointName, ...] = get_args(CheckpointName)

COMPARED = ("gymnasium", "mujoco", "numpy", "torch")  # what the numbers depend on


@dataclass(frozen=True)
class Evaluation:
    """Episodes of a trained policy that takes its most probable actions.

    Attributes:
        policy: what was evaluated.
        seed: of the evaluation; the same seed begins the same episodes.
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
        """What ``--json`` writes."""
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


@dataclass(frozen=True)
class SavedPolicy:
    """A policy as a checkpoint holds it.

    Attributes:
        cell: what was trained.
        status: of the run: running, finished or failed.
        versions: of the packages that trained it.
        checkpoint: how the checkpoint was chosen.
        iteration: the paper's iterations that had been trained.
        source: the file of the weights.
        weights: the module's parameters by name.
    """

    cell: Cell
    status: str
    versions: dict[str, str | None]
    checkpoint: CheckpointName
    iteration: int
    source: Path
    weights: dict[str, Array]

    def evaluate(self, episodes: int = 20, seed: int = 0) -> Evaluation:
        """Plays whole episodes; arguments and errors as for :func:`evaluate`."""
        if episodes < 1:
            raise EvaluationError(f"episodes={episodes}: must be at least 1")
        with self._runner(seed) as runner:
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
        second of the environment's time, so every second or third of them where there are more.

        Args:
            file: where to; ends in ``.mp4`` or ``.gif``. It appears when it is whole.
            seed: of the evaluation.

        Returns:
            The episode.

        Raises:
            EvaluationError: the environment cannot be drawn here, there is no encoder, or the file
                cannot be written.
        """
        with (
            self._runner(seed, render_mode="rgb_array") as runner,
            headless(runner.env),
            video(file, runner.env.metadata.get("render_fps") or DEFAULT_RATE) as add,
        ):
            runner.env = Filmed(runner.env, add)
            (episode,) = runner.sample(num_episodes=1)
        return episode

    def changed_versions(self) -> list[str]:
        """Packages, with both versions, that are not those of the training."""
        now = provenance()["versions"]
        return [
            f"{name} {shown(self.versions[name])} then, {shown(now[name])} now"
            for name in COMPARED
            if name in self.versions and self.versions[name] != now[name]
        ]

    @contextmanager
    def _runner(self, seed: int, **env_config: Any) -> Iterator[EpisodeRunner]:
        """A runner that acts with these weights."""
        if not 0 <= seed < 2**32:
            raise EvaluationError(f"seed={seed}: must be at least 0 and below 2**32")
        config = algorithm_config(self.cell).env_runners(num_env_runners=0).debugging(seed=seed)
        config.learners(num_learners=0)
        config.environment(env_config=config.env_config | env_config)
        try:
            config.validate()
            runner = EpisodeRunner(config=config)
        except Exception as error:  # an environment may raise anything
            mujoco = "mujoco" in str(gym.registry[self.cell.maker.spec.id].entry_point)
            raise EvaluationError(
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
            raise EvaluationError(f"{self.source}: {shown(name)} {fault}")
        module.load_state_dict({name: torch.tensor(value) for name, value in self.weights.items()})


def evaluate(
    folder: str | Path, episodes: int = 20, checkpoint: CheckpointName = "best", seed: int = 0
) -> Evaluation:
    """Plays episodes with a cell's trained policy, which takes its most probable actions.

    Ray is not started, and the folder may have been moved or copied, or may still be trained.

    Args:
        folder: the cell's folder.
        episodes: how many, at least 1.
        checkpoint: "best", of the highest smoothed return in training, or "last".
        seed: 0 <= seed < 2**32; episode k starts the same for the same seed, whatever the policy
            and however many episodes are played.

    Raises:
        EvaluationError: the folder is none of a cell, has no checkpoint yet or is damaged; its
            environment is not registered or cannot be made here.
    """
    return load_policy(folder, checkpoint).evaluate(episodes, seed)


def load_policy(folder: str | Path, checkpoint: CheckpointName = "best") -> SavedPolicy:
    """Reads a cell's folder; arguments and errors as for :func:`evaluate`."""
    if checkpoint not in CHECKPOINT_NAMES:
        raise EvaluationError(unknown_name(str(checkpoint), CHECKPOINT_NAMES, "checkpoint"))
    if "://" in str(folder):
        raise EvaluationError(f"{folder}: copy the cell's folder to this machine first")
    folder = Path(folder)
    try:
        run = _read_cell(folder)
        while True:
            iteration, source = _choose(folder, checkpoint, run.status)
            try:
                weights = _read_weights(source)
                break
            except FileNotFoundError:
                if os.path.lexists(source.parent):  # else a running cell has just dropped it
                    raise EvaluationError(
                        f"{source} is missing: the checkpoint is incomplete"
                    ) from None
        settings = _settings(folder, run)
    except EvaluationError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluationError(f"{folder} cannot be read: {one_line(error)}") from None
    return SavedPolicy(
        Cell(
            run.environment,
            run.algorithm,
            run.method,
            run.seed,
            settings,
            run.variant,
            _environment(folder, run),
        ),
        run.status,
        run.versions,
        checkpoint,
        iteration,
        source,
        weights,
    )


def _read_cell(folder: Path) -> RunRecord:
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: there is no such folder")
    try:
        run = RunRecord.read(folder)
    except RecordError as error:
        raise EvaluationError(f"{folder / RUN_FILE} is damaged: {error.fault}") from None
    if run is None:
        cells = cell_folders(folder)
        if not cells:
            raise EvaluationError(f"{folder} is not a cell's folder: it has no {RUN_FILE}")
        raise EvaluationError(
            f"{folder} is an experiment's folder; choose one of its {len(cells)} cells, such as "
            f"{', '.join(map(str, cells[:3]))}"
        )
    for kind, name, known in (
        ("algorithm", run.algorithm, ALGORITHMS),
        ("method", run.method, METHODS),
    ):
        if name not in known:
            raise EvaluationError(f"{folder / RUN_FILE}: {unknown_name(name, known, kind)}")
    return run


def _environment(folder: Path, run: RunRecord) -> EnvironmentSpec | None:
    """How the environment is made; None where its name says it."""
    spec = None
    if run.environment_spec is not None:
        try:
            spec = EnvironmentSpec(**run.environment_spec)
        except pydantic.ValidationError as error:
            place = f"{folder / RUN_FILE}: environment_spec"
            raise EvaluationError(f"{place}.{_fault(error)}") from None
    name = spec.id if spec else run.environment
    if name not in gym.registry:  # gymnasium would import a module before a colon
        raise EvaluationError(f"{folder / RUN_FILE}: {unknown_environment(name)}")
    return spec


def _settings(folder: Path, run: RunRecord) -> CellSettings:
    place = f"{folder / RUN_FILE}: settings"
    unknown = [name for name in run.settings if name not in CellSettings.model_fields]
    if unknown:
        raise EvaluationError(
            f"{place}: unknown setting {shown(unknown[0])}; the cell was trained with rllib-lpdm "
            f"{run.versions.get('rllib-lpdm')}, this is {provenance()['versions']['rllib-lpdm']}"
        )
    try:
        return CellSettings(**run.settings)
    except pydantic.ValidationError as error:
        raise EvaluationError(f"{place}.{_fault(error)}") from None


def _choose(folder: Path, checkpoint: CheckpointName, status: str) -> tuple[int, Path]:
    """The checkpoint's iteration and the file of its weights."""
    found = checkpoints(folder)
    if not found:
        raise EvaluationError(f"{folder} has no checkpoint yet; the run's status is {status}")
    iteration = max(found)
    if checkpoint == "best":
        file = folder / ITERATIONS_FILE
        returns = _returns(file) if file.exists() else []
        if len(returns) < iteration:
            raise EvaluationError(
                f"{file} has {len(returns)} whole rows, the last checkpoint {iteration}, so the "
                "best is not known; --checkpoint last does without"
            )
        iteration = best_iteration(returns, found)
    return iteration, found[iteration] / WEIGHTS_FILE


def _returns(file: Path) -> list[float]:
    """Mean episode return of every iteration; a row that is being written is left out."""
    try:
        columns = read_columns(file.read_bytes())
    except ValueError:
        raise EvaluationError(
            f"{file} is damaged, so the best checkpoint is not known; --checkpoint last does "
            "without"
        ) from None
    return columns[RETURN].tolist() if columns else []


def _read_weights(file: Path) -> dict[str, Array]:
    """The arrays of an archive, none of which may need unpickling."""
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is one array")
        with archive:
            weights = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive raises whatever its layers meet
        raise EvaluationError(
            f"{file} is no archive of plain arrays, and nothing else is loaded: {one_line(error)}"
        ) from None
    for name, value in weights.items():
        if not isinstance(value, np.ndarray) or value.dtype != np.float32:
            raise EvaluationError(f"{file}: {shown(name)} is no array of float32 numbers")
        if not np.isfinite(value).all():
            raise EvaluationError(f"{file}: {shown(name)} has values that are not finite")
    return weights


def _fault(error: pydantic.ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    got = "" if fault["type"] == "missing" else f", got {shown(fault['input'])}"
    return f"{place}: {fault['msg']}{got}"
