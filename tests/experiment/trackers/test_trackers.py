"""A tracker of one's own is a class and an entry in a table."""

import csv
import json

import pytest

from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.grid.trackers import TRACKERS, Tracker, trackers_of
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell

SETTINGS = CellSettings(
    hidden_sizes=(4,), iterations=4, iterations_per_report=1, checkpoint_interval=2
)


class JsonLines(Tracker):
    """Writes ``rows.jsonl`` beside ``iterations.csv``, and how the cell has ended."""

    def begin(self, folder, record, done):
        self._path = folder / "rows.jsonl"
        kept = self._path.read_text().splitlines(keepends=True)[:done] if done else []
        self._path.write_text("".join(kept))
        self._ends = folder.parent / f"{record.cell}.ends"

    def rows(self, rows):
        with self._path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def end(self, status):
        with self._ends.open("a") as file:
            file.write(f"{status}\n")


@pytest.fixture(autouse=True)
def _entry(monkeypatch):
    monkeypatch.setitem(
        TRACKERS, "json_lines", lambda settings: JsonLines() if settings.iterations else None
    )


def test_a_tracker_is_there_where_its_entry_finds_it_wanted():
    assert [type(tracker) for tracker in trackers_of(SETTINGS)] == [JsonLines]
    with_board = SETTINGS.model_copy(update={"tensorboard": True, "iterations": None})
    assert [type(tracker).__name__ for tracker in trackers_of(with_board)] == ["TensorBoard"]


def test_a_tracker_sees_a_cells_rows_and_how_each_process_of_it_ended(tmp_path, ray_session):
    cell = Cell("CartPole-v1", "reinforce", "lpdm", 0, SETTINGS)
    folder = tmp_path / cell.name
    interrupted = CellRun(cell, folder, "a command")
    for _ in range(3):  # the last one is past the checkpoint
        interrupted.step()
    interrupted.close()
    failed = CellRun(cell, folder, "a command")
    failed.fail(ValueError("a fault"))
    failed.close()
    run = CellRun(cell, folder, "a command")
    while not run.finished:
        run.step()
    run.close()
    with (folder / "iterations.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    assert list(map(json.loads, (folder / "rows.jsonl").read_text().splitlines())) == rows
    ends = (tmp_path / f"{cell.name}.ends").read_text().split()
    assert ends == ["interrupted", "failed", "finished"]


def test_a_tracker_that_cannot_begin_is_the_cells_failure(tmp_path, ray_session, monkeypatch):
    monkeypatch.setitem(TRACKERS, "json_lines", lambda settings: Broken())
    cell = Cell("CartPole-v1", "reinforce", "lpdm", 0, SETTINGS)
    with pytest.raises(OSError, match="no server"):
        CellRun(cell, tmp_path / cell.name, "a command")
    record = json.loads((tmp_path / cell.name / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["error"].endswith("OSError: no server\n")


class Broken(JsonLines):
    def begin(self, folder, record, done):
        raise OSError("no server")
