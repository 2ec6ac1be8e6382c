"""Which cell is trained next, and what is done when the process of one is lost."""

import re
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray import cloudpickle, tune
from ray.tune.search import Searcher

from rllib_lpdm.grid.cell import SupersededError, given_up, new_record, with_failure
from rllib_lpdm.grid.progress import Progress
from rllib_lpdm.grid.resources import helpers
from rllib_lpdm.grid.trackers.follower import CellFollower
from rllib_lpdm.results.checkpoints import checkpoints
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import described, one_line


class CellQueue(Searcher):
    """Gives Tune one cell after the other, and those whose process was lost once more.

    What a cell costs here does not grow with their number. (Of a ``grid_search``, all values are
    copied for every trial.)
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        self._waiting = deque(cells)
        self.open = len(cells)  # cells that have not ended

    def suggest(self, trial_id: str) -> Any:
        """What distinguishes a trial; kept small, because Tune copies and encodes it often."""
        if not self._waiting:
            return None if self.open else Searcher.FINISHED
        cell = self._waiting.popleft()
        settings = cell.settings
        resources = (settings.cpus, helpers(settings), settings.placement)
        return {"cell": {"name": cell.name, "resources": resources}}

    def again(self, cell: Cell) -> None:
        """The cell needs another trial."""
        self._waiting.append(cell)

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        return True

    def on_trial_complete(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to learn from."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: every cell says itself how far it is."""

    restore = save

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialWatch(tune.Callback):
    """Follows the trials: tells progress and W&B, gives a cell that was lost another trial.

    Args:
        cells: those to run.
        job: what all trials share: ``cells`` by name, ``folder``, ``command``, ``session``.
        progress: hears of everything.
        wandb: likewise.

    Attributes:
        queue: of the cells.
        ended: names of the cells that finished or failed for good.
        failed: of those that failed, the reason.
        disk_error: why nothing can be written any more; None while it can.
    """

    def __init__(
        self, cells: Sequence[Cell], job: dict[str, Any], progress: Progress, wandb: CellFollower
    ) -> None:
        self._job, self._progress, self._wandb = job, progress, wandb
        self._recorded: Counter[str] = Counter()  # failures in run.json that were reckoned with
        self.queue = CellQueue(cells)
        self.ended: set[str] = set()
        self.failed: dict[str, str] = {}
        self.disk_error: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune saves its callbacks for a way to resume that is not used here."""
        return {}

    def finish(self, name: str, failure: str | None = None) -> None:
        """A cell has ended, by a failure or well."""
        self.ended.add(name)
        self.queue.open -= 1
        if failure is None:
            self._progress.completed(name)
        else:
            self.failed[name] = failure
            self._progress.failed(name, failure)
        self._wandb.finish(self._job["folder"] / name, failed=failure is not None)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.started(str(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "failed" not in result:
            self.report(str(trial), result)

    def report(self, name: str, result: dict[str, Any]) -> None:
        """A cell has made a step."""
        self._progress.reported(name, result)
        self._wandb.update(self._job["folder"] / name)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._progress.tick()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        if result.get("disk"):
            self.disk_error = result["failed"]
        elif result.get("done"):  # else it was stopped with all others
            self.finish(str(trial), result.get("failed"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name, end = str(trial), _end_of(trial)
        if end.lost_node or self._may_go_on(name, end):
            self._progress.retried(name, end.reason)
            self.queue.again(self._job["cells"][name])
        else:
            self.finish(name, end.reason)

    def _may_go_on(self, name: str, end: "_End") -> bool:
        """Whether a cell has retries left; records the failure if its process could not.

        A process of this run that was believed lost may have come back just as it was writing, and
        have taken the cell from its successor: that counts as a failure, after which the next one
        takes it back. What another run has taken is left to it.
        """
        home: Path = self._job["folder"] / name
        cell: Cell = self._job["cells"][name]
        try:
            run = RunRecord.read(home)
            if run is None or run.session != self._job["session"]:
                if end.superseded:
                    return False
                run = new_record(cell, run, self._job["command"], self._job["session"])
            if len(run.failures) == self._recorded[name]:
                run = with_failure(
                    run, f"{end.reason}\n{end.text}", max(checkpoints(home), default=0)
                )
                run.write(home)
        except Exception:  # of any class behind a URL; retries without a count would have no end
            return False
        self._recorded[name] = len(run.failures)
        return not given_up(run, cell.settings.retries)


class _End(NamedTuple):
    """Why the process of a trial ended.

    Attributes:
        reason: in one line.
        text: all that is known.
        lost_node: whether its node, or the connection to it, was lost.
        superseded: whether another process has taken the cell over.
    """

    reason: str
    text: str
    lost_node: bool = False
    superseded: bool = False


def _end_of(trial: Any) -> _End:
    error: Any = None  # as Tune has written it down on this machine
    if trial.pickled_error_file is not None:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    text = str(error)
    if isinstance(error, ray.exceptions.RayTaskError):
        superseded = isinstance(error.cause, SupersededError)
        return _End(described(error.cause or error), text, superseded=superseded)
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return _End("its node does not answer", text, lost_node=True)
    if isinstance(error, ray.exceptions.RayActorError):
        if error.preempted or "node has died" in text:
            return _End("its node was lost", text, lost_node=True)
        if error.actor_init_failed:
            return _End(one_line(text.strip().splitlines()[-1]), text)
    detail = re.search(r"Worker exit detail: (.+?)(\. |$)", text, re.MULTILINE)
    return _End(f"its process was lost: {one_line(detail[1] if detail else text, 200)}", text)
