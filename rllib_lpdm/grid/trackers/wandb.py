"""W&B: one run a cell, made from the rows of the cell's files.

The files of the cells are the truth; a point in W&B holds one or more rows of them.

* Online, the server names the last step of a run, and the client logs the points after it.
* Offline, the client writes a run's file from the first row whenever it opens the cell, and removes
  the run's earlier file. The file does not say that it resumes. ``wandb sync`` then sends its
  points as the lines 0, 1, 2, ... of the run's history, so a repeated sync leaves the same history.
  (For a file that says it resumes, sync appends the points under new step numbers, and a part that
  was sent before would be there twice.)
* When W&B is out of reach, the open cells change to offline and are written from the first row.

Importing this module does not import the package ``wandb``.
"""

import logging
import math
import os
import shlex
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from rllib_lpdm.grid.trackers import Status, Tracker
from rllib_lpdm.results.layout import WANDB
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.results.scores import end_score, finite, max_score, smoothed
from rllib_lpdm.schema.columns import NOT_LOGGED, metric_name
from rllib_lpdm.schema.messages import UserError, one_line

if TYPE_CHECKING:
    import wandb

#: The values of ``--wandb``.
MODES = ("auto", "online", "offline", "disabled")
LOGIN = "run `wandb login` or set WANDB_API_KEY"
PROJECT = "rllib_lpdm"
COUNTED = {"env_steps", "episodes"}  # columns
INIT_TIMEOUT = 60.0  # seconds for the server to answer before W&B counts as out of reach
FINISH_TIMEOUT = 60.0  # seconds for the last rows of a run to be sent
ENDED_FILE = "ended.txt"  # run ids and last iterations, beside W&B's own folders
MAX_TAG = 64  # characters
MIN_FREE = 2**20  # bytes

_CONFIG = {  # entries of run.json, beside the settings
    *("environment", "environment_spec", "algorithm", "method", "variant", "seed"),
    *("git_commit", "versions", "hardware"),
}

# Settings of W&B that name or continue another run, or change a run's files. The environment may
# hold them for another program, such as a sweep's agent that starts this one.
_NOT_OURS = (
    *("sweep_id", "sweep_param_path", "launch", "launch_config_path"),
    *("resume", "resumed", "resume_from", "fork_from", "git_commit", "git_remote_url"),
    *("sync_tensorboard", "use_dot_wandb", "x_files_dir", "x_sync_dir_suffix"),
    *("x_server_side_derived_summary", "x_skip_transaction_log"),
)


def say(message: str) -> None:
    """Prints a line about W&B on stderr."""
    print(f"W&B: {message}", file=sys.stderr, flush=True)


def resolve_mode(mode: str) -> str:
    """Returns the mode that a value of ``--wandb`` means here: online, offline or disabled.

    ``auto`` follows WANDB_MODE. Without that variable it means online where there is an API key,
    offline where there is none, and disabled, with a line on stderr, without the package.

    Raises:
        UserError: the mode is unknown; the package is missing; ``online`` has no key; or W&B
            refuses a variable of the environment.
    """
    asked, variable = mode, os.environ.get("WANDB_MODE") if mode == "auto" else None
    if variable:
        mode = {"run": "online", "dryrun": "offline"}.get(variable.lower(), variable.lower())
    if mode not in MODES or (variable and mode == "auto"):
        source = f"WANDB_MODE={variable}" if variable else f"--wandb {mode}"
        raise UserError(f"{source}: must be one of {', '.join(MODES[1:])}")
    if mode == "disabled":
        return mode
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else even offline runs report usage
    try:
        with_key = has_key()
    except ImportError as error:
        if asked != "auto":
            raise UserError(
                f"--wandb {asked}: wandb cannot be imported ({error}); pip install wandb"
            ) from None
        say("nothing is logged there, as the package is missing (pip install wandb)")
        return "disabled"
    if mode == "auto":
        return "online" if with_key else "offline"
    if mode == "online" and not with_key:
        raise UserError(f"W&B online: there is no API key; {LOGIN}, or use --wandb offline")
    return mode


