"""W&B as a sink: one thread follows the cells' files and logs every row, one W&B run a cell.

The files of the cells are the truth, and what W&B holds is derived from them:

* Online, the server says which step of a run it has last, and the rows after it are logged.
* Offline, a run's file is written anew from the first row whenever its cell is opened, the run's
  earlier file is removed, and the file does not say that it resumes. ``wandb sync`` then sends its
  rows as the lines 0, 1, 2, ... of the run's history, whatever the server has already, so that one
  whole file leaves the same history however often it is sent. (Of a file that says it resumes,
  sync appends the rows to what the server has, under new step numbers: a part that was sent
  before would be there twice.)
* When W&B cannot be reached, the cells that are open change to offline and are written whole.

The package ``wandb`` is imported when a mode asks for it, never by importing this module.
"""

import functools
import logging
import os
import queue
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_lpdm.experiment.records import ITERATIONS_FILE, read_run
from rllib_lpdm.experiment.spec import ExperimentError

if TYPE_CHECKING:
    import wandb

MODES = ("auto", "online", "offline", "disabled")
PROJECT = "rllib_lpdm"
INIT_TIMEOUT = 60.0  # seconds for the server to answer before W&B counts as out of reach
FINISH_TIMEOUT = 60.0  # seconds for the last rows of a run to be sent
CLOSE_TIMEOUT = 300.0  # seconds that close() waits at most
ENDED_FILE = "ended.txt"  # run ids, beside W&B's own folders
MAX_TAG = 64  # characters
MIN_FREE = 2**20  # bytes

_CONFIG = (  # of run.json, beside the settings
    *("environment", "algorithm", "method", "variant", "seed"),
    *("git_commit", "versions", "hardware"),
)
_RECORD = ("run_id", "cell", "settings", *_CONFIG)

# A column's name in W&B, whose part before the slash is the section of the panel; first match wins.
_NAMES = (
    (r"episode_(.+)", r"episode/\1"),
    (r"(env_steps|episodes)", r"progress/\1"),
    (r"seconds", r"speed/seconds_per_iteration"),
    (r"steps_per_second", r"speed/steps_per_second"),
    (r"grad_norm", r"grad_norm/network"),
    (r"grad_norm_(.+)", r"grad_norm/\1"),
    (r"(.+)_(\d+)", r"\1/hidden_\2"),
    (r"(.+)_loss", r"loss/\1"),
    (r"(.+)", r"update/\1"),
)


@functools.cache
def metric_name(column: str) -> str:
    """The name in W&B of a column of ``iterations.csv``.

    ``distance_loss_1`` is ``distance_loss/hidden_1``, as is any name that ends in the number of a
    layer; ``grad_norm_policy_head`` is ``grad_norm/policy_head``, ``episode_return``
    ``episode/return``, ``policy_loss`` ``loss/policy``, and what fits nowhere ``update/...``.
    """
    pattern, name = next(rule for rule in _NAMES if re.fullmatch(rule[0], column))
    return re.sub(f"^{pattern}$", name, column)


def resolve_mode(mode: str) -> str:
    """What a mode means here: ``online``, ``offline`` or ``disabled``.

    ``auto`` is what WANDB_MODE says, else online where there is an API key, else offline; and
    disabled, with a line on stderr, where the package is missing.

    Raises:
        ExperimentError: the mode is unknown, or the package or, for ``online``, the key is missing.
    """
    asked, variable = mode, os.environ.get("WANDB_MODE") if mode == "auto" else None
    if variable:
        mode = {"run": "online", "dryrun": "offline"}.get(variable.lower(), variable.lower())
    if mode not in MODES or (variable and mode == "auto"):
        source = f"WANDB_MODE={variable}" if variable else f"--wandb {mode}"
        raise ExperimentError(f"{source}: must be one of {', '.join(MODES[1:])}")
    if mode == "disabled":
        return mode
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else even offline runs report usage
    try:
        has_key = _has_key()
    except ImportError as error:
        if asked != "auto":
            raise ExperimentError(
                f"--wandb {asked}: wandb cannot be imported ({error}); pip install wandb"
            ) from None
        _say("nothing is logged there, as the package is missing (pip install wandb)")
        return "disabled"
    if mode == "auto":
        return "online" if has_key else "offline"
    if mode == "online" and not has_key:
        raise ExperimentError(
            "W&B online: there is no API key; run `wandb login`, set WANDB_API_KEY, "
            "or use --wandb offline"
        )
    return mode


def _has_key() -> bool:
    """Whether the environment or a stored login has credentials for the server in use."""
    from wandb.errors import AuthenticationError
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        return bool(wbauth.read_netrc_auth(host=wandb_setup.singleton().settings.base_url))
    except AuthenticationError:  # what is stored is no key
        return False


