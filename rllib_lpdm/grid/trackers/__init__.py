"""Trackers, which show a cell's rows elsewhere; the results folder is complete without them.

Two places feed trackers:

* A cell's own process feeds the trackers of :data:`TRACKERS` with each report's rows.
* One thread of the driver feeds W&B from the files of all cells, which share one client:
  :class:`~rllib_lpdm.grid.trackers.follower.CellFollower`. No cell waits for it.
"""

import abc
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from rllib_lpdm.results.layout import TENSORBOARD
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.schema.cell_settings import RunSettings
from rllib_lpdm.schema.columns import metric_name

Status = Literal["finished", "failed", "interrupted"]


class Tracker(abc.ABC):
    """Shows one cell's rows somewhere else; every cell has one for itself.

    The cell's files are the truth. The caller can feed a new tracker from them again.
    """

    @abc.abstractmethod
    def begin(self, folder: Path, record: RunRecord, done: int) -> None:
        """Begins or continues the cell.

        Args:
            folder: the cell's folder, with ``run.json`` and ``iterations.csv``.
            record: the content of ``run.json``.
            done: iterations before the checkpoint from which the cell continues; their rows do not
                come again. An earlier process may have shown later rows, which do come again.
        """

    @abc.abstractmethod
    def rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Shows some rows of ``iterations.csv``, by column, in their order.

        The driver begins again at the first row after a process has cut the file back.
        """

    @abc.abstractmethod
    def end(self, status: Status) -> None:
        """Ends the tracker; ``interrupted`` means that the cell may continue later."""


class TensorBoard(Tracker):
    """Writes every column of ``iterations.csv`` as a scalar, with the iteration as its step.

    Rows are on the disk when :meth:`rows` returns. The thread of tensorboardX's SummaryWriter
    would lose them when the process is killed.
    """

    def begin(self, folder: Path, record: RunRecord, done: int) -> None:
        """Opens a file that makes TensorBoard forget later rows of an earlier process."""
        from tensorboardX.event_file_writer import EventsWriter  # slow, and few cells need it
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        (folder / TENSORBOARD).mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / TENSORBOARD / "events"), f".{done:08d}")
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=done + 1, session_log=start))

    def rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        from tensorboardX.proto.event_pb2 import Event

        for row in rows:
            event = Event(wall_time=time.time(), step=int(row["iteration"]))
            for column, value in row.items():
                event.summary.value.add(tag=metric_name(column), simple_value=value)
            self._writer.write_event(event)
        self._writer.flush()

    def end(self, status: Status) -> None:
        self._writer.close()


TRACKERS: dict[str, Callable[[RunSettings], Tracker | None]] = {
    "tensorboard": lambda settings: TensorBoard() if settings.tensorboard else None,
}
"""Makers of a cell's trackers by name; a maker returns None where the settings want no tracker.

:meta hide-value:
"""


def trackers_of(settings: RunSettings) -> list[Tracker]:
    """Returns the trackers that a cell's process feeds, not yet begun."""
    return [tracker for make in TRACKERS.values() if (tracker := make(settings)) is not None]
