"""TensorBoard files of a cell, where its settings ask for them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from rllib_lpdm.experiment.wandb import metric_name

FOLDER = "tensorboard"


class TensorBoardLog:
    """Writes every column of ``iterations.csv`` as a scalar, with the iteration as its step.

    What was appended is on the disk: tensorboardX's SummaryWriter leaves it to a thread, with
    which it is lost when the process is killed.

    Args:
        folder: the cell's folder.
        done: iterations already in the checkpoint the run continues from; TensorBoard forgets
            later ones that an earlier process wrote.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        (folder / FOLDER).mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / FOLDER / "events"), f".{done:08d}")
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=done + 1, session_log=start))

    def append(self, rows: Sequence[Mapping[str, float]]) -> None:
        for row in rows:
            values = [
                Summary.Value(tag=metric_name(column), simple_value=value)
                for column, value in row.items()
            ]
            event = Event(wall_time=time.time(), step=int(row["iteration"]))
            event.summary.value.extend(values)
            self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