class WandbSink:
    """Logs the cells of an experiment to W&B from one background thread.

    Nothing here raises into the caller or makes it wait, but for :meth:`close`. When W&B fails,
    one line on stderr says so and the cells go on offline, or without W&B when that fails too.

    Args:
        mode: one of :data:`MODES`.
        directory: where W&B's own files go, in a subfolder ``wandb``.
        experiment: its name, a tag of every run.

    Attributes:
        rows: how many rows were logged.
        cpu_seconds: what the thread has used of this process's time, opening the runs included.

    Raises:
        ExperimentError: see :func:`resolve_mode`.
    """

    def __init__(self, mode: str, directory: Path, experiment: str) -> None:
        self.rows, self.cpu_seconds = 0, 0.0
        self._mode = resolve_mode(mode)
        self._directory = Path(directory).absolute()
        self._experiment = experiment
        self._cells: dict[str, _Cell] = {}
        self._wrote_offline = False
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._queue: queue.SimpleQueue[tuple[Path, bool | None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if self._mode != "disabled":
            self._thread = threading.Thread(target=self._work, name="wandb-sink", daemon=True)
            self._thread.start()

    def update(self, cell_folder: Path) -> None:
        """There may be new rows in a cell's ``iterations.csv``."""
        if self._thread is None:
            return
        with self._lock:
            if str(cell_folder) in self._waiting:
                return
            self._waiting.add(str(cell_folder))
        self._queue.put((cell_folder, None))

    def finish(self, cell_folder: Path, failed: bool) -> None:
        """The cell has ended: its last rows are logged, and its run gets an exit code."""
        if self._thread is not None:
            self._queue.put((cell_folder, failed))

    def complete(self, cell_folder: Path, record: Mapping[str, Any]) -> None:
        """Logs a finished cell, unless its run was ended by this sink or an earlier one."""
        if self._thread is not None and record.get("run_id") not in self._ended():
            self.finish(cell_folder, failed=False)

    def close(self) -> str | None:
        """Ends the runs that are still open as preempted, and waits until all is written.

        Returns:
            The command that uploads what was written offline; None where nothing was.
        """
        if self._thread is None:
            return None
        thread, self._thread = self._thread, None
        self._queue.put(None)
        thread.join(CLOSE_TIMEOUT)
        if thread.is_alive():
            _say(f"not everything was written within {CLOSE_TIMEOUT:.0f} s; --resume completes it")
        return f"wandb sync {shlex.quote(str(self._files))}" if self._wrote_offline else None

    # -- in the thread ----------------------------------------------------------------------------

    @property
    def _files(self) -> Path:
        return self._directory / "wandb"

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            folder, failed = task
            if failed is None:
                with self._lock:
                    self._waiting.discard(str(folder))
            self._follow(folder, failed)
            self.cpu_seconds = time.thread_time()
        for cell in list(self._cells.values()):
            self._follow(cell.folder, None, interrupted=True)

    def _follow(self, folder: Path, failed: bool | None, interrupted: bool = False) -> None:
        """Logs a cell's new rows and ends its run if it is at an end, in the best mode that works.

        Args:
            folder: the cell's folder.
            failed: how the cell has ended; None where it has not.
            interrupted: the run ends though its cell has not.
        """
        while self._mode != "disabled":
            cell = self._cells.setdefault(str(folder), _Cell(folder))
            try:
                try:
                    self._log(cell)
                except _CellError as error:
                    self._say_once(cell, error)
                if failed is not None or interrupted:
                    self._end(cell, failed)
                    del self._cells[str(folder)]
                return
            except Exception as error:
                self._degrade(error)

    def _log(self, cell: "_Cell") -> None:
        """Logs the rows that are new, if the cell has a record yet."""
        if cell.run is None:
            record = cell.record()
            if record is None:
                return
            cell.run = self._open(record)
            cell.next_step = cell.run.step
            cell.rows = _Rows(cell.folder / ITERATIONS_FILE)
        for row in cell.new_rows():
            step = int(row["iteration"])
            if step >= cell.next_step:
                cell.run.log(_metrics(row), step=step, commit=True)
                cell.next_step = step + 1
                self.rows += 1

    def _end(self, cell: "_Cell", failed: bool | None) -> None:
        if cell.run is None:
            return
        if failed is None:
            cell.run.mark_preempting()  # with an exit code, the state "preempted"
        cell.run.finish(exit_code=0 if failed is False else 1)
        self._check_disk()
        if failed is False:
            with (self._files / ENDED_FILE).open("a", encoding="utf-8") as file:
                file.write(f"{cell.run.id}\n")
        cell.run = None

    def _ended(self) -> set[str]:
        """Ids of the runs that have all rows of their finished cells."""
        path = self._files / ENDED_FILE
        return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()

    def _open(self, record: Mapping[str, Any]) -> "wandb.Run":
        import wandb

        self._check_disk()
        wandb.setup(wandb.Settings(silent=True))  # what matters is said here
        logging.getLogger("wandb").setLevel(logging.ERROR)
        online = self._mode == "online"
        if not online:
            self._remove_offline(record["run_id"])
        environment, algorithm = record["environment"], record["algorithm"]
        tags = (self._experiment, environment, algorithm, record["method"], record["variant"])
        run = wandb.init(
            mode="online" if online else "offline",
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            entity=os.environ.get("WANDB_ENTITY") or None,
            dir=str(self._directory),
            id=record["run_id"],
            name=record["cell"],
            group=f"{environment}/{algorithm}",
            job_type=record["method"],
            tags=list(dict.fromkeys(tag[:MAX_TAG] for tag in tags if tag)),
            config={**record["settings"], **{key: record[key] for key in _CONFIG}},
            reinit="create_new",
            resume="allow" if online else None,
            settings=_settings(),
        )
        if online:
            self._remove_offline(record["run_id"])  # the server gets its rows now
        else:
            self._wrote_offline = True
        return run

    def _check_disk(self) -> None:
        """Raises an OSError where W&B would write elsewhere, or lose rows without a word."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if not os.access(self._directory, os.W_OK):
            raise PermissionError(f"{self._directory} cannot be written")
        if shutil.disk_usage(self._directory).free < MIN_FREE:
            raise OSError(f"the disk of {self._directory} is full")

    def _remove_offline(self, run_id: str) -> None:
        for folder in self._files.glob(f"offline-run-*-{run_id}*"):
            shutil.rmtree(folder)

    def _say_once(self, cell: "_Cell", error: Exception) -> None:
        if str(cell.folder) not in self._said:
            self._said.add(str(cell.folder))
            _say(f"{cell.folder}: {error}")

    def _degrade(self, error: Exception) -> None:
        """Goes on in the next worse mode; the open cells begin anew in it."""
        online = self._mode == "online"
        self._mode = "offline" if online else "disabled"
        reason = " ".join(str(error).split()) or type(error).__name__
        _say(
            f"failed ({reason[:300]}); "
            + ("going on offline" if online else "going on without it, the results are not touched")
        )
        for cell in self._cells.values():
            cell.run = None
        try:
            import wandb

            wandb.teardown(exit_code=1)  # ends the old runs, whose ids are needed again
        except Exception:
            pass  # the service may be what failed


class _CellError(Exception):
    """A cell's files cannot be read, which is no fault of W&B."""


class _Cell:
    """A cell and its W&B run.

    Attributes:
        folder: the cell's folder.
        run: its W&B run; None where it is not open.
        next_step: the iteration to log next.
        rows: the rows that have not been read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run: wandb.Run | None = None
        self.next_step = 0
        self.rows = _Rows(folder / ITERATIONS_FILE)

    def record(self) -> dict[str, Any] | None:
        """The content of ``run.json``; None where there is none yet."""
        try:
            record = read_run(self.folder)
        except (OSError, ValueError) as error:
            raise _CellError(error) from error
        missing = [] if record is None else [key for key in _RECORD if key not in record]
        if missing:
            raise _CellError(f"run.json lacks {', '.join(missing)}")
        return record

    def new_rows(self) -> list[dict[str, float]]:
        try:
            return self.rows.new()
        except (OSError, ValueError) as error:
            raise _CellError(error) from error


class _Rows:
    """The whole rows of a growing ``iterations.csv``, each once.

    A row that was read must still stand before the place where reading goes on. If it does not,
    the file was cut back and has grown again, and is read from its start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._restart()

    def _restart(self) -> None:
        self._end, self._last_line = 0, b""
        self._columns: list[str] = []
        self._last_row: dict[str, float] = {}

    def new(self) -> list[dict[str, float]]:
        """The rows since the last call, with ``steps_per_second`` added.

        Raises:
            OSError: the file cannot be read.
            ValueError: a row is not numbers, or has not one for each column.
        """
        if not self._path.exists():
            return []
        data = self._read()
        if not data.startswith(self._last_line):
            self._restart()
            data = self._read()
        lines = data[len(self._last_line) :].splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        if not lines:
            return []
        texts = [line.decode().rstrip().split(",") for line in lines]
        columns = self._columns or texts.pop(0)
        rows = [dict(zip(columns, map(float, text), strict=True)) for text in texts]
        for before, row in zip([self._last_row, *rows], rows, strict=False):
            if row["seconds"] > 0:
                steps = row["env_steps"] - before.get("env_steps", 0.0)
                row["steps_per_second"] = steps / row["seconds"]
        self._end += sum(map(len, lines))
        self._last_line, self._columns = lines[-1], columns
        self._last_row = rows[-1] if rows else {}
        return rows

    def _read(self) -> bytes:
        """From the last line that was read to the end."""
        with self._path.open("rb") as file:
            file.seek(self._end - len(self._last_line))
            return file.read()


def _metrics(row: Mapping[str, float]) -> dict[str, float]:
    return {metric_name(column): value for column, value in row.items() if column != "iteration"}


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


def _say(message: str) -> None:
    print(f"W&B: {message}", file=sys.stderr, flush=True)
