"""Reading a results folder, whatever stands in it."""

import cProfile
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rllib_lpdm.analysis.cells import read_results
from tests.analysis.cells import record, write_cell, write_plan

ROOT = Path(__file__).resolve().parents[2]


def without(key):
    return {name: value for name, value in record().items() if name != key}


RUN_FAULTS = {
    b"": "run.json: ",
    b'{"cell": "a", ': "run.json: ",
    b"\xff\xfe{}": "run.json: ",
    b"[" * 100_000: "run.json: ",
    b"[1, 2]": "run.json: the file",
    b"null": "run.json: the file",
    json.dumps(without("cell")).encode(): "run.json: cell: ",
    json.dumps(without("method")).encode(): "run.json: method: ",
    json.dumps(record() | {"algorithm": 7}).encode(): "run.json: algorithm: ",
    json.dumps(record() | {"seed": "first"}).encode(): "run.json: seed: ",
    json.dumps(record() | {"seed": 1.5}).encode(): "run.json: seed: ",
    json.dumps(record() | {"settings": []}).encode(): "run.json: settings: ",
    json.dumps(record() | {"environment": ""}).encode(): "run.json: environment: ",
    json.dumps(record() | {"environment": "two\nlines"}).encode(): "run.json: environment: ",
}
CSV_FAULTS = {
    b"iteration,episode_return\n1,2\n2\n3,4\n": "Expected 2 columns, got 1: 2",
    b"iteration,episode_return\n1,2\n2,3,4\n": "Expected 2 columns, got 3: 2,3,4",
    b"iteration,episode_return\n1,2\n2,three\n3,4\n": "'three'",
    b"iteration,episode_return\n1,2\n2,\x1b[31m\n": "31m",
    b"iteration,episode_return\n1," + b"9z" * 50_000 + b"\n": "9z9z",
    b'iteration,episode_return\n1,2\n2,"3\n4,5\n': "cannot be read",
    b"iteration,episode_return\n1,2\n\0\0\0\0\n3,4\n": "cannot be read",
    b"iteration,episode_return\n1,nan\n2,-inf\n3,\n": "no return is a finite number",
    b"iteration,seconds\n1,2\n": "no column episode_return",
    b"episode_return,episode_return\n1,2\n": "two of its columns have one name",
    b"\xff,episode_return\n1,2\n": "utf-8",
    b"iteration\r,episode_return\n1,2\n": "cannot be read",
    b"x" * 200_000 + b",episode_return\n1,2\n": "cannot be read",
    b"episode_return\n1\nepisode_return\n1\n": "'episode_return'",
}
SECRET = b"root:$6$planted,19000\ndaemon:planted,1\n"
FAULTS = [("run.json", *fault) for fault in RUN_FAULTS.items()] + [
    ("iterations.csv", *fault) for fault in CSV_FAULTS.items()
]


def test_cells_come_back_with_their_run_and_columns(tmp_path):
    (write_cell(tmp_path, seed=4) / "iterations.csv").write_text(
        "iteration,episode_return\r\n1,0.5\r\n2,-1e-3\r\n"
    )
    write_cell(tmp_path, method="lpdm", seed=5, git_commit="f00", unknown=[1])
    first, second = read_results(tmp_path).cells
    assert (first.run.seed, second.run.seed) == (4, 5)
    assert (second.run.git_commit, second.run.status) == ("f00", "finished")
    assert list(first.columns) == ["iteration", "episode_return"]
    np.testing.assert_array_equal(first.returns, [0.5, -0.001])
    np.testing.assert_array_equal(second.columns["iteration"], [1, 2])


@pytest.mark.parametrize(
    ("returns", "taken", "rows"),
    [
        ("5 nan 7", [5, 5, 7], "row 2 is"),
        ("5 nan inf 7 -inf", [5, 5, 5, 7, 7], "row 2 and of 2 more is"),
        ("nan nan 7", [7, 7, 7], "row 1 and of 1 more is"),
    ],
)
def test_a_return_that_is_no_number_is_taken_as_the_one_before_and_said(
    tmp_path, returns, taken, rows
):
    lines = [f"{i},{value}\n" for i, value in enumerate(returns.split(), 1)]
    (write_cell(tmp_path) / "iterations.csv").write_text(
        "".join(["iteration,episode_return\n", *lines])
    )
    write_plan(tmp_path)
    results = read_results(tmp_path)
    assert list(results.cells[0].returns) == taken
    (note,) = results.notes
    assert f"the return of {rows} not a finite number" in note


