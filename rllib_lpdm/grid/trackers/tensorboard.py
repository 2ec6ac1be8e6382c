"""TensorBoard files of a cell, where its settings ask for them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from rllib_lpdm.grid.trackers.tracker import Status, Tracker
from rllib_lpdm.results.layout import TENSORBOARD
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.schema.columns import metric_name


class TensorBoard(Tracker):
    """Writes every column of ``iterations.csv`` as a scalar, with the iteration as its step.

    What it was told is on the disk: tensorboardX's SummaryWriter leaves it to a thread, with which
    it is lost when the process is killed.
    """

    def begin(self, folder: Path, record: RunRecord, done: int) -> None:
        """Opens a file, by which TensorBoard forgets later rows that an earlier process wrote."""
        (folder / TENSORBOARD).mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / TENSORBOARD / "events"), f".{done:08d}")
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=done + 1, session_log=start))

    def rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        for row in rows:
            values = [
                Summary.Value(tag=metric_name(column), simple_value=value)
                for column, value in row.items()
            ]
            event = Event(wall_time=time.time(), step=int(row["iteration"]))
            event.summary.value.extend(values)
            self._writer.write_event(event)
        self._writer.flush()

    def end(self, status: Status) -> None:
        self._writer.close()
