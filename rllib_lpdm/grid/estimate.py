"""What ``--dry-run`` says: cells, environment steps, CPU hours and disk, before anything runs."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from rllib_lpdm.algorithms.episodes import episodes_of_iteration
from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.grid.cell import algorithm_config
from rllib_lpdm.grid.trackers.wandb import rows_of_a_point
from rllib_lpdm.methods import METHODS
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.schema.catalogue import ALGORITHMS
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, counted, figure, one_line

PROBE_SECONDS = 0.1  # of CPU time
PROBE_WAIT = 1.0  # seconds in which an iteration's episodes are played, to their end or not
PROBE_STEPS = 1000  # most of an episode
PROBE_SETTINGS = {"steps_per_iteration": PROBE_STEPS, "episodes_per_iteration": 10}  # at most
CHECKPOINTS_KEPT = 2  # the last and the best
CHECKPOINT_FILES = 57_000  # bytes of a checkpoint besides its numbers: RLlib's records and names
SCALAR_EVENT = 28  # bytes of one value in a TensorBoard file

WANDB_VALUE = 93  # bytes of one value in W&B's offline file


@dataclass(frozen=True)
class Probe:
    """A few iterations of a kind of cell, measured.

    Attributes:
        seconds_per_step: CPU seconds for one environment step and its share of the update.
        row_bytes: length of a row of ``iterations.csv``.
        columns: columns of a row.
        parameters: numbers that the network learns.
        frozen_parameters: of these, those that have no optimizer.
    """

    seconds_per_step: float
    row_bytes: int
    columns: int
    parameters: int
    frozen_parameters: int


def plan(cells: Sequence[Cell], folder: Path, runs: Mapping[str, RunRecord], offline: bool) -> str:
    """All cells with their state, then what those that are not finished will cost at most.

    Args:
        cells: all cells.
        folder: the experiment's.
        runs: ``run.json`` of those that have begun.
        offline: whether W&B's files will be written beside the cells.

    Raises:
        UserError: a cell cannot be trained.
    """
    finished = {name for name, run in runs.items() if run.status == "finished"}
    lines = [f"{cell.name}{'  finished' if cell.name in finished else ''}" for cell in cells]
    pending = [cell for cell in cells if cell.name not in finished]
    done = len(cells) - len(pending)
    lines.append(
        f"{counted(len(cells), 'cell')}, {done} finished, {len(pending)} to run, "
        f"{counted(sum(_left(cell, runs) for cell in pending), 'iteration')} in all, into {folder}"
    )
    if pending:
        lines += _costs(pending, runs, offline)
    return "\n".join(lines)


def _costs(cells: Sequence[Cell], runs: Mapping[str, RunRecord], offline: bool) -> list[str]:
    steps = {cell.name: most_steps(cell, _left(cell, runs)) for cell in cells}
    bounded = [cell for cell in cells if steps[cell.name] is not None]
    unbounded = sorted({cell.environment for cell in cells if steps[cell.name] is None})
    probes: dict[tuple[str, ...], Probe] = {}
    for key, cell in {_key(cell): cell for cell in cells}.items():
        try:
            probes[key] = probe(cell)
        except Exception as error:  # settings that do not go together, or with this machine
            raise UserError(f"{cell.name}: {one_line(error)}") from error
    cpu_seconds = sum(
        (steps[cell.name] or 0) * probes[_key(cell)].seconds_per_step for cell in bounded
    )
    sizes = [disk_bytes(cell, probes[_key(cell)]) for cell in cells]
    lines = [
        f"at most {sum(steps[cell.name] or 0 for cell in bounded):,} environment steps, if every "
        "episode lasts to its time limit, and then",
        f"about {figure(cpu_seconds / 3600)} CPU hours at the speed of this machine, measured just "
        "now",
        f"about {_megabytes(sum(sizes))} on disk, "
        f"{' to '.join(dict.fromkeys(map(_megabytes, (min(sizes), max(sizes)))))} a cell",
    ]
    if offline:
        size = sum(_points(cell) * probes[_key(cell)].columns for cell in cells) * WANDB_VALUE
        lines.append(f"and about {_megabytes(size)} of W&B's offline files beside them")
    if unbounded:
        lines.append(f"steps and hours without {', '.join(unbounded)}, which has no time limit")
    return lines


def probe(cell: Cell) -> Probe:
    """Trains a kind of cell for a moment, in this process and without Ray.

    Iterations are cut short where the settings ask for long ones, or the environment is slow.
    """
    spec = cell.maker.spec
    limit = min(spec.time_limit or PROBE_STEPS, PROBE_STEPS)
    limited = spec.model_copy(update={"max_episode_steps": limit})
    short = {
        name: min(value, PROBE_SETTINGS[name])
        for name, value in cell.settings
        if name in PROBE_SETTINGS
    }
    settings = cell.settings.model_copy(update=short)
    config = algorithm_config(replace(cell, environment_spec=limited, settings=settings))
    config.learners(num_learners=0)
    config.validate()
    runner = EpisodeRunner(config=config)
    runner.env = brief = _Brief(runner.env)
    learner = config.build_learner(env=runner.env)
    seconds = steps = 0.0
    row: dict[str, float] = {}
    iteration = 0
    while seconds < PROBE_SECONDS and (iteration < 2 or not brief.over):
        brief.until = time.perf_counter() + PROBE_WAIT
        started = time.process_time()
        policy = learner.actor_critic.numpy_policy()
        episodes = episodes_of_iteration(config, partial(runner.rollout, policy, iteration))
        update = learner.learn(episodes, iteration)
        taken = time.process_time() - started
        if iteration > 0:  # the first loads code, for longer than a short episode takes
            seconds += taken
            steps += sum(map(len, episodes))
        iteration += 1
        progress = ("iteration", "env_steps", "episodes", "episode_return", "episode_length")
        row = {**dict.fromkeys(progress, 1000.0 / 3), "seconds": 1 / 3000, **update}
    runner.stop()
    network = learner.actor_critic
    frozen = () if METHODS[cell.method].trains_hidden else network.encoder.parameters()
    return Probe(
        seconds / steps,
        sum(len(str(value)) + 1 for value in row.values()) - 30,  # counters are short
        len(row),
        sum(parameter.numel() for parameter in network.parameters()),
        sum(parameter.numel() for parameter in frozen),
    )


class _Brief(gym.Wrapper):
    """Ends an episode when its time is over.

    Attributes:
        until: when that is, as ``time.perf_counter()`` counts.
    """

    until = math.inf

    @property
    def over(self) -> bool:
        return time.perf_counter() > self.until

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated or self.over, info


def disk_bytes(cell: Cell, measured: Probe) -> int:
    """Size of a finished cell's folder: rows, the last and the best checkpoint.

    A checkpoint holds every parameter twice, for RLlib and as ``weights.npz``, and Adam's two
    moments of those that learn.
    """
    rows = cell.settings.iterations or 0
    numbers = 4 * measured.parameters - 2 * measured.frozen_parameters
    checkpoint = 4 * numbers + CHECKPOINT_FILES
    board = SCALAR_EVENT * measured.columns * rows if cell.settings.tensorboard else 0
    return rows * measured.row_bytes + CHECKPOINTS_KEPT * checkpoint + board


def _key(cell: Cell) -> tuple[str, ...]:
    return (cell.environment, cell.algorithm, cell.method, cell.variant or "")


def _iterations(cell: Cell) -> int:
    return cell.settings.iterations or 0


def _points(cell: Cell) -> int:
    """Of its run in W&B."""
    rows = _iterations(cell)
    return math.ceil(rows / rows_of_a_point(rows, cell.settings.wandb_points))


def _left(cell: Cell, runs: Mapping[str, RunRecord]) -> int:
    """Iterations after the last checkpoint."""
    run = runs.get(cell.name)
    return _iterations(cell) - (run.iteration if run else 0)


def most_steps(cell: Cell, iterations: int) -> int | None:
    """Environment steps if every episode lasts to its time limit, None without one."""
    limit = cell.maker.spec.time_limit
    if limit is None:
        return None
    return iterations * ALGORITHMS[cell.algorithm].most_steps(cell.settings, limit)


def _megabytes(size: int) -> str:
    if size < 1e5:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
