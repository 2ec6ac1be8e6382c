"""One cell from its first iteration to its last, in whatever process it runs."""

import datetime
import errno
import math
import os
import re
import shutil
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rllib_lpdm.algorithms.acting import acts_by_kernel
from rllib_lpdm.algorithms.algorithm import LocalAlgorithm
from rllib_lpdm.algorithms.config import LocalConfig
from rllib_lpdm.grid.provenance import provenance
from rllib_lpdm.grid.trackers import Tracker, trackers_of
from rllib_lpdm.local_learning.pair_matching import NUMBA, TORCH, kernel_for
from rllib_lpdm.methods import METHODS
from rllib_lpdm.results.checkpoints import (
    checkpoints,
    drop_unfinished_checkpoints,
    newest_checkpoint,
    save_checkpoint,
)
from rllib_lpdm.results.iterations import IterationWriter
from rllib_lpdm.results.record import Failure, RunRecord, Status
from rllib_lpdm.results.remote import RemoteCell
from rllib_lpdm.results.scores import finite, smoothed
from rllib_lpdm.results.storage import drop_unfinished_files, is_remote
from rllib_lpdm.schema.catalogue import ALGORITHMS
from rllib_lpdm.schema.environments import import_modules
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import described

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def quiet_environments() -> None:
    """Turns off gymnasium's advice to use newer versions: the paper's are asked for by name."""
    gym.logger.min_level = gym.logger.ERROR


class SupersededError(RuntimeError):
    """Another process has taken the cell over; this one must leave its folder alone."""


def algorithm_config(cell: Cell) -> LocalConfig:
    """The RLlib config that trains a cell."""
    import_modules(cell.imports)  # for what they register
    config = ALGORITHMS[cell.algorithm].config()
    own = cell.settings.model_dump(include=set(config.settings_class.model_fields))
    config.environment(cell.maker.spec.id, env_config=cell.maker.env_config)
    config.training(method=cell.method, **own)
    config.debugging(seed=cell.seed, log_sys_usage=False)  # its thread would delay every end
    config.learners(num_learners=cell.settings.learners)
    return config.env_runners(num_env_runners=cell.settings.env_runners)


class CellRun:
    """Trains a cell and keeps its folder; continues from the folder's checkpoint if it has one.

    Only the process that opened the folder last writes into it: one that was believed lost, and
    comes back, stops at its next rows. (Only one that comes back just as it writes ``run.json``
    takes the cell back, and its successor stops.)

    Args:
        cell: what to train.
        home: the cell's folder, made if it is missing; behind a URL, a copy of it is worked on and
            published with every checkpoint.
        command: the command line that asked for it, for ``run.json``.
        session: names the run of the whole experiment; failures of earlier ones are forgotten.
    """

    def __init__(self, cell: Cell, home: Path, command: str, session: str = "") -> None:
        import_modules(cell.imports)  # for what they register
        self.cell, self._home = cell, home
        self._blocks = 0
        self._algo: LocalAlgorithm | None = None
        self._log: IterationWriter | None = None
        self._trackers: list[Tracker] = []
        self._remote: RemoteCell | None = None
        self.folder = home
        if is_remote(home):
            self.folder = Path(tempfile.mkdtemp(prefix="rllib_lpdm-")) / cell.name
            self._remote = RemoteCell(home, self.folder)
            self._remote.fetch()
        before = RunRecord.read(self.folder)
        self._record = new_record(cell, before, command, session).updated(
            process=f"{os.getpid()}-{uuid.uuid4().hex}", kernel=kernel_of(cell), **provenance()
        )
        self._store("running")
        try:
            self._start()
        except Exception as error:
            self.fail(error)
            self.close()
            raise

    def _start(self) -> None:
        drop_unfinished_checkpoints(self.folder)
        drop_unfinished_files(self.folder)
        with _without_our_files():
            self._algo = algorithm_config(self.cell).build_algo()
        checkpoint = newest_checkpoint(self.folder)
        if checkpoint is not None:
            _restore(self._algo, checkpoint[0])
        self._log = IterationWriter(self.folder, self.algo.iterations_done)
        for tracker in trackers_of(self.cell.settings):
            tracker.begin(self.folder, self._record, self.algo.iterations_done)
            self._trackers.append(tracker)
        if self.finished:  # the process ended between its last checkpoint and saying so
            self._write("finished")

    @property
    def algo(self) -> LocalAlgorithm:
        assert self._algo is not None
        return self._algo

    @property
    def finished(self) -> bool:
        return self.algo.finished

    def step(self, seconds: float = 0.0) -> dict[str, Any]:
        """One report: trains, writes rows, saves a checkpoint when one is due.

        Rows, checkpoints and what is learned come block by block (a ``train()`` each), and are the
        same wherever reports fall.

        Args:
            seconds: so long it goes on with another block; 0 for one block.

        Returns:
            The slim result that Tune gets: iterations and env_steps so far, score (the smoothed
            return); and of this report new_iterations, new_env_steps and seconds.

        Raises:
            SupersededError: another process has taken the cell over.
        """
        iterations, env_steps = self.algo.iterations_done, self.algo.env_steps
        started = time.perf_counter()
        try:
            while not self.finished:
                self._train()
                if time.perf_counter() - started >= seconds:
                    break
        except Exception as error:
            self.fail(error)
            raise
        return {
            "iterations": self.algo.iterations_done,
            "env_steps": self.algo.env_steps,
            "score": self._score(),
            "new_iterations": self.algo.iterations_done - iterations,
            "new_env_steps": self.algo.env_steps - env_steps,
            "seconds": time.perf_counter() - started,
        }

    def _score(self) -> float | None:
        assert self._log is not None
        if not self._log.returns:
            return None
        score = smoothed(finite(np.array(self._log.returns)))[-1]
        return float(score) if np.isfinite(score) else None

    def _train(self) -> None:
        assert self._log is not None
        with _without_our_files():
            self.algo.train()
        rows = self.algo.iteration_rows
        self._check_owner()
        self._log.append(rows)
        _check_learning(rows)
        for tracker in self._trackers:
            tracker.rows(rows)
        self._blocks += 1
        if self.finished or self._blocks % self.cell.settings.checkpoint_interval == 0:
            save_checkpoint(self.folder, self.algo, self._log.returns, self._check_owner)
            self._write("finished" if self.finished else "running")

    def _check_owner(self) -> None:
        run = RunRecord.read(self._home)
        if run is None or run.process != self._record.process:
            raise SupersededError(f"{self._home}: another process has taken this cell over")

    def fail(self, error: Exception) -> None:
        """Leaves the traceback in the folder.

        Raises:
            SupersededError: the folder is no longer this process's.
        """
        self._check_owner()
        text = "".join(traceback.format_exception(error))
        checkpoint = max(checkpoints(self.folder), default=0)
        done = self._algo.iterations_done if self._algo else 0
        may_pass = isinstance(error, OSError | MemoryError)
        self._record = with_failure(self._record, text, checkpoint, None if may_pass else done)
        self._write("failed")

    def close(self) -> None:
        if self._algo is not None:
            self._algo.stop()
        if self._log is not None:
            self._log.close()
        status = self._record.status
        for tracker in self._trackers:
            tracker.end("interrupted" if status == "running" else status)
        if self._remote is not None:
            shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _write(self, status: Status) -> None:
        self._check_owner()
        self._store(status)

    def _store(self, status: Status) -> None:
        self._record = self._record.updated(
            score=self._score() if self._log is not None else self._record.score,
            checkpoints=tuple(path.name for path in checkpoints(self.folder).values()),
            finished=_now() if status == "finished" else None,
            status=status,
        )
        self._record.write(self.folder)
        if self._remote is not None:
            self._remote.publish()


