"""W&B: one run a cell, from the rows of its files.

The files of the cells are the truth, and what W&B holds, points of one or more rows, is derived
from rllib_lpdm.schema.messages import UserError
from them:

* Online, the server says which step of a run it has last, and the points after it are logged.
* Offline, a run's file is written anew from the first row whenever its cell is opened, the run's
  earlier file is removed, and the file does not say that it resumes. ``wandb sync`` then sends its
  points as the lines 0, 1, 2, ... of the run's history, whatever the server has already, so that
  one whole file leaves the same history however often it is sent. (Of a file that says it resumes,
  sync appends the points to what the server has, under new step numbers: a part that was sent
  before would be there twice.)
* When W&B cannot be reached, the cells that are open change to offline and are written whole.

The package ``wandb`` is imported when a mode asks for it, never by importing this module.
"""

import logging
import math
import os
import shlex
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_lpdm.grid.trackers.follower import CellFollower, Service
from rllib_lpdm.grid.trackers.tracker import Status, Tracker
from rllib_lpdm.grid.trackers.wandb_mode import resolve_mode
from rllib_lpdm.results.layout import WANDB
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.results.scores import Floats, end_score, finite, max_score, smoothed
from rllib_lpdm.schema.columns import NOT_LOGGED, metric_name
from rllib_lpdm.schema.messages import one_line

if TYPE_CHECKING:
    import wandb

PROJECT = "rllib_lpdm"
COUNTED = {"env_steps", "episodes"}  # columns
INIT_TIMEOUT = 60.0  # seconds for the server to answer before W&B counts as out of reach
FINISH_TIMEOUT = 60.0  # seconds for the last rows of a run to be sent
ENDED_FILE = "ended.txt"  # run ids and last iterations, beside W&B's own folders
MAX_TAG = 64  # characters
MIN_FREE = 2**20  # bytes

_CONFIG = {  # of run.json, beside the settings
    *("environment", "environment_spec", "algorithm", "method", "variant", "seed"),
    *("git_commit", "versions", "hardware"),
}

# Settings of W&B that name another run, go on with one, or change the files of a run. The user's
# environment may hold them for another program, such as a sweep's agent that starts this one.
_NOT_OURS = (
    *("sweep_id", "sweep_param_path", "launch", "launch_config_path"),
    *("resume", "resumed", "resume_from", "fork_from", "git_commit", "git_remote_url"),
    *("sync_tensorboard", "use_dot_wandb", "x_files_dir", "x_sync_dir_suffix"),
    *("x_server_side_derived_summary", "x_skip_transaction_log"),
)


def wandb_follower(mode: str, directory: Path, experiment: str) -> CellFollower:
    """Logs the cells of an experiment to W&B from one background thread.

    When W&B fails, one line on stderr says so and the cells go on offline, or without W&B when
    that fails too.

    Args:
        mode: one of :data:`~rllib_lpdm.grid.trackers.wandb_mode.MODES`.
        directory: where W&B's own files go, in a subfolder ``wandb``.
        experiment: its name, a tag of every run.

    Raises:
        UserError: see :func:`~rllib_lpdm.grid.trackers.wandb_mode.resolve_mode`.
    """
    mode = resolve_mode(mode)
    disabled = mode == "disabled"
    return CellFollower(None if disabled else Wandb(mode == "online", directory, experiment))


