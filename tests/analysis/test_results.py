"""Reading a results folder, and the table of its scores."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rllib_lpdm.analysis.results import CellResult, read_cells
from rllib_lpdm.analysis.tables import score_table

ROOT = Path(__file__).resolve().parents[2]


def write_cell(folder, name, csv, **run):
    (folder / name).mkdir()
    (folder / name / "run.json").write_text(json.dumps({"cell": name} | run))
    if csv is not None:
        (folder / name / "iterations.csv").write_text(csv)


def cell(method, returns, **place):
    run = {"environment": "CartPole-v1", "algorithm": "ppo", "variant": None, "method": method}
    return CellResult(run | place, {"episode_return": np.array(returns, dtype=np.float64)})


def words(table):
    return [line.split() for line in table.splitlines()]


def test_cells_come_back_with_their_run_and_columns(tmp_path):
    write_cell(tmp_path, "b", "iteration,episode_return\r\n1,0.5\r\n2,-1e-3\r\n", seed=4)
    write_cell(tmp_path, "a", "episode_return,kl\n7,0.25\n", seed=5)
    first, second = read_cells(tmp_path)
    assert [first.run["seed"], second.run["seed"]] == [5, 4]
    np.testing.assert_array_equal(first.returns, [7.0])
    np.testing.assert_array_equal(first.columns["kl"], [0.25])
    np.testing.assert_array_equal(second.returns, [0.5, -0.001])
    assert list(second.columns) == ["iteration", "episode_return"]


def test_an_empty_folder_has_no_cells(tmp_path):
    assert read_cells(tmp_path) == []


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=path.name):
            read_cells(path)


@pytest.mark.parametrize("csv", [None, "", "iteration,episode_return\n"])
def test_a_cell_without_rows_is_left_out(tmp_path, csv):
    write_cell(tmp_path, "new", csv)
    write_cell(tmp_path, "old", "iteration,episode_return\n1,2\n")
    assert [found.run["cell"] for found in read_cells(tmp_path)] == ["old"]


def test_a_row_that_a_kill_cut_off_is_left_out(tmp_path):
    write_cell(tmp_path, "killed", "iteration,episode_return\n1,2\n2,3\n3")
    (killed,) = read_cells(tmp_path)
    np.testing.assert_array_equal(killed.returns, [2.0, 3.0])


def test_other_files_and_folders_are_no_cells(tmp_path):
    (tmp_path / ".tune" / "trials").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("1")
    (tmp_path / "iterations.csv").write_text("episode_return\n1\n")
    assert read_cells(tmp_path) == []


def test_the_table_has_a_method_a_column_and_averages_the_seeds():
    table = score_table(
        [
            cell("lpdm", [0, 40]),  # smoothed: 0, 20
            cell("bp", [30, 0]),  # smoothed: 30, 15
            cell("lpdm", [20, 40]),  # smoothed: 20, 30
            cell("bp", [-10, 1], environment="Ant-v4"),
            cell("frozen", [1, 2], environment="Ant-v4"),
        ]
    )
    assert words(table) == [
        ["environment", "algorithm", "bp", "lpdm", "frozen"],
        ["CartPole-v1", "ppo", "30.0", "(15.0)", "25.0", "(25.0)", "-"],
        ["Ant-v4", "ppo", "-4.5", "(-4.5)", "-", "1.5", "(1.5)"],
    ]


def test_algorithms_and_variants_have_lines_of_their_own():
    table = score_table(
        [
            cell("lpdm", [1], variant="slow"),
            cell("lpdm", [2], variant="fast"),
            cell("lpdm", [3], algorithm="reinforce", variant="slow"),
        ]
    )
    assert words(table)[1:] == [
        ["CartPole-v1", "ppo", "slow", "1.0", "(1.0)"],
        ["CartPole-v1", "ppo", "fast", "2.0", "(2.0)"],
        ["CartPole-v1", "reinforce", "slow", "3.0", "(3.0)"],
    ]


def test_the_columns_of_a_table_stand_below_one_another():
    table = score_table([cell("bp", [1e5]), cell("lpdm", [1], environment="Pendulum-v1")])
    header, *lines = table.splitlines()
    assert [line[header.index("algorithm") :][:3] for line in lines] == ["ppo", "ppo"]
    assert lines[1][header.index("lpdm") :] == "1.0 (1.0)"


def test_no_cells_make_a_table_without_lines():
    assert len(score_table([]).splitlines()) == 1


def test_the_analysis_needs_no_ray_and_no_torch():
    modules = "results", "statistics", "tables"
    imports = "; ".join(f"import rllib_lpdm.analysis.{name}" for name in modules)
    code = f"import sys; {imports}; sys.exit(bool({{'ray', 'torch'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
