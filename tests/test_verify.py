"""Cells trained again and compared with what was recorded of them."""

import shutil

import numpy as np
import pytest
from upath import UPath

from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.policies.rerun import score_distance
from rllib_lpdm.results.published import publish
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.verify import main
from tests.experiment.files import read_run, write_run

SETTINGS = {"iterations": 6, "iterations_per_report": 4, "hidden_sizes": (8,), "minibatch_size": 64}
CELLS = [
    Cell("CartPole-v1", algorithm, method, 3, CellSettings(**SETTINGS))
    for algorithm, method in (("ppo", "bp"), ("reinforce_baseline", "lpdm_guided"))
]
PPO, GUIDED = (cell.name for cell in CELLS)


@pytest.fixture(scope="module")
def made(tmp_path_factory, ray_session):
    """The folder of an experiment of two cells."""
    folder = tmp_path_factory.mktemp("results")
    for cell in CELLS:
        run = CellRun(cell, folder / cell.name, "a command")
        while not run.finished:
            run.step()
        run.close()
    return folder


@pytest.fixture
def experiment(made, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(made, tmp_path / "copied")


def change(cell, row, column, value):
    """Writes another text for a number; rows are counted from 1."""
    file = cell / "iterations.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lines[row][lines[0].index(column)] = value
    file.write_text("".join(",".join(line) + "\n" for line in lines))


def number(cell, row, column):
    lines = [line.split(",") for line in (cell / "iterations.csv").read_text().splitlines()]
    return float(lines[row][lines[0].index(column)])


def test_cells_that_are_as_they_were_are_identical_and_their_folders_untouched(experiment, capsys):
    before = {path: path.stat().st_mtime_ns for path in experiment.rglob("*")}
    assert main([str(experiment)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{PPO}: identical, 6 rows",
        f"{GUIDED}: identical, 6 rows",
        "2 cells: 2 identical",
    ]
    assert {path: path.stat().st_mtime_ns for path in experiment.rglob("*")} == before


def test_the_last_bit_of_a_number_is_found_by_row_and_column(experiment, capsys):
    cell = experiment / GUIDED
    true = number(cell, 5, "distance_loss_1")
    wrong = float(np.nextafter(true, np.inf))
    change(cell, 5, "distance_loss_1", repr(wrong))
    change(cell, 6, "env_steps", "1")  # later, so it is not the first
    change(cell, 2, "seconds", "1000.0")  # differs from run to run, so it is not compared
    assert main([str(experiment)]) == 1
    identical, first, same, end = capsys.readouterr().out.splitlines()
    assert identical == f"{PPO}: identical, 6 rows"
    assert first == f"{GUIDED}: row 5, distance_loss_1: {wrong} recorded, {true} now"
    assert same == "  versions and processor are the same"
    assert end == "2 cells: 1 identical, 1 not"


def test_so_many_rows_are_compared_as_are_asked_for(experiment, capsys):
    cell = experiment / PPO
    change(cell, 3, "kl", "7.5")
    assert main([str(cell), "--iterations", "2"]) == 0
    assert capsys.readouterr().out == f"{PPO}: identical, 2 rows\n"
    assert main([str(cell), "--iterations", "3"]) == 1
    assert "row 3, kl: 7.5 recorded, " in capsys.readouterr().out


def test_rows_of_a_cell_that_was_cut_off_are_compared_as_far_as_they_are_whole(experiment, capsys):
    file = experiment / PPO / "iterations.csv"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:4]) + b"4,123")
    assert main([str(experiment / PPO)]) == 0
    assert capsys.readouterr().out == f"{PPO}: identical, 3 rows\n"


def test_another_seed_is_not_identical_and_other_versions_are_named_but_excuse_nothing_large(
    experiment, capsys
):
    cell = experiment / PPO
    run = read_run(cell)
    write_run(cell, run | {"seed": 4, "versions": run["versions"] | {"torch": "1.0"}})
    assert main([str(cell)]) == 1
    first, changed, scores = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{PPO}: row 1, env_steps: ")
    assert changed.startswith("  torch '1.0' then, ")
    assert scores.endswith("more than the tolerance of 10%")


