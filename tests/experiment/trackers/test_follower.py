"""A follower gives a cell's tracker each row once, and a fault disturbs no other cell."""

import json
import time

import pytest

from rllib_lpdm.grid.trackers import Tracker
from rllib_lpdm.grid.trackers.follower import CellFollower
from rllib_lpdm.grid.trackers.wandb import say
from rllib_lpdm.results.record import RunRecord
from tests.experiment.files import write_run
from tests.experiment.trackers.cells import HEADER, append, cut_back, line, make_cell, rows_of


class Notes:
    """Takes the place of W&B's client, and keeps what its trackers are told, by the cell's name.

    Args:
        faults: so many trackers fail at their first row.
        second_chance: whether it works on after a fault.
    """

    def __init__(self, faults=0, second_chance=True):
        self.works = True
        self.faults, self.second_chance = faults, second_chance
        self.rows, self.ends, self.begun = {}, {}, []

    def tracker(self):
        return Note(self)

    def has_all_of(self, record):
        return record.cell in self.ends

    def degrade(self, error):
        say(f"failed ({error})")
        self.works = self.second_chance

    def close(self):
        return "read the notes"


class Note(Tracker):
    def __init__(self, notes):
        self.notes = notes

    def begin(self, folder, record, done):
        self.cell = record.cell
        self.notes.begun.append(self.cell)
        self.notes.rows[self.cell] = []

    def rows(self, rows):
        if self.notes.faults:
            self.notes.faults -= 1
            raise OSError("no paper")
        self.notes.rows[self.cell] += rows

    def end(self, status):
        self.notes.ends[self.cell] = status


def test_every_cell_has_a_tracker_that_gets_each_row_once_and_how_the_cell_ended(tmp_path):
    finished, failed, left = cells = [make_cell(tmp_path, number) for number in range(3)]
    notes = Notes()
    follower = CellFollower(notes)
    for first in (1, 26, 51):
        for cell in cells:
            append(cell, first, first + 24)
            follower.update(cell)
        assert follower.wait(20)
    append(finished, 76, 80)
    follower.finish(finished, failed=False)
    follower.finish(failed, failed=True)
    assert follower.close() == "read the notes"
    assert notes.rows == {cell.name: rows_of(cell) for cell in cells}
    assert notes.ends == {
        finished.name: "finished",
        failed.name: "failed",
        left.name: "interrupted",
    }
    assert follower.rows == 80 + 75 + 75
    assert follower.cpu_seconds > 0


def test_a_line_is_left_alone_until_it_is_whole(tmp_path):
    cell, notes = make_cell(tmp_path), Notes()
    follower = CellFollower(notes)
    for part in (HEADER[:9], HEADER[9:] + "\n" + line(1) + line(2)[:7], line(2)[7:-1], "\n"):
        with (cell / "iterations.csv").open("a") as file:
            file.write(part)
        follower.update(cell)
        assert follower.wait(20)
    append(cell, 3, 3)
    with (cell / "iterations.csv").open("a") as file:
        file.write(line(4)[:20])
    follower.finish(cell, failed=True)
    follower.close()
    cut_back(cell, 3)
    assert notes.rows[cell.name] == rows_of(cell)


@pytest.mark.parametrize("seen", [True, False], ids=["seen while short", "seen when longer"])
def test_rows_that_were_cut_back_and_have_grown_again_come_from_the_first_on(tmp_path, seen):
    cell, notes = make_cell(tmp_path), Notes()
    append(cell, 1, 50)
    follower = CellFollower(notes)
    follower.update(cell)
    assert follower.wait(20)
    before = rows_of(cell)
    cut_back(cell, 25)
    if seen:
        follower.update(cell)
        assert follower.wait(20)
        before += rows_of(cell)
    append(cell, 26, 75, seconds=0.123456)  # the time is all that differs in another life
    follower.finish(cell, failed=False)
    follower.close()
    assert notes.rows[cell.name] == before + rows_of(cell)[25 if seen else 0 :]


