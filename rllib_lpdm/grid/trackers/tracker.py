"""What every tracker is: something that is told of one cell from its beginning to its end."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rllib_lpdm.results.record import RunRecord

Status = Literal["finished", "failed", "interrupted"]


class Tracker(abc.ABC):
    """Shows one cell's rows somewhere else; every cell has its own.

    It is fed either in the cell's process with what the cell has just done, or in the driver with
    what the cell's files hold: see :mod:`rllib_lpdm.grid.trackers`. The files are the truth,
    and what a tracker shows can be made from them again.
    """

    @abc.abstractmethod
    def begin(self, folder: Path, record: RunRecord, done: int) -> None:
        """The cell begins or goes on.

        Args:
            folder: the cell's, where ``run.json`` and ``iterations.csv`` are.
            record: what ``run.json`` says.
            done: iterations that no row will come of any more: those of the checkpoint that the
                cell goes on from. An earlier process may have shown later ones, which come again.
        """

    @abc.abstractmethod
    def rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Some rows of ``iterations.csv``, by column, in their order.

        The driver's follower begins again at the first one where the file was cut back.
        """

    @abc.abstractmethod
    def end(self, status: Status) -> None:
        """Nothing more comes; ``interrupted`` where the cell has not ended and may go on."""
