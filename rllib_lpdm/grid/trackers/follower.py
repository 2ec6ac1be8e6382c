"""The driver's trackers: one thread follows the files of all cells and feeds a tracker of each."""

import abc
import queue
import sys
import threading
import time
from pathlib import Path

from rllib_lpdm.grid.trackers.tracker import Status, Tracker
from rllib_lpdm.results.iterations import Follower
from rllib_lpdm.results.layout import ITERATIONS_FILE, RUN_FILE
from rllib_lpdm.results.record import RunRecord

NEEDED = {"iteration", "env_steps", "episode_return", "seconds"}  # columns
CLOSE_TIMEOUT = 300.0  # seconds that close() waits at most

# A cell's folder and how it has ended, or None where it has not; who waits; the end.
_Task = tuple[Path, Status | None] | threading.Event | None


class Service(abc.ABC):
    """What the trackers of all cells share, such as a client.

    Attributes:
        name: what its messages begin with.
        works: whether there is anything to feed; False once it has failed for good.
    """

    name: str
    works: bool

    @abc.abstractmethod
    def tracker(self) -> Tracker:
        """A tracker for one cell."""

    @abc.abstractmethod
    def has_all_of(self, record: RunRecord) -> bool:
        """Whether a tracker, here or in an earlier process, has seen a finished cell's end."""

    @abc.abstractmethod
    def degrade(self, error: Exception) -> None:
        """A tracker raised: goes on in a worse way or not at all. The open cells begin anew."""

    @abc.abstractmethod
    def close(self) -> str | None:
        """All cells have ended. Returns a command for the user to run, None where there is none."""

    def say(self, message: str) -> None:
        print(f"{self.name}: {message}", file=sys.stderr, flush=True)


class CellFollower:
    """Feeds the trackers of a service with the rows that cells write.

    Nothing here raises into the caller or makes it wait, but for :meth:`close`. A cell whose files
    cannot be read is named once.

    Args:
        service: None for no trackers and no thread.

    Attributes:
        rows: how many rows the trackers were given.
        cpu_seconds: what the thread has used of this process's time.
    """

    def __init__(self, service: Service | None) -> None:
        self.rows, self.cpu_seconds = 0, 0.0
        self._service = service
        self._cells: dict[str, _Cell] = {}
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._queue: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if service is not None:
            name = f"{service.name} follower"
            self._thread = threading.Thread(target=self._work, args=(service,), name=name)
            self._thread.daemon = True
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
        """The cell has ended: its tracker gets the last rows and how it ended."""
        if self._thread is not None:
            self._queue.put((cell_folder, "failed" if failed else "finished"))

    def complete(self, cell_folder: Path, record: RunRecord) -> None:
        """Feeds a finished cell, unless the service has all of it."""
        if self._service is not None and not self._service.has_all_of(record):
            self.finish(cell_folder, failed=False)

    def wait(self, seconds: float) -> bool:
        """Waits until what was asked so far is done; False where that takes longer."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def close(self) -> str | None:
        """Ends the cells that are still open as interrupted, and waits until all is written.

        Returns:
            What :meth:`Service.close` says.
        """
        if self._thread is None or self._service is None:
            return None
        thread, self._thread = self._thread, None
        self._queue.put(None)
        thread.join(CLOSE_TIMEOUT)
        if thread.is_alive():
            self._service.say(
                f"not everything was written within {CLOSE_TIMEOUT:.0f} s; --resume completes it"
            )
        return self._service.close()

    # -- in the thread ----------------------------------------------------------------------------

    def _work(self, service: Service) -> None:
        while (task := self._queue.get()) is not None:
            if isinstance(task, threading.Event):
                task.set()
                continue
            folder, status = task
            if status is None:
                with self._lock:
                    self._waiting.discard(str(folder))
            self._follow(service, folder, status)
            self.cpu_seconds = time.thread_time()
        for cell in list(self._cells.values()):
            self._follow(service, cell.folder, "interrupted")

    def _follow(self, service: Service, folder: Path, status: Status | None) -> None:
        """Feeds a cell's new rows and ends it if it is at an end, as well as the service can."""
        while service.works:
            cell = self._cells.setdefault(str(folder), _Cell(folder))
            try:
                try:
                    self._feed(service, cell)
                except _CellError as error:
                    self._say_once(service, cell, error)
                if status is not None:
                    if cell.tracker is not None:
                        cell.tracker.end(status)
                    del self._cells[str(folder)]
                return
            except Exception as error:
                self._cells = {key: _Cell(each.folder) for key, each in self._cells.items()}
                service.degrade(error)

    def _feed(self, service: Service, cell: "_Cell") -> None:
        """Gives a cell's tracker the rows that are new, if the cell has a record yet."""
        if cell.tracker is None:
            record = cell.record()
            if record is None:
                return
            tracker = service.tracker()
            tracker.begin(cell.folder, record, 0)
            cell.tracker = tracker
        rows = cell.new_rows()
        if rows:
            cell.tracker.rows(rows)
            self.rows += len(rows)

    def _say_once(self, service: Service, cell: "_Cell", error: Exception) -> None:
        if str(cell.folder) not in self._said:
            self._said.add(str(cell.folder))
            service.say(f"{cell.folder}: {error}")


class _CellError(Exception):
    """A cell's files cannot be read, which is no fault of the service."""


class _Cell:
    """A cell, its tracker if that has begun, and the rows that it has not been given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tracker: Tracker | None = None
        self._rows = Follower(folder)

    def record(self) -> RunRecord | None:
        """What ``run.json`` says; None where there is none yet."""
        try:
            record = RunRecord.read(self.folder)
        except (OSError, ValueError) as error:
            raise _CellError(error) from error
        if record is not None and not record.run_id:
            raise _CellError(f"{RUN_FILE} lacks run_id")
        return record

    def new_rows(self) -> list[dict[str, float]]:
        try:
            rows = self._rows.new()
            for row in rows:
                if missing := NEEDED - row.keys():
                    raise ValueError(f"{ITERATIONS_FILE} lacks {', '.join(sorted(missing))}")
                if not row["iteration"].is_integer():
                    raise ValueError(f"{ITERATIONS_FILE}: no iteration {row['iteration']}")
            return rows
        except (OSError, ValueError) as error:
            raise _CellError(error) from error