def test_a_damaged_cell_is_named_once_and_the_others_are_followed(tmp_path, capfd):
    damaged, unnamed, odd, whole = cells = [make_cell(tmp_path, number) for number in range(4)]
    for cell in cells:
        append(cell, 1, 2)
    (damaged / "run.json").write_text("{")
    record = json.loads((unnamed / "run.json").read_text())
    write_run(unnamed, {key: value for key, value in record.items() if key != "run_id"})
    notes = Notes()
    follower = CellFollower(notes)
    follower.update(odd)
    assert follower.wait(20)
    with (odd / "iterations.csv").open("a") as file:
        file.write("3,what\n")
    for cell in (damaged, damaged, unnamed, odd, tmp_path / "missing", whole):
        follower.update(cell)
        follower.finish(cell, failed=cell == odd)
    follower.close()
    assert [len(rows) for rows in notes.rows.values()] == [2, 2]
    assert notes.ends == {odd.name: "failed", whole.name: "finished"}
    first, second, third = capfd.readouterr().err.splitlines()
    assert first.startswith(f"W&B: {damaged}: ")
    assert second.endswith("run.json lacks run_id")
    assert str(odd) in third


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("env_steps,", "steps,", "iterations.csv lacks env_steps"),
        ("\n2,", "\nnan,", "iterations.csv: no iteration nan"),
    ],
)
def test_rows_that_say_nothing_are_no_fault_of_the_client(tmp_path, capfd, before, after, words):
    cell, notes = make_cell(tmp_path), Notes()
    append(cell, 1, 3)
    path = cell / "iterations.csv"
    path.write_text(path.read_text().replace(before, after))
    follower = CellFollower(notes)
    follower.finish(cell, failed=False)
    follower.close()
    assert notes.rows[cell.name] == []
    assert capfd.readouterr().err == f"W&B: {cell}: {words}\n"


@pytest.mark.parametrize("second_chance", [True, False])
def test_when_a_tracker_raises_all_open_cells_begin_anew_or_none_does(
    tmp_path, capfd, second_chance
):
    cells = [make_cell(tmp_path, number) for number in range(2)]
    notes = Notes(0, second_chance)
    follower = CellFollower(notes)
    for cell in cells:
        append(cell, 1, 5)
        follower.update(cell)
    assert follower.wait(20)
    notes.faults = 1
    append(cells[0], 6, 9)
    follower.finish(cells[0], failed=False)
    append(cells[1], 6, 7)
    follower.close()
    assert capfd.readouterr().err == "W&B: failed (no paper)\n"
    names = [cell.name for cell in cells]
    if second_chance:
        assert notes.begun == names * 2
        assert notes.rows == {cell.name: rows_of(cell) for cell in cells}
        assert notes.ends == dict(zip(names, ("finished", "interrupted"), strict=True))
    else:
        assert notes.begun == names
        assert not notes.ends


def test_nobody_waits_for_a_slow_tracker(tmp_path, monkeypatch, capfd):
    cell = make_cell(tmp_path)
    append(cell, 1, 5)
    monkeypatch.setattr(Note, "rows", lambda self, rows: time.sleep(0.5))
    monkeypatch.setattr("rllib_lpdm.grid.trackers.follower.CLOSE_TIMEOUT", 0.01)
    follower = CellFollower(Notes())
    started = time.perf_counter()
    for _ in range(1000):
        follower.update(cell)
    assert not follower.wait(0.01)
    follower.close()
    assert time.perf_counter() - started < 0.4
    assert "not everything was written within 0 s" in capfd.readouterr().err


def test_a_finished_cell_is_fed_on_resume_unless_the_client_has_all_of_it(tmp_path):
    known, unknown = (make_cell(tmp_path, number) for number in range(2))
    notes = Notes()
    notes.ends[known.name] = "finished"
    follower = CellFollower(notes)
    for cell in (known, unknown):
        append(cell, 1, 3)
        follower.complete(cell, RunRecord.read(cell))
    follower.close()
    assert notes.rows == {unknown.name: rows_of(unknown)}
    assert notes.ends[unknown.name] == "finished"


def test_without_a_client_nothing_is_followed(tmp_path):
    cell = make_cell(tmp_path)
    follower = CellFollower(None)
    follower.update(cell)
    follower.finish(cell, failed=False)
    follower.complete(cell, RunRecord.read(cell))
    assert follower.wait(0)
    assert follower.close() is None
    assert follower.rows == 0
