"""TensorBoard shows every value of every row once, whatever became of the process that wrote it."""

import csv
import struct
from collections import Counter

import numpy as np
import pytest

from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.grid.trackers import TensorBoard
from rllib_lpdm.results.storage import results_folder
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.columns import COLUMNS, MATCHING, metric_name
from rllib_lpdm.schema.experiment import Cell

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def records(path):
    """The records of a TFRecord file: length, checksum, data, checksum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        assert len(data) >= 16 + length
        data = data[16 + length :]


def shown(folder):
    """What TensorBoard shows of a folder: (name, step) and every value that stands there.

    It reads the files in the order of their names; where a session starts at a step, it forgets
    what came before of that step and later ones.
    """
    values = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: path.name):
        for record in records(path):
            event = event_pb2.Event.FromString(record)
            if event.HasField("session_log"):
                assert event.session_log.status == event_pb2.SessionLog.START
                values = [value for value in values if value[1] < event.step]
            values += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return values


def of_rows(rows):
    """The same of the rows of iterations.csv; TensorBoard's values have single precision."""
    return Counter(
        (metric_name(column), int(row["iteration"]), float(np.float32(value)))
        for row in rows
        for column, value in row.items()
    )


def begun(folder, done=0):
    board = TensorBoard()
    board.begin(folder, {}, done)
    return board


def rows_of(folder):
    with (folder / "iterations.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rows(first, last, offset=0.0):
    return [
        {"iteration": i, "episode_return": i / 3 + offset, "distance_loss_1": 1e-30 * i}
        for i in range(first, last + 1)
    ]


def test_every_value_of_every_row_is_there_once(tmp_path):
    board = begun(tmp_path)
    board.rows(rows(1, 2))
    board.rows(rows(3, 3))
    board.end("finished")
    assert Counter(shown(tmp_path)) == of_rows(rows(1, 3))


def test_rows_can_be_read_while_the_file_is_open(tmp_path):
    board = begun(tmp_path)
    board.rows(rows(1, 2))
    assert Counter(shown(tmp_path)) == of_rows(rows(1, 2))
    board.end("finished")


@pytest.mark.parametrize("done", [0, 2, 4, 5])
def test_rows_past_the_checkpoint_are_replaced(tmp_path, done):
    """Also those of a process that had not saved a checkpoint yet."""
    lost = begun(tmp_path)
    lost.rows(rows(1, 5, offset=100.0))
    board = begun(tmp_path, done)
    board.rows(rows(done + 1, 6))
    board.end("finished")
    lost.end("interrupted")
    expected = [*rows(1, 5, offset=100.0)[:done], *rows(done + 1, 6)]
    assert Counter(shown(tmp_path)) == of_rows(expected)


CELL = Cell(
    "CartPole-v1",
    "ppo",
    "lpdm",
    0,
    CellSettings(
        hidden_sizes=(8, 8),
        iterations=6,
        iterations_per_report=1,
        checkpoint_interval=2,
        tensorboard=True,
    ),
)


@pytest.mark.parametrize(
    ("interruptions", "url"), [([], False), ([1], True), ([3], False), ([3, 1, 2], True)]
)
def test_a_cells_rows_are_shown_once_however_often_it_was_lost(
    tmp_path, ray_session, interruptions, url
):
    folder = results_folder(f"file://{tmp_path}" if url else tmp_path)
    lost = []
    for reports in interruptions:
        lost.append(CellRun(CELL, folder / CELL.name, "a command"))
        for _ in range(reports):
            lost[-1].step()
    run = CellRun(CELL, folder / CELL.name, "a command")
    while not run.finished:
        run.step()
    for each in (*lost, run):
        each.close()
    found = rows_of(tmp_path / CELL.name)
    assert [row["iteration"] for row in found] == list("123456")
    assert (
        found[0].keys()
        == logged("all", MATCHING, "all but `bp` and `frozen`", "`ppo`") | VALUE_HEAD
    )
    assert Counter(shown(tmp_path / CELL.name)) == of_rows(found)


def test_there_are_no_files_where_the_settings_do_not_ask_for_them(tmp_path, ray_session):
    settings = CELL.settings.model_copy(update={"tensorboard": False})
    cell = Cell("CartPole-v1", "ppo", "lpdm", 0, settings)
    run = CellRun(cell, tmp_path / cell.name, "a command")
    run.step()
    run.close()
    assert not (tmp_path / cell.name / "tensorboard").exists()


VALUE_HEAD = {"value_loss", "grad_norm_policy_head", "grad_norm_value_head"}


def logged(*of):
    """The columns that some cells have by the documented table, of two hidden layers."""
    return {
        entry.name.format(layer=layer) for entry in COLUMNS if entry.of in of for layer in (1, 2)
    }
