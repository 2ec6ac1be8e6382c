"""One cell from its first iteration to its last, in whatever process it runs."""

import dataclasses
import datetime
import traceback
from pathlib import Path
from typing import Any

from rllib_lpdm.algorithms import PPOConfig, ReinforceConfig
from rllib_lpdm.algorithms.algorithm import LocalAlgorithm
from rllib_lpdm.algorithms.config import LocalConfig
from rllib_lpdm.experiment.records import (
    IterationLog,
    newest_checkpoint,
    provenance,
    read_run,
    save_checkpoint,
    write_run,
)
from rllib_lpdm.experiment.spec import Cell


def algorithm_config(cell: Cell) -> LocalConfig:
    """The RLlib config that trains a cell."""
    config: LocalConfig
    if cell.algorithm == "ppo":
        config = PPOConfig()
    else:
        config = ReinforceConfig().training(baseline=cell.algorithm == "reinforce_baseline")
    settings = cell.settings.model_dump()
    own = {name: settings[name] for name in config.settings_class.model_fields}
    config.environment(cell.environment)
    config.training(method=cell.method, **own)
    config.debugging(seed=cell.seed)
    return config.env_runners(num_env_runners=cell.settings.env_runners)


class CellRun:
    """Trains a cell and keeps its folder; continues from the folder's checkpoint if it has one.

    Args:
        cell: what to train.
        folder: the cell's folder; made if it is missing.
        command: the command line that asked for it, for ``run.json``.
    """

    def __init__(self, cell: Cell, folder: Path, command: str) -> None:
        self.cell, self.folder = cell, folder
        self._record: dict[str, Any] = {
            "cell": cell.name,
            **{
                field.name: getattr(cell, field.name)
                for field in dataclasses.fields(cell)
                if field.name != "settings"
            },
            "settings": cell.settings.model_dump(mode="json"),
            **provenance(),
            "command": command,
            "started": (read_run(folder) or {}).get("started") or _now(),
            "finished": None,
        }
        self._write("running")
        try:
            self.algo: LocalAlgorithm = algorithm_config(cell).build_algo()
            checkpoint = newest_checkpoint(folder)
            if checkpoint is not None:
                self.algo.restore_from_path(checkpoint[0])
            self._log = IterationLog(folder, self.algo.iterations_done)
            if self.finished:  # the process ended between its last checkpoint and saying so
                self._finish()
        except Exception as error:
            self.fail(error)
            raise
        self._reports = 0

    @property
    def finished(self) -> bool:
        return self.algo.finished

    def step(self) -> dict[str, float]:
        """One report's iterations: trains, writes rows, saves a checkpoint when one is due.

        Returns:
            The slim result that Tune gets: iterations, env_steps, episode_return, episode_length;
            only the first two where the cell was finished before.
        """
        if self.finished:
            return {"iterations": self.algo.iterations_done, "env_steps": self.algo.env_steps}
        try:
            rows = self._train()
        except Exception as error:
            self.fail(error)
            raise
        last = rows[-1]
        return {
            "iterations": last["iteration"],
            "env_steps": last["env_steps"],
            "episode_return": sum(row["episode_return"] for row in rows) / len(rows),
            "episode_length": sum(row["episode_length"] for row in rows) / len(rows),
        }

    def _train(self) -> list[dict[str, float]]:
        self.algo.train()
        rows = self.algo.iteration_rows
        self._log.append(rows)
        self._reports += 1
        if self.finished or self._reports % self.cell.settings.checkpoint_interval == 0:
            save_checkpoint(self.folder, self.algo.iterations_done, self.algo)
        if self.finished:
            self._finish()
        return rows

    def _finish(self) -> None:
        self._record["finished"] = _now()
        self._write("finished")

    def fail(self, error: BaseException) -> None:
        """Leaves the traceback in the folder."""
        self._record["error"] = "".join(traceback.format_exception(error))
        self._write("failed")

    def close(self) -> None:
        self.algo.stop()

    def _write(self, status: str) -> None:
        write_run(self.folder, self._record | {"status": status})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
