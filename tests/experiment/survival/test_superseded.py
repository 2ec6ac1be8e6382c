"""A process that was believed lost comes back, and which checkpoints a cell keeps."""

from types import SimpleNamespace

import numpy as np
import pytest

from rllib_lpdm.grid.cell import CellRun, SupersededError
from rllib_lpdm.results.checkpoints import checkpoints, save_checkpoint
from rllib_lpdm.schema.loading import load_experiment
from tests.experiment.files import read_run, write
from tests.experiment.survival.runs import SETTINGS
from tests.experiment.traces import contents

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


@pytest.fixture
def small_cell(tmp_path):
    """A cell that is trained in this process, and its folder."""
    settings = SETTINGS | {"hidden_sizes": [8, 8], "checkpoint_interval": 3, "lr": 0.02}
    (cell,) = load_experiment(write(tmp_path, "one.yaml", settings=settings)).cells()
    return cell, tmp_path / "one" / cell.name


@pytest.mark.parametrize("reports", [0, 2, 3, 5])
def test_a_process_that_was_believed_lost_changes_nothing_when_it_comes_back(small_cell, reports):
    cell, folder = small_cell
    lost = CellRun(cell, folder, "a command")
    for _ in range(reports):
        lost.step()
    successor = CellRun(cell, folder, "a command")
    before = contents(folder)
    with pytest.raises(SupersededError):
        lost.step()
    lost.close()
    assert contents(folder) == before
    successor.step()
    successor.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_was_believed_lost_while_it_saved_does_not_disturb_its_successor(
    small_cell, monkeypatch, when
):
    cell, folder = small_cell
    lost = CellRun(cell, folder, "a command")
    lost.step()
    lost.step()

    def save_slowly(*arguments):
        monkeypatch.undo()
        if when == "after":
            save_checkpoint(*arguments)
        seen.successor = CellRun(cell, folder, "a command")
        for _ in range(6):
            seen.successor.step()
        seen.kept = set(checkpoints(folder))
        if when == "before":
            save_checkpoint(*arguments)

    seen = SimpleNamespace()
    monkeypatch.setattr("rllib_lpdm.grid.cell.save_checkpoint", save_slowly)
    with pytest.raises(SupersededError):
        lost.step()
    lost.close()
    assert seen.kept <= set(checkpoints(folder))
    seen.successor.step()
    seen.successor.close()
    assert read_run(folder)["failures"] == []


def test_a_cell_keeps_the_newest_checkpoint_and_the_best_of_all_it_made(small_cell):
    cell, folder = small_cell
    run = CellRun(cell, folder, "a command")
    made, best_was_older = [], False
    while not run.finished:
        run.step()
        kept = {int(path.name[-8:]) for path in folder.glob("checkpoints/*")}
        done = run.algo.iterations_done
        if done % 3 == 0 or run.finished:
            made.append(done)
        if made:
            lines = (folder / "iterations.csv").read_text().splitlines()
            column = lines[0].split(",").index("episode_return")
            returns = [float(line.split(",")[column]) for line in lines[1:]]
            scores = {k: np.mean(returns[max(0, k - 50) : k]) for k in made}
            best = max(made, key=scores.__getitem__)
            assert kept == {best, made[-1]}
            best_was_older |= best != made[-1]
    run.close()
    assert best_was_older