def test_where_versions_or_processor_differ_smoothed_scores_decide(experiment, capsys):
    cell = experiment / PPO
    change(cell, 1, "policy_loss", "0.5")
    assert main([str(cell)]) == 1
    capsys.readouterr()
    run = read_run(cell)
    write_run(cell, run | {"hardware": run["hardware"] | {"cpu": "Z80"}})
    assert main([str(cell)]) == 0
    first, changed, scores = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{PPO}: row 1, policy_loss: 0.5 recorded, ")
    assert changed.startswith("  cpu 'Z80' then, ")
    assert "over 6 rows" in scores
    assert "at most 0.00% of their range, within the tolerance" in scores


@pytest.mark.parametrize(
    ("recorded", "now", "distance"),
    [
        ([0, 2, 4], [0, 2, 4], 0),
        ([0, 2, 4], [0, 2, 7], 1 / 2),  # smoothed 0, 1, 2 and 0, 1, 3
        ([1, 1], [1, 2], np.inf),
        ([5] * 49 + [5, 55], [9] * 49 + [5, 55], 3.92),  # 49 lucky rows: 5, 6 and 8.92, 9.92
    ],
)
def test_scores_are_apart_by_a_share_of_the_recorded_range(recorded, now, distance):
    arrays = (np.array(returns, np.float64) for returns in (recorded, now))
    assert score_distance(*arrays) == pytest.approx(distance)


def test_a_url_is_verified_as_a_folder_is(experiment, capsys):
    bucket = UPath("memory://verified")
    for file in (experiment / PPO).glob("*.*"):
        (bucket / PPO).mkdir(parents=True, exist_ok=True)
        (bucket / PPO / file.name).write_bytes(file.read_bytes())
    for place in (bucket, bucket / PPO):
        assert main([str(place)]) == 0
        assert f"{PPO}: identical, 6 rows" in capsys.readouterr().out


def test_a_published_table_is_compared_after_the_same_rounding(experiment, tmp_path, capsys):
    publish(experiment, tmp_path / "published")
    assert main([str(tmp_path / "published")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{PPO}: identical, 6 rows", f"{GUIDED}: identical, 6 rows", said[-1]]
    for cell, column in ((GUIDED, "distance_error_1"), (PPO, "env_steps")):
        true = number(experiment / cell, 2, column)
        wrong = true + 1 if column == "env_steps" else true * (1 + 2**-11)  # seen in 12 bits
        change(experiment / cell, 2, column, str(wrong))
    publish(experiment, tmp_path / "other")
    assert main([str(tmp_path / "other")]) == 1
    said = capsys.readouterr().out
    assert f"{GUIDED}: row 2, distance_error_1: " in said
    assert f"{PPO}: row 2, env_steps: " in said
    next((tmp_path / "other" / "curves").iterdir()).unlink()
    assert main([str(tmp_path / "other")]) == 2
    assert "CartPole-v1.parquet is missing" in capsys.readouterr().err


def test_a_damaged_cell_is_named_and_the_others_are_verified(experiment, capsys):
    (experiment / PPO / "run.json").write_text("{")
    assert main([str(experiment)]) == 1
    output = capsys.readouterr()
    assert f"{GUIDED}: identical" in output.out
    assert output.out.endswith("2 cells: 1 identical, 1 not\n")
    assert f"{PPO}/run.json is damaged" in output.err


def test_what_cannot_be_trained_again_is_one_line(experiment, capsys):
    cell = experiment / PPO
    run = read_run(cell)
    for entries, said in (
        ({"environment": "CartPol-v1"}, "did you mean 'CartPole-v1'"),
        ({"settings": run["settings"] | {"init_hidden_from": "/nowhere"}}, "after 0 iterations"),
    ):
        write_run(cell, run | entries)
        assert main([str(cell)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    write_run(cell, run)
    (cell / "iterations.csv").write_text("")
    assert main([str(cell)]) == 1
    assert "has no rows yet" in capsys.readouterr().err
    (cell / "iterations.csv").unlink()
    assert main([str(cell)]) == 1
    assert "its rows cannot be read" in capsys.readouterr().err


def test_where_nothing_is_recorded_that_is_said(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no cells" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file")]) == 2
    assert "is not a folder" in capsys.readouterr().err
