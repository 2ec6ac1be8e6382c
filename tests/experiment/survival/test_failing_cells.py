"""Cells that fail, or lose a process, beside others that do not."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from types import SimpleNamespace

import pytest

from rllib_lpdm.grid import run as runner
from rllib_lpdm.grid.cell import CellRun, given_up, new_record, with_failure
from rllib_lpdm.grid.trials import run_trials
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from tests.experiment import unruly
from tests.experiment.files import read_run, write
from tests.experiment.survival.runs import HERE, SETTINGS, run_here
from tests.experiment.traces import status, trace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
TROUBLES = {
    "Breaks-v0": (30, unruly.exit_then_raise),
    "Recovers-v0": (1000, unruly.raise_then_behave),
    "Absent-v0": (0, unruly.behave),
    "Roomless-v0": (30, unruly.find_no_room),
}
OWN_SETTINGS = {
    "Absent-v0": {"retries": 0},
    "Roomless-v0": {"retries": 0},
    "Diverges-v0": {"lr": 1e38},
}


def run(home, environments, *options):
    """A run of some environments' cells, with one retry each but for some."""
    grid = write(
        home,
        "grid.yaml",
        environments=list(environments),
        settings=SETTINGS | {"retries": 1},
        overrides=[
            {"when": {"environment": name}, "set": OWN_SETTINGS[name]}
            for name in environments
            if name in OWN_SETTINGS
        ],
    )
    with redirect_stdout(io.StringIO()) as terminal, redirect_stderr(terminal):
        ended = run_here(grid, home, *options)
    return SimpleNamespace(
        status=ended,
        folder={name: home / "grid" / f"{name}_ppo_lpdm_s0" for name in environments},
        output=terminal.getvalue(),
    )


@pytest.fixture(scope="module")
def failing(tmp_path_factory, ray_session):
    """A grid in which every cell gets into trouble."""
    home = tmp_path_factory.mktemp("failing")
    for name, (step, trouble) in TROUBLES.items():
        unruly.register(name, step, trouble, home / f"calls-{name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run_trials", partial(run_trials, trainable=unruly.Unable))
        seen = run(home, TROUBLES, "--max-concurrent", "2")
    seen.calls = {path.name: path.stat().st_size for path in home.glob("calls-*")}
    return seen


@pytest.fixture(scope="module")
def diverging(tmp_path_factory, ray_session):
    """A cell whose steps are far too long beside one that nothing happens to, in this process."""
    home = tmp_path_factory.mktemp("diverging")
    names = ("Diverges-v0", "Behaves-v0")
    for name in names:
        unruly.register(name, 0, unruly.behave, home / "calls")
    return run(home, names, *HERE)


def ending_line(seen, name):
    """What the list at the end says of a cell; None where it is not in it."""
    found = re.search(rf"^  {seen.folder[name].name}: (.*)$", seen.output, re.M)
    return found and found[1]


def test_a_cell_that_always_fails_is_tried_again_as_often_as_was_said_and_listed(failing):
    assert failing.status == 1
    run = read_run(failing.folder["Breaks-v0"])
    assert run["status"] == "failed"
    assert failing.calls["calls-Breaks-v0"] == 2
    lost, raised = (failure["error"] for failure in run["failures"])
    assert "process was lost" in lost
    assert "RuntimeError: the physics broke" in raised
    assert "RuntimeError: the physics broke" in ending_line(failing, "Breaks-v0")
    name = failing.folder["Breaks-v0"].name
    assert f"{name} is started again: its process was lost" in failing.output


def test_an_error_that_repeats_itself_at_the_same_place_is_tried_no_third_time(tmp_path):
    unruly.register("Repeats-v0", 300, unruly.always_raise, tmp_path / "calls")
    settings = CellSettings(hidden_sizes=(4,), iterations_per_report=2, checkpoint_interval=9)
    cell = Cell("Repeats-v0", "reinforce", "bp", 0, settings)
    for attempt in range(2):
        trial = CellRun(cell, tmp_path / cell.name, "")
        with pytest.raises(RuntimeError, match="the physics broke"):
            trial.step(seconds=60)
        trial.close()
        assert given_up(RunRecord.read(tmp_path / cell.name), retries=5) == (attempt == 1)
    first, second = read_run(tmp_path / cell.name)["failures"]
    assert first["iteration"] == second["iteration"] > 0
    assert first["error"] != second["error"]  # an address in it is another


def test_an_environment_whose_own_disk_is_full_fails_alone(failing):
    reason = ending_line(failing, "Roomless-v0")
    assert reason.startswith("RuntimeError: the environment raised OSError: [Errno 28] No space")
    assert "cannot be written any more" not in failing.output


def failed_at(*places):
    """The record of a cell that failed after some iterations, at some line of a file."""
    cell = Cell("CartPole-v1", "ppo", "lpdm", 0, CellSettings(iterations=9))
    run = new_record(cell, None, "", "")
    for iteration, line in places:
        run = with_failure(run, f'  File "physics.py", line {line}', 0, iteration)
    return run


@pytest.mark.parametrize("iteration", [None, 4])
def test_errors_at_other_places_and_those_that_may_pass_are_tried_again(iteration):
    assert not given_up(failed_at((iteration, 7), (iteration, 8)), retries=2)
    assert not given_up(failed_at((3, 7), (iteration, 7)), retries=2)
    assert given_up(failed_at((4, 7), (iteration, 8), (4, 7)), retries=3)
    assert given_up(failed_at((iteration, 7), (iteration, 7)), retries=2) == (iteration == 4)


def test_the_record_of_a_cell_that_raised_holds_its_traceback(failing):
    error = read_run(failing.folder["Breaks-v0"])["error"]
    assert error.startswith("Traceback (most recent call last)")
    assert "exit_then_raise" in error


def test_no_traceback_is_on_the_terminal(failing):
    assert "Traceback (most recent" not in failing.output


def test_a_failed_cell_does_not_stop_the_others(failing, diverging):
    assert diverging.status == 1
    for seen, name in ((failing, "Recovers-v0"), (diverging, "Behaves-v0")):
        assert status(seen.folder[name]) == "finished"
        assert ending_line(seen, name) is None


def test_a_cell_that_raised_recovers_to_the_curve_it_would_have_had(failing, diverging):
    folder = failing.folder["Recovers-v0"]
    (raised,) = read_run(folder)["failures"]
    assert "RuntimeError: the physics broke" in raised["error"]
    assert raised["checkpoint"] > 0
    assert trace(folder) == trace(diverging.folder["Behaves-v0"])


def test_a_cell_whose_weights_are_no_longer_finite_fails_and_says_so(diverging):
    run = read_run(diverging.folder["Diverges-v0"])
    assert run["status"] == "failed"
    assert "finite" in run["error"]
    assert "finite" in ending_line(diverging, "Diverges-v0")


def test_a_trial_that_cannot_even_begin_is_given_up_as_any_other(failing):
    assert "no such module on this node" in ending_line(failing, "Absent-v0")
    assert len(read_run(failing.folder["Absent-v0"])["failures"]) == 1
