"""The driver's thread that follows the files of all cells and feeds their runs in W&B."""

import queue
import threading
import time
from pathlib import Path

from rllib_lpdm.grid.trackers import Status, Tracker
from rllib_lpdm.grid.trackers.wandb import Wandb, resolve_mode, say
from rllib_lpdm.results.iterations import Follower
from rllib_lpdm.results.layout import ITERATIONS_FILE, RUN_FILE
from rllib_lpdm.results.record import RunRecord

NEEDED = {"iteration", "env_steps", "episode_return", "seconds"}  # columns
CLOSE_TIMEOUT = 300.0  # seconds that close() waits at most

# A cell's folder, and its status once it has ended; an event to set; or the end of the work.
_Task = tuple[Path, Status | None] | threading.Event | None


def wandb_follower(mode: str, directory: Path, experiment: str) -> "CellFollower":
    """Returns a follower that logs an experiment's cells to W&B.

    When W&B fails, one line on stderr says so. The cells go on offline, or without W&B when that
    fails too.

    Args:
        mode: one of :data:`~rllib_lpdm.grid.trackers.wandb.MODES`.
        directory: where W&B puts its files, in a subfolder ``wandb``.
        experiment: the experiment's name, a tag of every run.

    Raises:
        UserError: see :func:`~rllib_lpdm.grid.trackers.wandb.resolve_mode`.
    """
    mode = resolve_mode(mode)
    disabled = mode == "disabled"
    return CellFollower(None if disabled else Wandb(mode == "online", directory, experiment))


class CellFollower:
    """Feeds the trackers of a client with the rows that cells write.

    No method raises into the caller, and only :meth:`close` makes it wait. A message names a cell
    with unreadable files once.

    Args:
        client: makes the trackers; None for no trackers and no thread.

    Attributes:
        rows: how many rows the trackers have received.
        cpu_seconds: CPU time that the thread has used.
    """

    def __init__(self, client: Wandb | None) -> None:
        self.rows, self.cpu_seconds = 0, 0.0
        self._client = client
        self._cells: dict[str, _FollowedCell] = {}
        self._complained: set[str] = set()
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._queue: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if client is not None:
            self._thread = threading.Thread(target=self._work, args=(client,), daemon=True)
            self._thread.start()

    def update(self, cell_folder: Path) -> None:
        """Looks for new rows in a cell's ``iterations.csv``."""
        if self._thread is None:
            return
        with self._lock:
            if str(cell_folder) in self._waiting:
                return
            self._waiting.add(str(cell_folder))
        self._queue.put((cell_folder, None))

    def finish(self, cell_folder: Path, failed: bool) -> None:
        """Gives a cell's tracker the last rows, and ends it."""
        if self._thread is not None:
            self._queue.put((cell_folder, "failed" if failed else "finished"))

    def complete(self, cell_folder: Path, record: RunRecord) -> None:
        """Feeds a finished cell, unless the client has all of it."""
        if self._client is not None and not self._client.has_all_of(record):
            self.finish(cell_folder, failed=False)

    def wait(self, seconds: float) -> bool:
        """Waits until the thread has done all earlier tasks; returns False after the timeout."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def close(self) -> str | None:
        """Ends the open cells as interrupted, and waits until everything is written.

        Returns:
            A command for the user to run, None where there is none.
        """
        if self._thread is None or self._client is None:
            return None
        thread, self._thread = self._thread, None
        self._queue.put(None)
        thread.join(CLOSE_TIMEOUT)
        if thread.is_alive():
            say(f"not everything was written within {CLOSE_TIMEOUT:.0f} s; --resume completes it")
        return self._client.close()

    # -- in the thread ----------------------------------------------------------------------------

    def _work(self, client: Wandb) -> None:
        while (task := self._queue.get()) is not None:
            if isinstance(task, threading.Event):
                task.set()
                continue
            folder, status = task
            if status is None:
                with self._lock:
                    self._waiting.discard(str(folder))
            self._follow(client, folder, status)
            self.cpu_seconds = time.thread_time()
        for cell in list(self._cells.values()):
            self._follow(client, cell.folder, "interrupted")

    def _follow(self, client: Wandb, folder: Path, status: Status | None) -> None:
        """Feeds a cell's new rows, and ends its tracker if the cell has a status."""
        while client.works:
            cell = self._cells.setdefault(str(folder), _FollowedCell(folder))
            try:
                try:
                    self.rows += cell.feed(client)
                except _CellError as error:
                    if str(folder) not in self._complained:
                        self._complained.add(str(folder))
                        say(f"{folder}: {error}")
                if status is not None:
                    if cell.tracker is not None:
                        cell.tracker.end(status)
                    del self._cells[str(folder)]
                return
            except Exception as error:
                self._cells = {key: _FollowedCell(one.folder) for key, one in self._cells.items()}
                client.degrade(error)


class _CellError(Exception):
    """A fault of a cell's files, and not of the client."""


class _FollowedCell:
    """A cell, its tracker once it has begun, and the rows that the tracker lacks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tracker: Tracker | None = None
        self._follower = Follower(folder)

    def feed(self, client: Wandb) -> int:
        """Gives the tracker the new rows, if ``run.json`` exists; returns how many there are."""
        if self.tracker is None:
            record = self._record()
            if record is None:
                return 0
            tracker = client.tracker()
            tracker.begin(self.folder, record, 0)
            self.tracker = tracker
        rows = self._new_rows()
        if rows:
            self.tracker.rows(rows)
        return len(rows)

    def _record(self) -> RunRecord | None:
        try:
            record = RunRecord.read(self.folder)
        except (OSError, ValueError) as error:
            raise _CellError(error) from error
        if record is not None and not record.run_id:
            raise _CellError(f"{RUN_FILE} lacks run_id")
        return record

    def _new_rows(self) -> list[dict[str, float]]:
        try:
            rows = self._follower.new()
        except (OSError, ValueError) as error:
            raise _CellError(error) from error
        for row in rows:
            if missing := NEEDED - row.keys():
                raise _CellError(f"{ITERATIONS_FILE} lacks {', '.join(sorted(missing))}")
            if not row["iteration"].is_integer():
                raise _CellError(f"{ITERATIONS_FILE}: no iteration {row['iteration']}")
        return rows