def test_only_wanted_columns_are_read_and_the_returns(tmp_path):
    text = "iteration,kl,episode_return,seconds\n1,what,3,4\n"
    (write_cell(tmp_path) / "iterations.csv").write_text(text)
    (found,) = read_results(tmp_path, {"seconds"}.__contains__).cells
    assert {name: list(column) for name, column in found.columns.items()} == {
        "episode_return": [3],
        "seconds": [4],
    }


def test_cells_come_in_the_papers_order_and_what_it_has_not_comes_last(tmp_path):
    wanted = [
        {"environment": "CartPole-v1", "algorithm": "reinforce", "method": "bp", "seed": 2},
        {"environment": "CartPole-v1", "algorithm": "reinforce", "method": "bp", "seed": 10},
        {"environment": "CartPole-v1", "algorithm": "reinforce", "method": "lpdm"},
        {"environment": "CartPole-v1", "algorithm": "reinforce", "method": "lpdm_guided"},
        {"environment": "CartPole-v1", "algorithm": "reinforce", "method": "frozen"},
        {"environment": "CartPole-v1", "algorithm": "ppo", "method": "bp", "variant": "reference"},
        {"environment": "CartPole-v1", "algorithm": "ppo", "method": "bp", "variant": "fast"},
        {"environment": "Acrobot-v1", "algorithm": "ppo"},
        {"environment": "Ant-v4", "algorithm": "ppo"},
        {"environment": "Breakout", "algorithm": "ppo"},
        {"environment": "Zaxxon", "algorithm": "ppo"},
    ]
    names = [write_cell(tmp_path, **run).name for run in wanted[::-1]][::-1]
    assert [found.run.cell for found in read_results(tmp_path).cells] == names


def test_an_empty_folder_has_no_cells_and_nothing_to_say(tmp_path):
    results = read_results(tmp_path)
    assert (results.cells, results.missing, results.notes) == ([], [], [])


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=path.name):
            read_results(path)


def test_other_files_and_folders_are_no_cells(tmp_path):
    (tmp_path / ".tune" / "trials").mkdir(parents=True)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "notes.txt").write_text("1")
    (tmp_path / "iterations.csv").write_text("episode_return\n1\n")
    shutil.copytree(write_cell(tmp_path), tmp_path / ".hidden")
    write_plan(tmp_path)
    results = read_results(tmp_path)
    assert [found.run.cell for found in results.cells] == [record()["cell"]]
    assert results.notes == []


@pytest.mark.parametrize(
    "csv", [None, "", "iteration,episode_return\n", "\n", "iteration,episode_return\n\n\n"]
)
def test_a_cell_without_rows_is_missing_and_no_fault(tmp_path, csv):
    begun = write_cell(tmp_path, method="lpdm", status="running")
    (begun / "iterations.csv").unlink()
    if csv is not None:
        (begun / "iterations.csv").write_text(csv)
    write_cell(tmp_path)
    write_plan(tmp_path)
    results = read_results(tmp_path)
    assert [found.run.method for found in results.cells] == ["bp"]
    assert (results.missing, results.notes) == ([begun.name], [])


def test_a_row_that_a_kill_cut_off_is_left_out_and_said(tmp_path):
    path = write_cell(tmp_path, [2.0, 3.0])
    write_plan(tmp_path)
    with (path / "iterations.csv").open("a") as file:
        file.write("3,4")
    results = read_results(tmp_path)
    np.testing.assert_array_equal(results.cells[0].returns, [2.0, 3.0])
    (note,) = results.notes
    assert note.startswith(f"{path.name}: ")
    assert "half written" in note


def test_a_folder_with_iterations_but_no_run_file_is_named(tmp_path):
    path = write_cell(tmp_path)
    (path / "run.json").unlink()
    assert read_results(tmp_path).cells == []
    assert read_results(tmp_path).notes == [
        f"{path.name}: has iterations but no run.json; left out"
    ]


@pytest.mark.parametrize(("file", "content", "words"), FAULTS)
def test_a_damaged_cell_is_named_in_one_line_and_the_others_are_reported(
    tmp_path, file, content, words
):
    bad, good = write_cell(tmp_path), write_cell(tmp_path, method="lpdm")
    write_plan(tmp_path)
    (bad / file).write_bytes(content)
    results = read_results(tmp_path)
    assert [found.run.cell for found in results.cells] == [good.name]
    assert results.missing == [bad.name]
    (note,) = results.notes
    assert note.startswith(f"{bad.name}: ")
    assert words in note
    assert note.endswith("left out")
    assert note.isprintable()
    assert len(note) < 400


