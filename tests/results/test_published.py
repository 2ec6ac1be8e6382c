"""Finished cells in a few files: nothing is lost but digits, and nothing is mixed."""

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.analysis.summary import analyse
from rllib_lpdm.analysis.tables import markdown
from rllib_lpdm.publish import main as publish_main
from rllib_lpdm.report import main as report_main
from rllib_lpdm.results import published as publishing
from rllib_lpdm.results.published import publish, read_published
from rllib_lpdm.results.search_record import SearchRecord
from rllib_lpdm.results.storage import locked
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.tune import main as tune_main
from tests.analysis.cells import record
from tests.experiment.files import write


def write_cell(folder, method, seed, **run):
    content = record(algorithm="reinforce", method=method, seed=seed, settings={"lr": 0.1}, **run)
    path = folder / content["cell"].replace("/", "-")
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(content), encoding="utf-8")
    count = np.arange(1, 61)
    columns = {
        "iteration": count,
        "env_steps": 7 * count,
        "episode_return": np.sqrt(count + seed),
        "episode_length": 7 + count / 3,
        "seconds": count / 1000,
        "policy_loss": 1 / count,
    }
    if method != "bp":
        columns["distance_error_1"] = np.log(count + 1)
    rows = "\n".join(",".join(map(repr, row)) for row in np.transpose([*columns.values()]).tolist())
    (path / "iterations.csv").write_text(f"{','.join(columns)}\n{rows}\n", encoding="utf-8")
    return path


@pytest.fixture
def grid(tmp_path):
    folder = tmp_path / "grid"
    for seed in (0, 1):
        for method in ("bp", "lpdm"):
            write_cell(folder, method, seed)
    write_cell(folder, "frozen", 0, status="running")
    return folder


def test_a_published_cell_is_the_finished_cell_in_float32_but_for_durations_and_distance_errors(
    grid, tmp_path
):
    assert publish(grid, tmp_path / "out") == (4, 4)
    theirs = {cell.run.cell: cell for cell in read_results(grid, lambda column: True).cells}
    published = read_published(tmp_path / "out")
    assert len(published) == 4
    for name, (run, columns) in published.items():
        assert run.settings == theirs[name].run.settings
        assert theirs[name].columns.keys() - columns.keys() == {"policy_loss"}
        for column, values in columns.items():
            expected = theirs[name].columns[column].astype("float32")
            bits = {"seconds": 9, "distance_error_1": 12}.get(column, 24)
            error = 2.0**-bits if bits < 24 else 0
            np.testing.assert_allclose(values, expected, rtol=error, err_msg=column)
            significands, _ = np.frexp(values)
            np.testing.assert_array_equal(2**bits * significands % 1, 0)


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("python -m rllib_lpdm.tune a.yaml --output /home/me/runs", "--output runs"),
        ("/opt/venv/bin/rllib-lpdm tune '/a b/c d.yaml' --output=/home/me/", "--output=me/"),
        ("python -m rllib_lpdm.tune a.yaml --set settings.pretrain_from=/d/e.npz", "from=e.npz"),
        ("python -m rllib_lpdm.tune a.yaml --output s3://bucket/runs", "--output s3://bucket/runs"),
        ("python -m rllib_lpdm.tune 'it's /home/me/a.yaml", "a.yaml"),
    ],
)
def test_a_published_command_names_no_folder_of_the_machine(tmp_path, command, kept):
    write_cell(tmp_path / "grid", "bp", 0, command=command)
    publish(tmp_path / "grid", tmp_path / "out")
    ((run, _),) = read_published(tmp_path / "out").values()
    assert run.command.endswith(kept)
    assert not any(folder in run.command for folder in ("/home", "/opt", "/a b", "/d/"))