def has_key() -> bool:
    """Returns whether the environment or a stored login has credentials for the server in use.

    Raises:
        ImportError: the package is missing.
        UserError: W&B refuses one of its variables in the environment.
    """
    # Private parts, because the public functions ask for a key where there is none.
    from wandb import Settings
    from wandb.errors import AuthenticationError
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    try:
        Settings().update_from_env_vars(dict(os.environ))
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        raise UserError(
            f"W&B refuses its setting {'.'.join(map(str, fault['loc']))!r}, which a variable "
            f"WANDB_... of the environment gives: {one_line(fault['msg'])}; correct or unset it"
        ) from None
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        return bool(wbauth.read_netrc_auth(host=wandb_setup.singleton().settings.base_url))
    except AuthenticationError:  # the stored text is no key
        return False


class Wandb:
    """A client that all cells share, online or offline.

    Attributes:
        online: whether the client sends rows to the server.
        works: whether trackers can be fed; False once W&B has failed offline too.
    """

    def __init__(self, online: bool, directory: Path, experiment: str) -> None:
        self.works, self.online = True, online
        self._directory = Path(directory).absolute()
        self._files = self._directory / WANDB
        self._experiment = experiment
        self._wrote_offline = False

    def tracker(self) -> Tracker:
        """Returns a tracker for one cell."""
        return _WandbRun(self)

    def has_all_of(self, record: RunRecord) -> bool:
        """Returns whether a tracker, in this process or an earlier one, ended a finished cell."""
        path = self._files / ENDED_FILE
        ended = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return f"{record.run_id} {record.iteration}" in ended  # it may have been extended since

    def degrade(self, error: Exception) -> None:
        """Goes offline, or stops working, after a tracker's error; the open cells begin anew."""
        self.works, self.online = self.online, False
        goes_on = "offline" if self.works else "without it, the results are not touched"
        say(f"failed ({one_line(error)}); going on {goes_on}")
        try:
            import wandb

            wandb.teardown(exit_code=1)  # ends the old runs, whose ids are needed again
        except Exception:
            pass  # the service may be what failed

    def close(self) -> str | None:
        """Returns the command that uploads the offline files; None where there are none."""
        return f"wandb sync {shlex.quote(str(self._files))}" if self._wrote_offline else None

    def open(self, record: RunRecord) -> "wandb.Run":
        """Opens the run of a cell, described by its ``run.json``."""
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
        """Notes in a file that a run has all rows of its finished cell."""
        with (self._files / ENDED_FILE).open("a", encoding="utf-8") as file:
            file.write(f"{run_id} {iteration}\n")

    def check_disk(self) -> None:
        """Raises an OSError where W&B would write elsewhere, or silently lose rows."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if not os.access(self._directory, os.W_OK):
            raise PermissionError(f"{self._directory} cannot be written")
        if shutil.disk_usage(self._directory).free < MIN_FREE:
            raise OSError(f"the disk of {self._directory} is full")

    def _remove_offline(self, run_id: str) -> None:
        for folder in self._files.glob(f"offline-run-*-{run_id}*"):
            shutil.rmtree(folder)


class _WandbRun(Tracker):
    """Logs a cell as at most ``wandb_points`` points, and a summary at the end.

    A point is the mean of consecutive rows, and its step is the last row's iteration. The iteration
    and the cell's budget alone decide which rows share a point: a run that is written again, or
    continues, has the same points. Rows after the last complete point are not logged.
    """

    def __init__(self, client: Wandb) -> None:
        self._client = client
        self._returns: list[float] = []
        self._rows: list[Mapping[str, float]] = []  # of the point that is not complete
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
            if iteration == 1:  # a process may have cut the file back
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
            returns = finite(np.array(self._returns))
            scores = {"max_score": max_score(returns), "end_score": end_score(returns)}
            self._run.summary.update({"score": float(smoothed(returns)[-1]), **scores})
        if status == "interrupted":
            self._run.mark_preempting()  # with the exit code, the run's state is "preempted"
        self._run.finish(exit_code=0 if status == "finished" else 1)
        self._client.check_disk()
        if status == "finished":
            self._client.note_end(self._run.id, self._next_step - 1)


def rows_of_a_point(rows: Any, points: Any) -> int:
    """Returns how many rows share a point; 1 where an old record lacks one of the numbers."""
    if isinstance(rows, int) and isinstance(points, int) and min(rows, points) > 0:
        return math.ceil(rows / points)
    return 1


def _mean(rows: Sequence[Mapping[str, float]], steps_before: float) -> dict[str, float]:
    """Returns the means of rows over finite values; for counters, the last value."""
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


def _settings() -> "wandb.Settings":
    """Returns settings without console, code, git, system statistics or the machine's name."""
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