class Wandb(Service):
    """W&B's client, online or offline.

    Attributes:
        online: whether rows are sent to the server.
    """

    name = "W&B"

    def __init__(self, online: bool, directory: Path, experiment: str) -> None:
        self.works, self.online = True, online
        self._directory = Path(directory).absolute()
        self._experiment = experiment
        self._wrote_offline = False

    @property
    def _files(self) -> Path:
        return self._directory / WANDB

    def tracker(self) -> Tracker:
        return WandbRun(self)

    def has_all_of(self, record: RunRecord) -> bool:
        path = self._files / ENDED_FILE
        ended = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return f"{record.run_id} {record.iteration}" in ended  # it may have been extended since

    def degrade(self, error: Exception) -> None:
        self.works, self.online = self.online, False
        goes_on = "offline" if self.works else "without it, the results are not touched"
        self.say(f"failed ({one_line(error)}); going on {goes_on}")
        try:
            import wandb

            wandb.teardown(exit_code=1)  # ends the old runs, whose ids are needed again
        except Exception:
            pass  # the service may be what failed

    def close(self) -> str | None:
        """The command that uploads what was written offline; None where nothing was."""
        return f"wandb sync {shlex.quote(str(self._files))}" if self._wrote_offline else None

    def open(self, record: RunRecord) -> "wandb.Run":
        """A cell's run, described by its ``run.json``."""
        import wandb

        self.check_disk()
        shared = wandb.setup(wandb.Settings(silent=True, sagemaker_disable=True)).settings
        for name in _NOT_OURS:
            setattr(shared, name, wandb.Settings.model_fields[name].default)
        logging.getLogger("wandb").setLevel(logging.ERROR)
        if not self.online:
            self._remove_offline(record.run_id)
        parts = [record.environment, record.algorithm, record.method, record.variant]
        described = [part for part in parts if part]
        run = wandb.init(
            mode="online" if self.online else "offline",
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            entity=os.environ.get("WANDB_ENTITY") or None,
            dir=str(self._directory),
            id=record.run_id,
            name=record.cell,
            group="/".join(described),
            job_type=record.method,
            tags=list(dict.fromkeys(tag[:MAX_TAG] for tag in [self._experiment, *described])),
            config={**record.settings, **record.model_dump(include=_CONFIG)},
            reinit="create_new",
            resume="allow" if self.online else None,
            settings=_settings(),
        )
        if self.online:
            self._remove_offline(record.run_id)  # the server gets its rows now
        else:
            self._wrote_offline = True
        return run

    def note_end(self, run_id: str, iteration: int) -> None:
        """Remembers that a run has all rows of its finished cell."""
        with (self._files / ENDED_FILE).open("a", encoding="utf-8") as file:
            file.write(f"{run_id} {iteration}\n")

    def check_disk(self) -> None:
        """Raises an OSError where W&B would write elsewhere, or lose rows without a word."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if not os.access(self._directory, os.W_OK):
            raise PermissionError(f"{self._directory} cannot be written")
        if shutil.disk_usage(self._directory).free < MIN_FREE:
            raise OSError(f"the disk of {self._directory} is full")

    def _remove_offline(self, run_id: str) -> None:
        for folder in self._files.glob(f"offline-run-*-{run_id}*"):
            shutil.rmtree(folder)


class WandbRun(Tracker):
    """A cell's run: at most ``wandb_points`` points, and a summary at the end.

    A point is the mean over as many consecutive rows as there must be, and its step is the last
    one's iteration. Which rows share a point is said by the iteration and the cell's budget alone,
    so that a run that is written again or goes on has the same points. Rows after the last whole
    point are not logged.
    """

    def __init__(self, client: Wandb) -> None:
        self._client = client
        self._returns: list[float] = []
        self._rows: list[Mapping[str, float]] = []  # of the point that is not whole
        self._env_steps = 0.0  # before them

    def begin(self, folder: Path, record: RunRecord, done: int) -> None:
        self._run = self._client.open(record)
        self._last = record.settings.get("iterations")
        self._width = rows_of_a_point(self._last, record.settings.get("wandb_points"))
        steps = metric_name("env_steps")
        self._run.define_metric(steps)
        self._run.define_metric("*", step_metric=steps)
        self._next_step = self._run.step

    def rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        for row in rows:
            iteration = int(row["iteration"])
            if iteration == 1:  # also of a file that was cut back
                self._returns, self._rows, self._env_steps = [], [], 0.0
            self._returns.append(row["episode_return"])
            self._rows.append(row)
            if iteration % self._width == 0 or iteration == self._last:
                if iteration >= self._next_step:
                    point = _mean(self._rows, self._env_steps)
                    metrics = {metric_name(name): value for name, value in point.items()}
                    self._run.log(metrics, step=iteration, commit=True)
                    self._next_step = iteration + 1
                self._rows, self._env_steps = [], row["env_steps"]

    def end(self, status: Status) -> None:
        if self._returns:
            self._run.summary.update(_scores(np.array(self._returns)))
        if status == "interrupted":
            self._run.mark_preempting()  # with an exit code, the state "preempted"
        self._run.finish(exit_code=0 if status == "finished" else 1)
        self._client.check_disk()
        if status == "finished":
            self._client.note_end(self._run.id, self._next_step - 1)


def rows_of_a_point(rows: Any, points: Any) -> int:
    """So that all rows make at most so many points; 1 where an old record does not say."""
    if isinstance(rows, int) and isinstance(points, int) and min(rows, points) > 0:
        return math.ceil(rows / points)
    return 1


def _mean(rows: Sequence[Mapping[str, float]], steps_before: float) -> dict[str, float]:
    """Rows as one: means of what is finite, and of what is counted the last value."""
    last = rows[-1]
    point = {name: last[name] for name in last if name != "iteration"}
    if len(rows) > 1:
        for name in point.keys() - COUNTED:
            values = [row[name] for row in rows if math.isfinite(row[name])]
            point[name] = statistics.fmean(values) if values else last[name]
    seconds = sum(row["seconds"] for row in rows)
    if seconds > 0:
        point[NOT_LOGGED] = (last["env_steps"] - steps_before) / seconds
    return point


def _scores(returns: Floats) -> dict[str, float]:
    """What the report shows of a run: its last, its highest and its end score."""
    returns = finite(returns)
    return {
        "score": float(smoothed(returns)[-1]),
        "max_score": max_score(returns),
        "end_score": end_score(returns),
    }


def _settings() -> "wandb.Settings":
    """Rows and config only: no console, code, git, system statistics or names of the machine."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host="",
        symlink=False,
        init_timeout=INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        finish_timeout_raises=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