def test_a_report_of_published_cells_has_the_tables_of_their_folder(grid, tmp_path):
    (grid / "CartPole-v1_reinforce_frozen_s0" / "run.json").unlink()
    publish(grid, tmp_path / "out")
    reports = [analyse(folder) for folder in (grid, tmp_path / "out")]
    tables = [markdown(report.scores, report.with_paper) for report in reports]
    assert tables[0] == tables[1]


def test_a_published_search_keeps_its_record(grid, tmp_path):
    search = SearchRecord(
        name="grid",
        proposer="random",
        criterion="max_score",
        seeds=[0, 1],
        space={"lr": {"log": [1e-4, 1e-2]}},
        rungs=[1.0],
        studies=[],
        env_steps=840,
        cpu_hours=0.25,
    )
    search.write(grid)
    publish(grid, tmp_path / "out")
    assert SearchRecord.read(tmp_path / "out") == search
    assert "  search.json\n" in (tmp_path / "out" / "SHA256SUMS").read_text()
    other = tmp_path / "other"
    write_cell(other, "bp", 7)
    search.model_copy(update={"name": "other"}).write(other)
    with pytest.raises(UserError, match="holds the search grid; publish other into another"):
        publish(other, tmp_path / "out")
    assert SearchRecord.read(tmp_path / "out") == search
    assert len(read_published(tmp_path / "out")) == 4


def test_every_file_has_its_sum_and_a_second_time_changes_none(grid, tmp_path):
    out = tmp_path / "out"
    publish(grid, out)
    sums = (out / "SHA256SUMS").read_text()
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert len(files) == 5
    for path in files:
        line = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out)}"
        assert line in sums.splitlines()
    assert publish(grid, out) == (0, 4)
    assert (out / "SHA256SUMS").read_text() == sums


def test_cells_are_added_and_other_settings_refused(grid, tmp_path, capsys):
    arguments = [str(grid), str(tmp_path / "out")]
    assert publish_main(arguments) == 0
    write_cell(grid, "bp", 2)
    assert publish_main(arguments) == 0
    assert "1 cell added, 5 in" in capsys.readouterr().out
    path = grid / "CartPole-v1_reinforce_bp_s1" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"lr": 0.2}}))
    assert publish_main(arguments) == 2
    assert "CartPole-v1_reinforce_bp_s1 with other settings" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["shortened", "missing", "of other cells"])
def test_damaged_curves_are_named(grid, tmp_path, damage, capsys):
    out = tmp_path / "out"
    publish(grid, out)
    path = out / "curves" / "CartPole-v1.parquet"
    content = path.read_bytes()
    path.unlink()
    if damage == "shortened":
        path.write_bytes(content[:-100])
    if damage == "of other cells":
        write_cell(tmp_path / "other", "bp", 3)
        publish(tmp_path / "other", tmp_path / "others")
        path.write_bytes((tmp_path / "others" / "curves" / path.name).read_bytes())
    assert report_main([str(out)]) == 2
    assert str(path) in capsys.readouterr().err


def texts(table):
    return table.assign(episode_return=table["episode_return"].astype(str))


CURVES = {
    "no return": (lambda t: t.drop(columns="episode_return"), "no column episode_return"),
    "no steps": (lambda t: t.drop(columns="env_steps"), "no column env_steps"),
    "no cell": (lambda t: t.drop(columns="cell"), "no column cell"),
    "texts": (texts, "column episode_return holds other values"),
    "times": (
        lambda t: t.assign(seconds=pd.to_datetime(t["seconds"])),
        "column seconds holds datetime64",
    ),
    "truths": (lambda t: t.assign(env_steps=True), "column env_steps holds bool"),
    "lists": (lambda t: t.assign(seconds=[[1.0]] * len(t)), "seconds.list.element holds other"),
    "other cells": (lambda t: t.assign(cell=t["cell"] + "x"), "has no rows of CartPole"),
}


