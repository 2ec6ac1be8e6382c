"""A cell ends the same however often its process was lost on the way."""

import functools
import json
import shutil

import numpy as np
import pytest

from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.grid.cell import CellRun, new_record
from rllib_lpdm.grid.run import run_experiment
from rllib_lpdm.results.checkpoints import newest_checkpoint
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import read_run, write, write_run

pytestmark = pytest.mark.usefixtures("ray_session")
SETTINGS = {
    "iterations": 5,
    "iterations_per_report": 1,
    "checkpoint_interval": 2,
    "hidden_sizes": [8, 8],
    "return_normalization": "running",
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return load_experiment(write(folder, "small.yaml", in_process=True, settings=SETTINGS))


@pytest.fixture(scope="module")
def straight(experiment, tmp_path_factory):
    """Curves of the cell when nothing interrupts it."""
    output = tmp_path_factory.mktemp("straight")
    assert not run_experiment(experiment, output).failed
    return curves(output)


def curves(output):
    (cell,) = read_results(output / "small").cells
    return {name: list(column) for name, column in cell.columns.items() if name != "seconds"}


def cell_folder(experiment, output):
    return output / "small" / experiment.cells()[0].name


def interrupt(experiment, output, reports, cell=0):
    """Leaves the folder of a cell whose process was lost after some reports."""
    lost = experiment.cells()[cell]
    run = CellRun(lost, output / "small" / lost.name, "a command")
    for _ in range(reports):
        run.step()
    run.close()


@pytest.mark.parametrize("reports", [0, 1, 3, 4])
def test_a_lost_cell_continues_to_the_curve_it_would_have_had(
    experiment, straight, tmp_path, reports
):
    interrupt(experiment, tmp_path, reports)
    outcome = run_experiment(experiment, tmp_path, resume=True)
    assert outcome.finished == [experiment.cells()[0].name]
    assert curves(tmp_path) == straight


def test_checkpoints_are_made_every_so_many_reports_and_at_the_end(experiment, tmp_path):
    folder = cell_folder(experiment, tmp_path)
    run = CellRun(experiment.cells()[0], folder, "a command")
    newest = []
    while not run.finished:
        run.step()
        newest.append((newest_checkpoint(folder) or (None, None))[1])
    run.close()
    assert newest == [None, 2, 2, 4, 5]


def test_a_cell_lost_between_its_last_checkpoint_and_its_record_is_finished_on_resuming(
    experiment, straight, tmp_path
):
    interrupt(experiment, tmp_path, 5)
    folder = cell_folder(experiment, tmp_path)
    write_run(folder, read_run(folder) | {"status": "running", "finished": None})
    outcome = run_experiment(experiment, tmp_path, resume=True)
    assert outcome.failed == {}
    assert curves(tmp_path) == straight


def test_resuming_leaves_a_finished_cell_alone(experiment, tmp_path):
    interrupt(experiment, tmp_path, 5)
    run_file = cell_folder(experiment, tmp_path) / "run.json"
    before = run_file.read_bytes()
    assert not run_experiment(experiment, tmp_path, resume=True).failed
    assert run_file.read_bytes() == before


def test_a_cell_that_failed_is_tried_again_and_loses_its_error(experiment, tmp_path):
    interrupt(experiment, tmp_path, 2)
    folder = cell_folder(experiment, tmp_path)
    started = json.loads((folder / "run.json").read_text())["started"]
    write_run(folder, read_run(folder) | {"status": "failed", "error": "the disk was full"})
    assert not run_experiment(experiment, tmp_path, resume=True).failed
    run = read_run(folder)
    assert (run["status"], run["started"]) == ("finished", started)
    assert "error" not in run


def test_a_checkpoint_without_its_rows_fails_the_cell_with_the_file_named(experiment, tmp_path):
    interrupt(experiment, tmp_path, 4)
    folder = cell_folder(experiment, tmp_path)
    (folder / "iterations.csv").unlink()
    with pytest.raises(ValueError, match=r"iterations\.csv"):
        CellRun(experiment.cells()[0], folder, "a command")
    assert read_run(folder)["status"] == "failed"
    assert "iterations.csv" in read_run(folder)["error"]


def test_a_new_record_keeps_what_the_old_one_says_of_checkpoints(experiment):
    """Behind a URL, what it does not name is not fetched, and deleted in the end."""
    cell = experiment.cells()[0]
    before = new_record(cell, None, "a command", "earlier")
    before = before.updated(checkpoints=("iteration_00000004",), score=21.0)
    record = new_record(cell, before, "a command", "this one")
    assert record.checkpoints == ("iteration_00000004",)
    assert (record.score, record.run_id) == (21.0, before.run_id)


def test_a_changed_setting_is_refused_also_where_the_record_lags_behind_its_checkpoint(
    experiment, tmp_path
):
    interrupt(experiment, tmp_path, 2)
    folder = cell_folder(experiment, tmp_path)
    write_run(folder, read_run(folder) | {"checkpoints": []})
    changed = load_experiment(experiment.source, ["settings.lr=0.05"])
    with pytest.raises(UserError, match=r"lr was 0\.0005, is 0\.05"):
        run_experiment(changed, tmp_path, resume=True)


def test_overwrite_deletes_nothing_where_ray_cannot_start(experiment, tmp_path, monkeypatch):
    interrupt(experiment, tmp_path, 2)
    before = sorted(tmp_path.rglob("*"))

    def refuse(*arguments, **options):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(UserError, match="nobody answers"):
        run_experiment(experiment, tmp_path, overwrite=True)
    assert set(before) <= set(tmp_path.rglob("*"))


def test_settings_of_another_algorithm_do_not_keep_a_cell_from_being_resumed(tmp_path):
    def grid(clip_param):
        settings = SETTINGS | {"clip_param": clip_param}
        file = write(
            tmp_path, "small.yaml", algorithms=["reinforce"], in_process=True, settings=settings
        )
        return load_experiment(file)

    before = grid(0.2)
    interrupt(before, tmp_path, 2)
    folder = cell_folder(before, tmp_path)
    run = read_run(folder)
    assert "clip_param" not in run["settings"]
    write_run(folder, run | {"settings": run["settings"] | {"clip_param": 0.2}})  # as it once was
    assert not run_experiment(grid(0.3), tmp_path, resume=True).failed


# -- more iterations than before ------------------------------------------------------------------


def test_a_finished_run_is_extended_to_what_a_longer_one_would_have_been(
    experiment, straight, tmp_path
):
    short = load_experiment(experiment.source, ["settings.iterations=3"])
    assert not run_experiment(short, tmp_path).failed
    folder = cell_folder(experiment, tmp_path)
    began = read_run(folder)
    outcome = run_experiment(experiment, tmp_path, resume=True)
    assert outcome.finished == [folder.name]
    assert curves(tmp_path) == straight
    run = read_run(folder)
    assert (run["run_id"], run["settings"]["iterations"]) == (began["run_id"], 5)
    run_experiment(experiment, tmp_path / "whole")
    ours, theirs = (
        np.load(newest_checkpoint(cell_folder(experiment, output))[0] / "weights.npz")
        for output in (tmp_path, tmp_path / "whole")
    )
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_fewer_iterations_than_a_run_has_are_refused(experiment, tmp_path):
    interrupt(experiment, tmp_path, 5)
    short = load_experiment(experiment.source, ["settings.iterations=3"])
    with pytest.raises(UserError, match="iterations was 5, is 3"):
        run_experiment(short, tmp_path, resume=True)


def test_fewer_iterations_than_were_planned_are_enough_where_no_more_are_done(
    experiment, straight, tmp_path
):
    interrupt(experiment, tmp_path, 2)
    short = load_experiment(experiment.source, ["settings.iterations=3"])
    assert not run_experiment(short, tmp_path, resume=True).failed
    assert curves(tmp_path) == {name: column[:3] for name, column in straight.items()}


# -- cells that were damaged or lost files --------------------------------------------------------


@pytest.fixture(scope="module")
def two(experiment):
    """The same experiment with a second seed."""
    return load_experiment(experiment.source, ["seeds=2"])


def edit(**entries):
    return lambda folder: write_run(folder, read_run(folder) | entries)


def no_number(folder, column=3):
    text = (folder / "iterations.csv").read_text()
    first = text.splitlines()[1].split(",")[column]
    (folder / "iterations.csv").write_text(text.replace(first, "many", 1))


DAMAGES = [
    (edit(settings=None), "run.json", "settings: "),
    (edit(settings={"lr": float("nan")}), "run.json", "settings.lr: "),
    (edit(settings={"iterations": "x"}, status="finished"), "run.json", "settings.iterations"),
    (edit(checkpoints=5), "run.json", "checkpoints: "),
    (lambda folder: (folder / "run.json").write_text('{"cell": '), "run.json", "damaged"),
    (no_number, "iterations.csv", "'many'"),
    (functools.partial(no_number, column=-1), "iterations.csv", "'many'"),
    (lambda folder: (folder / "iterations.csv").unlink(), "iterations.csv", "has lost"),
]


def test_every_damaged_cell_is_named_with_its_file_and_the_others_are_trained(experiment, tmp_path):
    grid = load_experiment(experiment.source, [f"seeds={len(DAMAGES) + 1}"])
    *damaged, sound = [tmp_path / "small" / cell.name for cell in grid.cells()]
    for number, (damage, _, _) in enumerate(DAMAGES):
        interrupt(grid, tmp_path, 2, number)
        damage(damaged[number])
    outcome = run_experiment(grid, tmp_path, resume=True)
    assert outcome.finished == [sound.name]
    for folder, (_, file, place) in zip(damaged, DAMAGES, strict=True):
        reason = outcome.failed[folder.name]
        assert str(folder) in reason
        assert file in reason
        assert place in reason
        assert "delete the" in reason


def test_a_folder_that_is_no_checkpoint_disturbs_nothing(experiment, straight, tmp_path):
    interrupt(experiment, tmp_path, 2)
    (cell_folder(experiment, tmp_path) / "checkpoints" / "iteration_x").mkdir()
    assert not run_experiment(experiment, tmp_path, resume=True).failed
    assert curves(tmp_path) == straight


def test_a_finished_cell_that_lost_its_checkpoints_is_named_and_trained_again(
    experiment, straight, tmp_path, capsys
):
    interrupt(experiment, tmp_path, 5)
    folder = cell_folder(experiment, tmp_path)
    shutil.rmtree(folder / "checkpoints")
    outcome = run_experiment(experiment, tmp_path, resume=True)
    assert outcome.finished == [folder.name]
    assert f"{folder.name} was finished, but has lost its checkpoint; it begins again" in (
        capsys.readouterr().out
    )
    assert newest_checkpoint(folder)[1] == 5
    assert curves(tmp_path) == straight


def test_a_finished_cell_that_lost_its_rows_is_no_success(experiment, two, tmp_path, capsys):
    interrupt(experiment, tmp_path, 5)
    folder = cell_folder(experiment, tmp_path)
    (folder / "iterations.csv").unlink()
    with pytest.raises(UserError, match=r"has lost its iterations\.csv; delete the folder"):
        run_experiment(experiment, tmp_path, resume=True)
    outcome = run_experiment(two, tmp_path, resume=True)
    assert outcome.finished == [two.cells()[1].name]
    assert list(outcome.failed) == [folder.name]
    assert "0 of 2 cells are finished already, 0 go on from a checkpoint, 1 begin, 1 cannot" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("kind", ["cell", "report"])
def test_overwrite_deletes_nothing_where_a_link_stands_among_the_cells(two, tmp_path, kind):
    interrupt(two, tmp_path, 1)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(cell_folder(two, tmp_path), elsewhere)
    name = two.cells()[1].name if kind == "cell" else "report"
    (tmp_path / "small" / name).symlink_to(elsewhere)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"{name}.*which is a link"):
        run_experiment(two, tmp_path, overwrite=True)
    assert set(before) <= set(tmp_path.rglob("*"))
