"""What a trial of Ray Tune does: one cell, and then perhaps another in the same process."""

from pathlib import Path
from typing import Any

import ray
from ray import tune

from rllib_lpdm.grid.cell import DISK_ERRORS, CellRun, quiet_environments
from rllib_lpdm.grid.resources import report_interval
from rllib_lpdm.results.storage import is_remote
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import described


class CellTrainable(tune.Trainable):
    """A cell as Tune sees it: every step is one report, of as many iterations as its time allows.

    An error ends the process, and :class:`TrialWatch` decides whether the cell gets another one.
    Only where a new process cannot help does the trial end with ``failed`` in its result.
    """

    def setup(self, config: dict[str, Any], job: dict[str, Any]) -> None:
        quiet_environments()
        self._job = job
        self._cell: Cell = job["cells"][config["cell"]["name"]]
        self._home: Path = job["folder"] / self._cell.name
        self._run: CellRun | None = None

    def step(self) -> dict[str, Any]:
        if not is_remote(self._home) and not self._home.parent.is_dir():
            return _failure(
                f"{self._home.parent} does not exist on node {ray.util.get_node_ip_address()}: "
                "--output must be on a file system that all nodes share, or a URL such as "
                "s3://bucket/folder"
            )
        try:
            if self._run is None:
                self._run = CellRun(
                    self._cell, self._home, self._job["command"], self._job["session"]
                )
            result = self._run.step(report_interval(self._cell, self._job))
            return {**result, "done": self._run.finished}
        except OSError as error:
            if error.errno in DISK_ERRORS and not is_remote(self._home):
                return _failure(described(error), disk=True)
            raise

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next cell in this process: everything is built anew, only the imports are kept."""
        self.cleanup()
        CellTrainable.setup(self, new_config, self._job)
        return True

    def cleanup(self) -> None:
        if self._run is not None:
            self._run.close()

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's own entries, without the config."""
        metrics: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        metrics.pop("config", None)
        return metrics


def _failure(reason: str, disk: bool = False) -> dict[str, Any]:
    return {"failed": reason, "disk": disk, "done": True}