@pytest.mark.parametrize(("change", "said"), CURVES.values(), ids=CURVES)
def test_curves_of_other_columns_are_refused_in_one_line(change, said, grid, tmp_path, capsys):
    out = tmp_path / "out"
    publish(grid, out)
    path = out / "curves" / "CartPole-v1.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    assert report_main([str(out)]) == 2
    line = next(line for line in capsys.readouterr().err.splitlines() if str(path) in line)
    assert said in line


def test_published_returns_that_are_no_number_are_replaced_or_left_out(grid, tmp_path):
    out = tmp_path / "out"
    publish(grid, out)
    path = out / "curves" / "CartPole-v1.parquet"
    table = pd.read_parquet(path)
    first, second = list(dict.fromkeys(table["cell"]))[:2]
    table.loc[table.index[table["cell"] == first][3], "episode_return"] = np.inf
    table.loc[table["cell"] == second, "episode_return"] = np.nan
    table.to_parquet(path, index=False)
    results = read_results(out)
    assert len(results.cells) == 3
    assert all(np.isfinite(cell.returns).all() for cell in results.cells)
    assert any(note.startswith(f"{first}: the return of row 4") for note in results.notes)
    assert f"{second}: no return is a finite number; left out" in results.notes


def test_tune_leaves_out_what_is_published(grid, tmp_path, capsys):
    publish(grid, tmp_path / "out")
    entries = {"algorithms": ["reinforce"], "settings": {"iterations": 2}, "seeds": 3}
    path = write(tmp_path, "grid.yaml", methods=["bp", "lpdm"], **entries)
    tune = [str(path), "--output", str(tmp_path / "results"), "--dry-run"]
    assert tune_main([*tune, "--without", str(tmp_path / "out")]) == 0
    assert "2 cells" in capsys.readouterr().out
    assert tune_main([*tune, "--set", "seeds=2", "--without", str(tmp_path / "out")]) == 0
    assert "nothing to run" in capsys.readouterr().out
    for seed in (0, 1):
        write_cell(tmp_path / "later", "lpdm", seed + 2)
    publish(tmp_path / "later", tmp_path / "more")
    both = ["--without", str(tmp_path / "out"), "--without", str(tmp_path / "more")]
    assert tune_main([*tune, "--set", "seeds=4", *both]) == 0
    assert "2 cells" in capsys.readouterr().out
    assert tune_main([*tune, "--set", "methods=[lpdm]", "--set", "seeds=4", *both]) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'out'} and {tmp_path / 'more'}\n")
    assert tune_main([*tune, "--without", str(tmp_path / "nowhere")]) == 2
    assert "--without" in capsys.readouterr().err


# -- who publishes at the same time, and who is killed --------------------------------------------


