"""What happens to a run whose processes are killed, whose disk is full, whose cells fail.

The reference is always a run that nothing disturbed: curves and weights must equal it, bit by bit.
"""

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rllib_lpdm import tune
from rllib_lpdm.experiment import runner
from rllib_lpdm.experiment.cell import CellRun, SupersededError
from rllib_lpdm.experiment.loading import load_experiment
from rllib_lpdm.experiment.runner import run_experiment
from rllib_lpdm.experiment.trials import run_trials
from rllib_lpdm.results.checkpoints import checkpoints, save_checkpoint
from tests.experiment import unruly
from tests.experiment.files import read_run, write
from tests.experiment.processes import family, needs_proc, trainers, wait_until
from tests.experiment.traces import contents, progress_of, status, trace

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "iterations": 40,
    "iterations_per_report": 1,
    "checkpoint_interval": 2,
    "hidden_sizes": [32, 32],
}
CELLS = [f"Hopper-v4_ppo_lpdm_s{seed}" for seed in range(3)]
HERE = ["--set", "in_process=true"]  # where the claim is not about processes, which cost seconds
BOUND = 120  # seconds that a signal may take on a busy machine; a few on an idle one


# -- how runs are started and disturbed -----------------------------------------------------------


class Driver:
    """The command line in a process group of its own, as a terminal starts it."""

    def __init__(self, words, log):
        self._log = log
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment | {"PATH": path},
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def output(self):
        return self._log.read_text()

    def wait_until(self, condition, what):
        wait_until(lambda: condition() or self._process.poll() is not None, what)
        assert self._process.poll() is None, f"ended before {what}:\n{self.output()}"

    def end(self, timeout=300):
        return self._process.wait(timeout)

    def resume_line(self):
        return shlex.split(re.search(r"^  (python -m rllib_lpdm\.tune.*)$", self.output(), re.M)[1])

    def clean_up(self):
        """Ends what it started; also what a killed driver left."""
        for one in self.processes:
            one.kill()
        self._process.wait()

    @property
    def processes(self):
        self._family = getattr(self, "_family", set()) | set(family(self.pid))
        return self._family


@contextmanager
def driver(words, log):
    started = Driver(words, log)
    try:
        yield started
    finally:
        started.clean_up()


@contextmanager
def timed(seen, name):
    began = time.monotonic()
    yield
    seen.seconds[name] = time.monotonic() - began


@contextmanager
def meanwhile(disturb):
    """Runs a function beside the context; an error in it is raised at the end."""
    errors = []

    def run():
        try:
            disturb()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def run_here(file, output, *options):
    """The command line in this process, on the tests' Ray session; its exit status."""
    words = [str(file), "--output", str(output), "--wandb", "disabled", *options]
    return tune.main(words)


# -- the reference --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("file")
    return write(folder, "small.yaml", environments=["Hopper-v4"], seeds=3, settings=SETTINGS)


@pytest.fixture(scope="module")
def undisturbed(file, ray_session, tmp_path_factory):
    """The folder of a run in which nothing happened."""
    output = tmp_path_factory.mktemp("undisturbed")
    assert not run_experiment(load_experiment(file, ["in_process=true"]), output).failed
    return output / "small"


@pytest.fixture(scope="module")
def reference(undisturbed):
    return {cell: trace(undisturbed / cell) for cell in CELLS}


# -- the driver -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disturbed(file, reference, tmp_path_factory):
    """One run whose driver is killed, interrupted and terminated before it may end.

    At the first end one cell is finished, one has a checkpoint and one has not begun.
    """
    home = tmp_path_factory.mktemp("disturbed")
    folder = home / "small"
    cells = first, second, _ = [folder / cell for cell in CELLS]
    seen = SimpleNamespace(folder=folder, seconds={})

    def total():
        return sum(map(progress_of, cells))

    words = [sys.executable, "-m", "rllib_lpdm.tune", str(file), "--output", str(home)]
    words += ["--max-concurrent", "1", "--wandb", "disabled"]

    with driver(words, home / "killed") as killed:
        killed.wait_until(
            lambda: status(first) == "finished" and progress_of(second),
            "one cell was finished and the next had a checkpoint",
        )
        seen.statuses = [status(cell) for cell in cells]
        seen.finished = contents(first)
        seen.refusal = io.StringIO()
        with redirect_stderr(seen.refusal):
            seen.refused = run_here(file, home, "--resume")
        running = killed.processes
        os.kill(killed.pid, signal.SIGKILL)
        killed.end()
        with timed(seen, "kill"):
            wait_until(lambda: not any(trainers(second, running)), "the killed run's cell stopped")
        done = total()
        with driver([*words, "--resume"], home / "interrupted") as interrupted:
            interrupted.wait_until(lambda: total() > done, "a cell went on")
            with timed(seen, "SIGINT"):
                os.killpg(interrupted.pid, signal.SIGINT)
                interrupted.status = interrupted.end()
            seen.interrupted = interrupted
    done = total()
    with driver(interrupted.resume_line(), home / "terminated") as terminated:
        terminated.wait_until(lambda: total() > done, "a cell went on")
        with timed(seen, "SIGTERM"):
            os.kill(terminated.pid, signal.SIGTERM)
            terminated.status = terminated.end()
        seen.terminated = terminated
    words = terminated.resume_line()[3:]  # what follows python -m rllib_lpdm.tune
    seen.resumed = tune.main([*words, *HERE])
    return seen


