"""Cells that fail, or lose a process, beside others that do not."""

import io
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from types import SimpleNamespace

import pytest

from rllib_lpdm.experiment import runner
from rllib_lpdm.experiment.trials import run_trials
from tests.experiment import unruly
from tests.experiment.files import read_run, write
from tests.experiment.processes import family, needs_proc, wait_until
from tests.experiment.survival.runs import CELLS, SETTINGS, meanwhile, run_here
from tests.experiment.traces import progress_of, status, trace

pytestmark = pytest.mark.slow
HELPED = CELLS[0]  # by remote runners, of which one is killed
TROUBLES = {
    "Breaks-v0": (30, unruly.exit_then_raise),
    "Recovers-v0": (1000, unruly.exit_raise_behave),
    "Diverges-v0": (0, unruly.behave),
    "Behaves-v0": (0, unruly.behave),
    "Absent-v0": (0, unruly.behave),
}
OWN_SETTINGS = {
    "Hopper-v4": {"env_runners": 2},
    "Recovers-v0": {"retries": 2},
    "Diverges-v0": {"retries": 0, "lr": 1e38},
    "Absent-v0": {"retries": 0},
}


@pytest.fixture(scope="module")
def failing(undisturbed, tmp_path_factory):
    """A grid in which every cell but one gets into trouble, with one retry each but for some."""
    home = tmp_path_factory.mktemp("failing")
    for name, (step, trouble) in TROUBLES.items():
        unruly.register(name, step, trouble, home / f"calls-{name}")
    grid = write(
        home,
        "grid.yaml",
        environments=["Hopper-v4", *TROUBLES],
        settings=SETTINGS | {"retries": 1},
        overrides=[
            {"when": {"environment": name}, "set": own} for name, own in OWN_SETTINGS.items()
        ],
    )
    helped = home / "grid" / HELPED
    seen = SimpleNamespace(
        helped=helped,
        folder={name: home / "grid" / f"{name}_ppo_lpdm_s0" for name in TROUBLES},
    )

    def disturb():
        wait_until(lambda: progress_of(helped), "the cell with runners had a checkpoint")
        seen.process = read_run(helped)["process"]
        titles = {one: one.title() for one in family(os.getpid())}
        seen.runners = [one for one, title in titles.items() if "EpisodeRunner" in title]
        seen.runners[0].kill()
        seen.killed_at = progress_of(helped)

    with (
        pytest.MonkeyPatch.context() as patch,
        meanwhile(disturb),
        redirect_stdout(io.StringIO()) as terminal,
        redirect_stderr(terminal),
    ):
        patch.setattr(runner, "run_trials", partial(run_trials, trainable=unruly.Unable))
        seen.status = run_here(grid, home, "--max-concurrent", "2")
    seen.output = terminal.getvalue()
    seen.calls = {path.name: path.stat().st_size for path in home.glob("calls-*")}
    return seen


def ending_line(failing, name):
    """What the list at the end says of a cell; None where it is not in it."""
    found = re.search(rf"^  {failing.folder[name].name}: (.*)$", failing.output, re.M)
    return found and found[1]


@needs_proc
def test_a_cell_that_lost_a_remote_runner_does_not_even_restart(failing, reference):
    assert len(failing.runners) == 2
    assert failing.killed_at < SETTINGS["iterations"]
    assert trace(failing.helped) == reference[HELPED]
    run = read_run(failing.helped)
    assert (run["failures"], run["process"]) == ([], failing.process)
    assert f"{HELPED} goes on" not in failing.output


def test_a_cell_that_always_fails_is_tried_again_as_often_as_was_said_and_listed(failing):
    assert failing.status == 1
    run = read_run(failing.folder["Breaks-v0"])
    assert run["status"] == "failed"
    assert failing.calls["calls-Breaks-v0"] == 2
    lost, raised = (failure["error"] for failure in run["failures"])
    assert "process was lost" in lost
    assert "RuntimeError: the physics broke" in raised
    assert "RuntimeError: the physics broke" in ending_line(failing, "Breaks-v0")


def test_the_record_of_a_cell_that_raised_holds_its_traceback(failing):
    error = read_run(failing.folder["Breaks-v0"])["error"]
    assert error.startswith("Traceback (most recent call last)")
    assert "exit_then_raise" in error


def test_no_traceback_is_on_the_terminal(failing):
    assert "Traceback (most recent" not in failing.output


def test_a_failed_cell_does_not_stop_the_others(failing):
    assert status(failing.folder["Behaves-v0"]) == "finished"
    assert ending_line(failing, "Behaves-v0") is None


def test_a_cell_that_lost_its_process_and_raised_recovers_to_the_curve_it_would_have_had(failing):
    folder = failing.folder["Recovers-v0"]
    run = read_run(folder)
    assert run["status"] == "finished"
    lost, raised = run["failures"]
    assert "process was lost" in lost["error"]
    assert f"{folder.name} is started again: its process was lost" in failing.output
    assert 0 < lost["checkpoint"] <= raised["checkpoint"]
    assert trace(folder) == trace(failing.folder["Behaves-v0"])


def test_a_cell_whose_weights_are_no_longer_finite_fails_and_says_so(failing):
    run = read_run(failing.folder["Diverges-v0"])
    assert run["status"] == "failed"
    assert "finite" in run["error"]
    assert "finite" in ending_line(failing, "Diverges-v0")


def test_a_trial_that_cannot_even_begin_is_given_up_as_any_other(failing):
    assert "no such module on this node" in ending_line(failing, "Absent-v0")
    assert len(read_run(failing.folder["Absent-v0"])["failures"]) == 1