@pytest.mark.parametrize("copy", ["CartPole", "a copy", "z"])
def test_of_a_cell_and_its_copy_the_one_with_its_own_name_is_reported(tmp_path, copy):
    path = write_cell(tmp_path, [1.0])
    shutil.copytree(path, tmp_path / copy)
    (tmp_path / copy / "iterations.csv").write_text("episode_return\n5\n")
    write_plan(tmp_path)
    results = read_results(tmp_path)
    assert [list(found.returns) for found in results.cells] == [[1.0]]
    (note,) = results.notes
    assert note.startswith(f"{copy}: ")
    assert path.name in note


def test_planned_cells_that_are_not_there_are_missing(tmp_path):
    write_cell(tmp_path)
    write_plan(tmp_path, "c", "b")
    results = read_results(tmp_path)
    assert (results.missing, results.notes) == (["c", "b"], [])


@pytest.mark.parametrize("plan", [None, b"", b"{}", b'{"cells": 3}', b"[" * 100_000, b"\xff"])
def test_without_a_plan_the_cells_that_are_there_are_crossed_and_that_is_said(tmp_path, plan):
    for run in ({"seed": 0}, {"seed": 1, "method": "lpdm"}, {"seed": 1, "environment": "Ant-v4"}):
        write_cell(tmp_path, **run)
    if plan is not None:
        (tmp_path / ".experiment.json").write_bytes(plan)
    results = read_results(tmp_path)
    assert set(results.missing) == {
        "CartPole-v1_ppo_bp_s1",
        "CartPole-v1_ppo_lpdm_s0",
        "Ant-v4_ppo_bp_s0",
        "Ant-v4_ppo_lpdm_s0",
        "Ant-v4_ppo_lpdm_s1",
    }
    (note,) = results.notes
    assert "planned is not known" in note


def test_reading_cells_that_have_nothing_in_common_grows_with_their_number_alone(tmp_path):
    def calls(count):
        folder = tmp_path / str(count)
        for n in range(count):
            write_cell(folder, environment=f"e{n}", algorithm=f"a{n}", method=f"m{n}", seed=n)
        with cProfile.Profile() as profile:
            results = read_results(folder)
        assert len(results.cells) == count
        assert results.missing == []
        (note,) = results.notes
        assert "planned is not known" in note
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(24) < 3 * calls(8)


EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4
)


@settings(
    max_examples=80,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(file=st.sampled_from(["run.json", "iterations.csv"]), edits=EDITS)
def test_whatever_happened_to_a_file_the_others_are_read(tmp_path, file, edits):
    shutil.rmtree(tmp_path)
    bad, good = write_cell(tmp_path), write_cell(tmp_path, environment="Ant-v4")
    content = (bad / file).read_bytes()
    for where, length, inserted in edits:
        start = int(where * len(content))
        content = content[:start] + inserted + content[start + length :]
    (bad / file).write_bytes(content)
    results = read_results(tmp_path)
    assert good.name in [found.run.cell for found in results.cells]
    assert len(results.cells) == 2 or bad.name in results.missing or results.notes
    assert all(len(found.returns) and np.isfinite(found.returns).all() for found in results.cells)
    assert all(note.isprintable() for note in results.notes)


def test_a_column_that_is_not_finite_is_left_out_by_name_and_the_returns_kept(tmp_path):
    path = write_cell(tmp_path)
    (path / "iterations.csv").write_text("iteration,kl,episode_return\n1,nan,5\n2,0,7\n")
    write_plan(tmp_path)
    results = read_results(tmp_path)
    assert list(results.cells[0].columns) == ["iteration", "episode_return"]
    assert [note for note in results.notes if "kl of row 1" in note] == results.notes


def test_iterations_that_do_not_follow_on_are_said(tmp_path):
    path = write_cell(tmp_path)
    (path / "iterations.csv").write_text("iteration,episode_return\n1,5\n1,5\n2,7\n")
    write_plan(tmp_path)
    (note,) = read_results(tmp_path).notes
    assert "row 2 of iterations.csv says iteration 1" in note


def test_a_finished_cell_without_iterations_is_said(tmp_path):
    (write_cell(tmp_path) / "iterations.csv").unlink()
    write_plan(tmp_path)
    (note,) = read_results(tmp_path).notes
    assert "is finished, but has no iterations.csv" in note


def test_no_note_quotes_a_file_that_a_link_stands_for(tmp_path):
    for name in ("run.json", "iterations.csv"):
        path = write_cell(tmp_path, seed=len(name)) / name
        path.unlink()
        path.symlink_to(tmp_path / "secret")
    for secret in (SECRET, b'{"token": "planted"}\n{"token": "planted"}\n'):
        (tmp_path / "secret").write_bytes(secret)
        notes = read_results(tmp_path).notes
        assert len(notes) >= 2
        assert not [note for note in notes if "planted" in note]
