"""A file that changed since its run, which is then resumed."""

import shutil

import pytest

from tests.experiment.survival.runs import CELLS, HERE, run_here
from tests.experiment.traces import contents, status

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A copy of the finished run, to be resumed with other settings."""
    shutil.copytree(undisturbed, tmp_path / "small")
    return tmp_path


def test_resume_refuses_another_learning_rate_and_names_both_values(file, finished, capsys):
    before = contents(finished)
    assert run_here(file, finished, "--resume", "--set", "settings.lr=0.25") == 2
    assert "lr was 0.0005, is 0.25" in capsys.readouterr().err
    after = contents(finished)
    assert {path: after[path] for path in before} == before


def test_resume_allows_a_change_of_how_cells_are_run(file, finished):
    before = {cell: contents(finished / "small" / cell) for cell in CELLS}
    changes = ["settings.checkpoint_interval=7", "settings.retries=0"]
    options = [word for change in changes for word in ("--set", change)]
    assert run_here(file, finished, "--resume", *options) == 0
    assert {cell: contents(finished / "small" / cell) for cell in CELLS} == before


def test_resume_runs_a_seed_that_was_added_and_leaves_one_that_was_removed(file, finished, capsys):
    before = {cell: contents(finished / "small" / cell) for cell in CELLS}
    assert run_here(file, finished, "--resume", "--set", "seeds=[1, 2, 3]", *HERE) == 0
    printed = capsys.readouterr().out
    assert "new in the file: Hopper-v4_ppo_lpdm_s3" in printed
    assert f"no longer in the file, and left as they are: {CELLS[0]}" in printed
    assert status(finished / "small" / "Hopper-v4_ppo_lpdm_s3") == "finished"
    assert {cell: contents(finished / "small" / cell) for cell in CELLS} == before
