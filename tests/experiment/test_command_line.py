"""What the command line refuses, in one line and with status 2, and what a dry run says."""

import pytest

from rllib_lpdm import tune
from rllib_lpdm.grid.run import Outcome
from tests.experiment.files import write, write_run


def refused(capsys, *arguments):
    """The one line on stderr of a command that could not start."""
    assert tune.main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_an_existing_folder_is_neither_continued_nor_overwritten_unless_told(tmp_path, capsys):
    (tmp_path / "small" / "cell").mkdir(parents=True)
    line = refused(capsys, write(tmp_path, "small.yaml"), "--output", tmp_path)
    assert str(tmp_path / "small") in line
    assert "--resume" in line
    assert "--overwrite" in line
    assert (tmp_path / "small" / "cell").is_dir()


@pytest.mark.parametrize("strange", ["thesis.txt", "photos/"])
def test_overwrite_does_not_delete_what_is_no_cell(tmp_path, capsys, strange):
    (tmp_path / "small" / "cell").mkdir(parents=True)
    (tmp_path / "small" / "cell" / "run.json").write_text("{}")
    path = tmp_path / "small" / strange
    path.mkdir() if strange.endswith("/") else path.touch()
    line = refused(capsys, write(tmp_path, "small.yaml"), "--output", tmp_path, "--overwrite")
    assert repr(path.name) in line
    assert path.exists()
    assert (tmp_path / "small" / "cell" / "run.json").exists()


def test_a_dry_run_lists_the_cells_and_starts_nothing(tmp_path, capsys):
    file = write(tmp_path, "small.yaml", seeds=2, methods=["bp", "lpdm"])
    finished = tmp_path / "small" / "CartPole-v1_ppo_bp_s0"
    content = {"cell": finished.name, "environment": "CartPole-v1", "algorithm": "ppo"}
    write_run(finished, {**content, "method": "bp", "seed": 0, "status": "finished"})
    (finished / "iterations.csv").write_text("iteration,episode_return\n5,1\n")
    before = sorted(tmp_path.rglob("*"))
    assert tune.main([str(file), "--output", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    printed = said.out.splitlines()
    names = [f"CartPole-v1_ppo_{method}_s{seed}" for seed in (0, 1) for method in ("bp", "lpdm")]
    assert [line.split()[0] for line in printed[:4]] == names
    assert [line for line in printed[:4] if "finished" in line] == [f"{finished.name}  finished"]
    assert "4 cells, 1 finished, 3 to run" in "\n".join(printed)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_names_the_damaged_cells_and_counts_the_others(tmp_path, capsys):
    file = write(tmp_path, "small.yaml", seeds=3)
    for seed in (0, 1):
        write_run(tmp_path / "small" / f"CartPole-v1_ppo_lpdm_s{seed}", {})
    assert tune.main([str(file), "--output", str(tmp_path), "--resume", "--dry-run"]) == 1
    said = capsys.readouterr()
    assert "1 cell, 0 finished, 1 to run" in said.out
    for line, seed in zip(said.err.splitlines(), (0, 1), strict=True):
        assert f"s{seed}/run.json is damaged" in line


def test_a_cell_that_failed_is_named_and_not_in_the_final_table(tmp_path, capsys, monkeypatch):
    cell = tmp_path / "small" / "CartPole-v1_ppo_lpdm_s0"
    content = {"cell": cell.name, "environment": "CartPole-v1", "algorithm": "ppo", "seed": 0}
    write_run(cell, {**content, "method": "lpdm", "status": "failed"})
    (cell / "iterations.csv").write_text("iteration,episode_return\n1,0\n2,0\n")
    ended = Outcome(cell.parent, [], {cell.name: "every update was skipped"})
    monkeypatch.setattr(tune, "run_experiment", lambda *arguments, **options: ended)
    assert tune.main([str(write(tmp_path, "small.yaml")), "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "0.0 (0.0)" not in said
    assert f"not in the table: {cell.name}: every update was skipped" in said


def test_a_throwaway_run_replaces_its_own_former_results_and_no_others(tmp_path, capsys):
    file = write(tmp_path, "small.yaml", throwaway=True)
    heir = write(tmp_path, "heir.yaml", extends="small.yaml", name="small")
    folder = tmp_path / "small"
    cell = folder / "CartPole-v1_ppo_lpdm_s0"
    cell.mkdir(parents=True)
    (cell / "run.json").write_text("{}")
    plan, thesis = folder / ".experiment.json", folder / "thesis.txt"
    for text in ("{", "[]", '{"cells": []}', '{"throwaway": false}'):  # those of other runs
        plan.write_text(text)
        assert "--overwrite" in refused(capsys, file, "--output", tmp_path)
    plan.write_text('{"throwaway": true}')
    assert "--overwrite" in refused(capsys, heir, "--output", tmp_path)
    thesis.touch()
    assert "would delete 'thesis.txt'" in refused(capsys, file, "--output", tmp_path)
    thesis.unlink()
    assert "is damaged" in refused(capsys, file, "--output", tmp_path, "--resume", "--dry-run")
    assert cell.is_dir()


@pytest.mark.parametrize(
    ("entries", "fragment"),
    [
        ({"environments": ["Hoper-v4"]}, "did you mean 'Hopper-v4'?"),
        ({"environments": ["FrozenLake-v1"]}, "FrozenLake-v1: unsupported observation space"),
        ({"settings": {"lr": -1}}, "settings.lr"),
        ({"extends": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, entries, fragment):
    assert fragment in refused(
        capsys, write(tmp_path, "small.yaml", **entries), "--output", tmp_path
    )


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
@pytest.mark.parametrize("name", ["output", "output/small"])
def test_a_file_where_a_folder_should_be_is_one_line_that_names_it(tmp_path, capsys, name, option):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("something else")
    file = write(tmp_path, "small.yaml")
    assert str(tmp_path / name) in refused(capsys, file, "--output", tmp_path / "output", option)
    assert (tmp_path / name).read_text() == "something else"


def test_a_damaged_run_file_is_one_line_that_names_it(tmp_path, capsys):
    run_file = tmp_path / "small" / "CartPole-v1_ppo_lpdm_s0" / "run.json"
    run_file.parent.mkdir(parents=True)
    run_file.write_text('{"status": ')
    assert str(run_file) in refused(
        capsys, write(tmp_path, "small.yaml"), "--output", tmp_path, "--resume"
    )


@pytest.mark.parametrize(
    "options", [["--max-concurrent", "0"], ["--resume", "--overwrite"], ["--sed", "seeds=5"]]
)
def test_impossible_options_are_refused(tmp_path, capsys, options):
    with pytest.raises(SystemExit, match="2"):
        tune.main([str(write(tmp_path, "small.yaml")), *options])
    assert "error: " in capsys.readouterr().err


def test_an_end_with_one_cell_is_said_in_the_singular(tmp_path, capsys):
    assert tune.say_end(Outcome(tmp_path, [], {}, signal=2), 1, "again") == 130
    assert "interrupted with 1 cell to go" in capsys.readouterr().err
    tune.say_end(Outcome(tmp_path, [], {"a": "it broke"}), 1, "again")
    assert "1 of 1 cell failed" in capsys.readouterr().err
