"""TensorBoard files of a cell, where its settings ask for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from rllib_lpdm.experiment.wandb import metric_name

FOLDER = "tensorboard"


class TensorBoardLog:
    """Writes every column of ``iterations.csv`` as a scalar, with the iteration as its step.

    Args:
        folder: the cell's folder.
        done: iterations already in the checkpoint the run continues from; TensorBoard forgets
            later ones that an earlier process wrote.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=done + 1 if done else None)

    def append(self, rows: Sequence[Mapping[str, float]]) -> None:
        for row in rows:
            for column, value in row.items():
                self._writer.add_scalar(metric_name(column), value, int(row["iteration"]))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