@needs_proc
def test_a_run_killed_interrupted_and_terminated_ends_as_if_nothing_had_happened(
    disturbed, reference
):
    assert disturbed.statuses == ["finished", "running", None]
    assert disturbed.resumed == 0
    for cell in CELLS:
        assert trace(disturbed.folder / cell) == reference[cell]
        assert read_run(disturbed.folder / cell)["failures"] == []


@needs_proc
def test_a_cell_that_was_finished_before_the_kill_is_left_alone(disturbed):
    assert contents(disturbed.folder / CELLS[0]) == disturbed.finished
    assert "1 of 3 cells are finished already, 1 go on" in disturbed.interrupted.output()


@needs_proc
def test_a_second_run_in_the_same_folder_is_refused(disturbed):
    assert disturbed.refused == 2
    (line,) = disturbed.refusal.getvalue().splitlines()
    assert line.startswith(f"error: {disturbed.folder} is in use by another run")


@needs_proc
@pytest.mark.parametrize(
    ("name", "number"), [("interrupted", signal.SIGINT), ("terminated", signal.SIGTERM)]
)
def test_a_signal_ends_a_run_soon_with_its_status_and_the_line_that_goes_on(
    disturbed, name, number
):
    ended = getattr(disturbed, name)
    assert ended.status == 128 + number
    assert disturbed.seconds[number.name] < BOUND
    assert "to go on:" in ended.output()
    assert "Traceback" not in ended.output()
    assert not [one for one in ended.processes if one.alive()]


@needs_proc
def test_a_killed_driver_s_cells_stop_soon(disturbed):
    assert disturbed.seconds["kill"] < BOUND


# -- cells that fail, or lose a process -----------------------------------------------------------

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


# -- disks ----------------------------------------------------------------------------------------


TWO_CELLS = ["--set", "seeds=2"]  # which run at once


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes, and a function that mounts it anew with other options."""
    home = tmp_path / "disk"
    home.mkdir()

    def mount(*words):
        subprocess.run(["mount", *words, str(home)], check=True, capture_output=True)

    try:
        mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error}); run as root on Linux")
    yield SimpleNamespace(folder=home, remount=lambda options: mount("-o", f"remount,{options}"))
    subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_a_full_disk_ends_a_run_with_one_line_and_with_room_it_goes_on(
    small_disk, file, reference, capfd
):
    disk, folder = small_disk.folder, small_disk.folder / "small"
    ended = threading.Event()

    def fill():
        wait_until(lambda: all(progress_of(folder / cell) for cell in CELLS[:2]), "checkpoints")
        with (disk / "filler").open("wb", buffering=0) as filler:
            while not ended.wait(0.01):
                with suppress(OSError):
                    while True:
                        filler.write(bytes(4096))

    with meanwhile(fill):
        try:
            status_when_full = run_here(file, disk, *TWO_CELLS)
        finally:
            ended.set()
    printed = capfd.readouterr()
    assert status_when_full == 1
    assert f"error: {folder} cannot be written any more" in printed.err
    assert "No space left on device" in printed.err
    assert "Traceback (most recent" not in printed.out + printed.err

    for cell in CELLS[:2]:
        assert json.loads((folder / cell / "run.json").read_text())["checkpoints"]
        assert_csv_is_whole_but_for_its_end(folder / cell, reference[cell])
        for weights in (folder / cell).glob("checkpoints/iteration_*/weights.npz"):
            assert all(np.isfinite(array).all() for array in np.load(weights).values())

    small_disk.remount("size=16m")
    assert run_here(file, disk, *TWO_CELLS, "--resume", *HERE) == 0
    for cell in CELLS[:2]:
        assert trace(folder / cell) == reference[cell]


def assert_csv_is_whole_but_for_its_end(cell_folder, reference):
    """Every line is the reference's, except that the last one may be cut."""
    (header, *_), _ = reference
    lines = (cell_folder / "iterations.csv").read_bytes().split(b"\n")
    rows = [line.decode().split(",") for line in lines[:-1]]
    seconds = rows[0].index("seconds")
    assert len(rows) > progress_of(cell_folder)
    without = [row[:seconds] + row[seconds + 1 :] for row in rows]
    assert without[0] == header
    assert without == reference[0][: len(rows)]


def test_a_read_only_disk_is_refused_before_anything_starts(small_disk, file, capfd):
    small_disk.remount("ro")
    assert run_here(file, small_disk.folder) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {small_disk.folder}")
    assert "Read-only file system" in line


# -- a file that changed --------------------------------------------------------------------------


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


# -- a process that was believed lost, and checkpoints --------------------------------------------


@pytest.fixture
def small_cell(tmp_path):
    """A cell that is trained in this process, and its folder."""
    settings = SETTINGS | {"hidden_sizes": [8, 8], "checkpoint_interval": 3, "lr": 0.02}
    (cell,) = load_experiment(write(tmp_path, "one.yaml", settings=settings)).cells()
    return cell, tmp_path / "one" / cell.name


@pytest.mark.usefixtures("ray_session")
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


@pytest.mark.usefixtures("ray_session")
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
    monkeypatch.setattr("rllib_lpdm.experiment.cell.save_checkpoint", save_slowly)
    with pytest.raises(SupersededError):
        lost.step()
    lost.close()
    assert seen.kept <= set(checkpoints(folder))
    seen.successor.step()
    seen.successor.close()
    assert read_run(folder)["failures"] == []


@pytest.mark.usefixtures("ray_session")
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