PUBLISH = """
import sys
from pathlib import Path
from rllib_lpdm.results.published import publish
sys.stdin.read()
print(*publish(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def test_all_cells_are_there_that_are_published_at_the_same_time(tmp_path):
    processes = []
    for number in range(3):
        for seed in range(2):
            write_cell(tmp_path / str(number), "bp", 2 * number + seed)
        command = [sys.executable, "-c", PUBLISH, tmp_path / str(number), tmp_path / "out"]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    for process in processes:
        process.stdin.close()
    said = {process.stdout.read().strip() for process in processes}
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert said == {"2 2", "2 4", "2 6"}
    assert len(read_published(tmp_path / "out")) == 6
    assert_whole(tmp_path / "out")


def test_a_folder_that_another_call_keeps_is_refused_in_one_line(
    grid, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(publishing, "PATIENCE", 0.0)
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        assert publish_main([str(grid), str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "in use by another run" in line
    assert publish_main([str(grid), str(tmp_path / "out")]) == 0


def assert_whole(out):
    """Every file has its sum, and nothing else is there."""
    lines = (out / "SHA256SUMS").read_text().splitlines()
    files = {path for path in out.rglob("*") if path.is_file()} - {out / "SHA256SUMS"}
    assert sorted(lines, key=lambda line: line.split("  ")[1]) == sorted(
        (
            f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(out)}"
            for file in files
        ),
        key=lambda line: line.split("  ")[1],
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from rllib_lpdm.results.published import publish

replace = os.replace
for count, out in enumerate(sys.argv[2:]):
    if (pid := os.fork()) == 0:
        left = list(range(count))

        def counted(*paths):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left.pop()
            replace(*paths)

        os.replace = counted
        publish(Path(sys.argv[1]), Path(out))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_call_killed_at_any_moment_loses_nothing_and_the_next_one_mends_all(grid, tmp_path):
    first, whole = tmp_path / "first", tmp_path / "whole"
    write_cell(tmp_path / "before", "bp", 7)
    publish(tmp_path / "before", first)
    outs = [tmp_path / f"out{replaced}" for replaced in range(7)]
    for out in (*outs, whole):
        shutil.copytree(first, out)
    publish(grid, whole)
    command = [sys.executable, "-c", KILLED, grid, *outs]
    ends = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert ends == ["-9"] * 6 + ["0"]  # it writes six files
    for out in outs:
        unfinished = [path for path in out.rglob(".*") if path.name != ".experiment.json"]
        assert len(unfinished) == (0 if out == outs[-1] else 2)  # the lock's and a temporary file
        assert "CartPole-v1_reinforce_bp_s7" in read_published(out)
        publish(grid, out)
        assert_whole(out)
        assert (out / "SHA256SUMS").read_text() == (whole / "SHA256SUMS").read_text()


# -- checked before anything is written -----------------------------------------------------------


def test_a_cell_of_the_same_name_that_is_another_is_refused(grid, tmp_path, capsys):
    arguments = [str(grid), str(tmp_path / "out")]
    assert publish_main(arguments) == 0
    path = grid / "CartPole-v1_reinforce_bp_s1" / "run.json"
    before, files = json.loads(path.read_text()), contents(tmp_path / "out")
    for name, value in (
        ("environment_spec", {"id": "CartPole-v1", "kwargs": {"sutton_barto_reward": True}}),
        ("environment", "CartPole-v0"),
        ("seed", 5),
        ("variant", "slow"),
    ):
        path.write_text(json.dumps(before | {name: value}))
        capsys.readouterr()
        assert publish_main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"holds CartPole-v1_reinforce_bp_s1 with other {name}" in line
        assert contents(tmp_path / "out") == files
    path.write_text(json.dumps(before))
    other = write_cell(grid, "bp", 9)
    shutil.copytree(path.parent, grid / "a copy")
    assert publish(grid, tmp_path / "out") == (1, 5)
    copy = json.loads((other / "run.json").read_text()) | {"settings": {"lr": 7}}
    (grid / "a copy" / "run.json").write_text(json.dumps(copy))
    assert publish_main([str(grid), str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_environments_whose_names_differ_in_a_mark_share_a_file_and_keep_their_curves(tmp_path):
    for number, environment in enumerate(("ALE/Pong-v5", "ALE-Pong-v5", "ALE/Pong-v4")):
        write_cell(tmp_path / str(number), "bp", number, environment=environment)
        publish(tmp_path / str(number), tmp_path / "out")
    published = read_published(tmp_path / "out")
    assert {run.environment for run, _ in published.values()} == {
        *("ALE/Pong-v5", "ALE-Pong-v5", "ALE/Pong-v4"),
    }
    for run, columns in published.values():
        expected = np.sqrt(np.arange(1, 61) + run.seed)
        np.testing.assert_allclose(columns["episode_return"], expected, rtol=1e-6)
    files = sorted(path.name for path in (tmp_path / "out" / "curves").iterdir())
    assert files == ["ALE-Pong-v4.parquet", "ALE-Pong-v5.parquet"]
    assert len(read_results(tmp_path / "out").cells) == 3


DAMAGES = {
    **{f"no {name}": name for name in publishing.COLUMNS},
    "no rows": "no rows",
    "no file": "cannot be read",
    "half a row": "no rows",
    "text": "cannot be read",
    "no finite return": "no episode_return is a finite number",
    "steps that are no number": "env_steps has values that are not finite",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("new", [True, False])
def test_a_cell_that_lacks_something_is_named_before_anything_is_written(
    grid, tmp_path, capsys, damage, new
):
    out = tmp_path / "out"
    if not new:
        write_cell(tmp_path / "other", "bp", 7)
        publish(tmp_path / "other", out)
    files = contents(out)
    path = grid / "CartPole-v1_reinforce_lpdm_s1" / "iterations.csv"
    table = pd.read_csv(path)
    if damage.startswith("no ") and damage[3:] in table:
        table = table.drop(columns=damage[3:])
    if damage == "no rows":
        table = table[:0]
    if damage == "no finite return":
        table["episode_return"] = np.nan
    if damage == "steps that are no number":
        table.loc[3, "env_steps"] = np.inf
    table.to_csv(path, index=False)
    if damage == "no file":
        path.unlink()
    if damage == "half a row":
        path.write_text("iteration,env_steps")
    if damage == "text":
        path.write_text("episode_return\nsome\n")
    assert publish_main([str(grid), str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert DAMAGES[damage] in line
    assert contents(out) == files
    assert out.exists() is not new


@pytest.mark.parametrize("name", ["out", "out/curves"])
@pytest.mark.parametrize("target", ["theirs", "nowhere"])
def test_nothing_is_published_through_a_link(grid, tmp_path, capsys, name, target):
    (tmp_path / "theirs").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(tmp_path / target)
    assert publish_main([str(grid), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / name} is a link" in line
    assert not list((tmp_path / "theirs").iterdir())
    assert not (tmp_path / "nowhere").exists()


def test_a_link_in_place_of_a_file_is_replaced(grid, tmp_path):
    publish(grid, tmp_path / "out")
    (tmp_path / "theirs").write_text("theirs")
    for name in ("scores.csv", "versions.txt", "SHA256SUMS"):
        (tmp_path / "out" / name).unlink()
        (tmp_path / "out" / name).symlink_to(tmp_path / "theirs")
    publish(grid, tmp_path / "out")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert_whole(tmp_path / "out")


def test_nothing_is_published_into_a_folder_of_cells(grid, tmp_path, capsys):
    write_cell(tmp_path / "other", "bp", 7)
    files = contents(grid)
    for folder in (grid, tmp_path / "other"):
        assert publish_main([str(folder), str(grid)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{grid} holds an experiment's cells" in line
    assert contents(grid) == files


@pytest.mark.parametrize(
    "name",
    [
        *("runs.jsonl", "scores.csv", "versions.txt", "SHA256SUMS", ".experiment.json"),
        *("search.json", "curves/CartPole-v1.parquet"),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_written(
    grid, tmp_path, capsys, name
):
    place = tmp_path / "out" / name
    place.mkdir(parents=True)
    assert publish_main([str(grid), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.count(str(tmp_path)) == 1
    assert str(place) in line
    assert not contents(tmp_path / "out")


def test_without_locks_it_goes_on_with_one_line(grid, tmp_path, capsys, monkeypatch):
    def missing(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", missing)
    assert publish_main([str(grid), str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "4 cells added, 4 in" in said.out
    assert len(said.err.splitlines()) == 1
    assert "no locks" in said.err


def test_no_score_is_a_formula(tmp_path):
    write_cell(tmp_path / "grid", "=1+1", 0, environment="@SUM(A1)", variant="+1")
    publish(tmp_path / "grid", tmp_path / "out")
    (row,) = csv.DictReader((tmp_path / "out" / "scores.csv").read_text().splitlines())
    assert row["cell"] == "'@SUM(A1)_reinforce_=1+1_+1_s0"
    assert [row["environment"], row["method"], row["variant"]] == ["'@SUM(A1)", "'=1+1", "+1"]
