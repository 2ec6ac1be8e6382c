"""What happens to a run whose processes are killed, interrupted or terminated."""

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from rllib_lpdm import tune
from rllib_lpdm.grid import signals
from rllib_lpdm.results.iterations import IterationWriter
from tests.experiment.files import read_run
from tests.experiment.processes import family, needs_proc, trainers, wait_until
from tests.experiment.survival.runs import CELLS, HERE, run_here
from tests.experiment.traces import contents, progress_of, status, trace

pytestmark = [pytest.mark.slow, needs_proc]
ROOT = Path(__file__).resolve().parents[3]
BOUND = 120  # seconds that a signal may take on a busy machine; a few on an idle one


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

    def end(self, timeout=900):
        return self._process.wait(timeout)

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
def ignored(number):
    """A signal that comes too late does not end the tests."""
    before = signal.signal(number, signal.SIG_IGN)
    yield
    signal.signal(number, before)


def resume_line(output):
    """What follows ``python -m rllib_lpdm.tune`` in the line that goes on."""
    return shlex.split(re.search(r"^  python -m rllib_lpdm\.tune (.*)$", output, re.M)[1])


@pytest.fixture(scope="module")
def disturbed(file, reference, tmp_path_factory):
    """One run whose driver is killed, interrupted and terminated before it may end.

    At the first end one cell is finished, one has a checkpoint and one has not begun. Killed is one
    that has joined the tests' Ray, interrupted one with a Ray of its own, and terminated is this
    process, which trains itself: the start of another one takes seconds.
    """
    home = tmp_path_factory.mktemp("disturbed")
    folder = home / "small"
    cells = first, second, _ = [folder / cell for cell in CELLS]
    seen = SimpleNamespace(folder=folder, seconds={}, status={}, output={}, left={})

    def total():
        return sum(map(progress_of, cells))

    words = [sys.executable, "-m", "rllib_lpdm.tune", str(file), "--output", str(home)]
    words += ["--max-concurrent", "1", "--wandb", "disabled"]

    joining = ["--address", ray.get_runtime_context().gcs_address]
    with driver([*words, *joining], home / "killed") as killed:
        killed.wait_until(
            lambda: status(first) == "finished" and progress_of(second),
            "one cell was finished and the next had a checkpoint",
        )
        seen.statuses = [status(cell) for cell in cells]
        seen.finished = contents(first)
        seen.refusal = io.StringIO()
        with redirect_stderr(seen.refusal):
            seen.refused = run_here(file, home, "--resume")
        running = family(os.getpid())
        os.kill(killed.pid, signal.SIGKILL)
        killed.end()
        with timed(seen, "kill"):
            wait_until(lambda: not trainers([second], running), "the killed run's cell stopped")
        done = total()
        with driver([*words, "--resume"], home / "interrupted") as interrupted:
            interrupted.wait_until(lambda: total() > done, "a cell went on")
            with timed(seen, "SIGINT"):
                os.killpg(interrupted.pid, signal.SIGINT)
                seen.status["SIGINT"] = interrupted.end()
            seen.output["SIGINT"] = interrupted.output()
            seen.left["SIGINT"] = [one for one in interrupted.processes if one.alive()]

    append = IterationWriter.append

    def append_and_terminate(writer, rows):
        append(writer, rows)
        if not hasattr(seen, "terminated_at"):
            seen.terminated_at = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)

    with (
        pytest.MonkeyPatch.context() as patch,
        ignored(signal.SIGTERM),
        redirect_stderr(io.StringIO()) as errors,
    ):
        patch.setattr(signals, "GRACE", 600.0)  # then it would end the tests
        patch.setattr(IterationWriter, "append", append_and_terminate)
        seen.status["SIGTERM"] = tune.main([*resume_line(seen.output["SIGINT"]), *HERE])
    seen.seconds["SIGTERM"] = time.monotonic() - seen.terminated_at
    seen.output["SIGTERM"] = errors.getvalue()
    seen.left["SIGTERM"] = list(trainers(cells, family(os.getpid())))

    seen.resumed = tune.main(resume_line(seen.output["SIGTERM"]))
    return seen


def test_a_run_killed_interrupted_and_terminated_ends_as_if_nothing_had_happened(
    disturbed, reference
):
    assert disturbed.statuses == ["finished", "running", None]
    assert disturbed.resumed == 0
    for cell in CELLS:
        assert trace(disturbed.folder / cell) == reference[cell]
        assert read_run(disturbed.folder / cell)["failures"] == []


def test_a_cell_that_was_finished_before_the_kill_is_left_alone(disturbed):
    assert contents(disturbed.folder / CELLS[0]) == disturbed.finished
    assert "1 of 3 cells are finished already, 1 go on" in disturbed.output["SIGINT"]


def test_a_second_run_in_the_same_folder_is_refused(disturbed):
    assert disturbed.refused == 2
    (line,) = disturbed.refusal.getvalue().splitlines()
    assert line.startswith(f"error: {disturbed.folder} is in use by another run")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_run_soon_with_its_status_and_the_line_that_goes_on(disturbed, name):
    assert disturbed.status[name] == 128 + getattr(signal, name)
    assert disturbed.seconds[name] < BOUND
    assert "to go on:" in disturbed.output[name]
    assert "Traceback" not in disturbed.output[name]
    assert disturbed.left[name] == []


def test_a_killed_driver_s_cells_stop_soon(disturbed):
    assert disturbed.seconds["kill"] < BOUND


def test_sigterm_is_an_interrupt_also_where_the_shell_has_made_sigint_ignored():
    with (
        ignored(signal.SIGINT),
        pytest.raises(KeyboardInterrupt),
        signals.termination_as_interrupt() as received,
    ):
        signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_where_ray_s_gcs_is_killed_the_last_line_says_how_to_go_on(file, tmp_path):
    words = [sys.executable, "-m", "rllib_lpdm.tune", str(file), "--output", str(tmp_path)]
    with driver([*words, "--wandb", "disabled"], tmp_path / "log") as started:
        begun = tmp_path / "small" / CELLS[0] / "iterations.csv"
        started.wait_until(begun.exists, "a cell began")
        (killed,) = (one for one in family(started.pid) if "/gcs_server " in one.title())
        killed.kill()
        began = time.monotonic()
        assert started.end() == 1
        assert time.monotonic() - began < 30  # of itself Ray waits for a minute
    last = started.output().splitlines()[-1]
    assert last.startswith("error: Ray's gcs_server has ended")
    assert "--resume" in last