def kernel_of(cell: Cell) -> str:
    """Whether compiled loops take part: its networks are in single precision on the CPU."""
    settings = cell.settings
    in_torch = settings.conv_layers or settings.acts_by_mean(cell.method)
    if not in_torch and acts_by_kernel(settings.activation, settings.black_box):
        return NUMBA
    if METHODS[cell.method].matches_distances:
        return kernel_for(settings.metric, torch.float32, torch.device("cpu"))
    return TORCH


def new_record(cell: Cell, before: RunRecord | None, command: str, session: str) -> RunRecord:
    """What ``run.json`` says of a cell that is about to start.

    Args:
        cell: the cell.
        before: what it says so far, None if there is none.
        command: the command line.
        session: the experiment's run; failures that another one recorded are left out.
    """
    same_session = before is not None and before.session == session
    return RunRecord(
        cell=cell.name,
        environment=cell.environment,
        environment_spec=cell.environment_record,
        algorithm=cell.algorithm,
        method=cell.method,
        seed=cell.seed,
        variant=cell.variant,
        settings=cell.settings.model_dump(mode="json"),
        command=command,
        run_id=(before and before.run_id) or uuid.uuid4().hex[:8],
        session=session,
        started=(before and before.started) or _now(),
        finished=None,
        score=before.score if before else None,
        checkpoints=before.checkpoints if before else (),
        failures=before.failures if before and same_session else (),
    )


def with_failure(
    run: RunRecord, error: str, checkpoint: int, iteration: int | None = None
) -> RunRecord:
    """Returns a record with one more failure; see :class:`Failure` for the arguments."""
    failure = Failure(time=_now(), checkpoint=checkpoint, iteration=iteration, error=error)
    return run.updated(failures=(*run.failures, failure), error=error, status="failed")


def given_up(run: RunRecord, retries: int) -> bool:
    """Returns whether a cell that failed is left as it is.

    That is so after more than ``retries`` failures since its last checkpoint, or when an error
    has repeated itself: a cell computes the same each time, and would meet it again.
    """
    if not run.failures:
        return False
    *before, last = (f for f in run.failures if f.checkpoint == run.failures[-1].checkpoint)
    repeated = last.iteration is not None and any(
        failure.iteration == last.iteration and _frames(failure) == _frames(last)
        for failure in before
    )
    return repeated or len(before) >= retries


def _frames(failure: Failure) -> list[str]:
    """The lines of a traceback that say where it passed; the message may hold an address."""
    return re.findall(r'^ *File ".*', failure.error, re.MULTILINE)


@contextmanager
def _without_our_files() -> Iterator[None]:
    """Raises a disk error as another, because it is not about the files of a cell.

    A disk error about those ends the whole run.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise RuntimeError(f"the environment raised {described(error)}") from error


def _check_learning(rows: Sequence[Mapping[str, float]]) -> None:
    """Raises FloatingPointError where not one row of a report comes of an update."""
    if rows and not any(math.isfinite(row["policy_loss"]) for row in rows):
        raise FloatingPointError(
            f"every update of iterations {rows[0]['iteration']:.0f} to "
            f"{rows[-1]['iteration']:.0f} was skipped: rewards or observations of "
            "the environment are not finite numbers, or too large"
        )


def _restore(algo: LocalAlgorithm, checkpoint: Path) -> None:
    try:
        for path in checkpoint.rglob("*"):
            if not (path.is_file() or path.is_dir()):  # it might keep its reader for ever
                raise OSError(f"{path} is not a regular file")
        algo.restore_from_path(checkpoint)
    except Exception as error:
        raise ValueError(
            f"{checkpoint} cannot be read; delete it to continue from an earlier checkpoint, or "
            "the cell's folder to run the cell again"
        ) from error


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
