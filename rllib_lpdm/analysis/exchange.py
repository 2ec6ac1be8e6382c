"""Scores in the forms that other libraries of statistics read: rliable's and marl-eval's."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_lpdm.analysis.aggregates import Scores, normalised_scores
from rllib_lpdm.analysis.cells import Results, Series
from rllib_lpdm.analysis.groups import Group, Groups, Place, grouped
from rllib_lpdm.results.checkpoints import packed
from rllib_lpdm.results.scores import Floats, max_score, smoothed
from rllib_lpdm.results.storage import write_whole
from rllib_lpdm.schema.messages import UserError

SUITE = "gymnasium"  # what marl-eval calls the environment; ours are its tasks
POINTS = 100  # of a run's curve, at most
TASKS_FILE, MARL_EVAL_FILE = "tasks.json", "marl_eval.json"


@dataclass(frozen=True)
class Comparison:
    """Runs that fill a matrix: every method has some on every task.

    Attributes:
        groups: all of them.
        tasks: the environments that all methods have.
        methods: algorithm and series by a name such as ``ppo_lpdm``.
        seeds: by method, those that it has on every task.
        notes: what had to be left out.
    """

    groups: Groups
    tasks: Sequence[str]
    methods: Mapping[str, tuple[str, Series]]
    seeds: Mapping[str, Sequence[int]]
    notes: Sequence[str]

    @classmethod
    def of(cls, results: Results) -> "Comparison":
        """The largest such comparison of an experiment's finished runs.

        Raises:
            UserError: no environment has runs of all methods by one and the same seed.
        """
        groups = grouped([cell for cell in results.cells if cell.finished])
        methods: dict[str, tuple[str, Series]] = {}
        for place, row in groups.items():
            for series in row:
                if (place.algorithm, series) not in methods.values():
                    methods[_new_name(place.algorithm, series, methods)] = place.algorithm, series
        environments = list(dict.fromkeys(place.environment for place in groups))
        lacking = {
            environment: [
                name
                for name, (algorithm, series) in methods.items()
                if series not in groups.get(Place(environment, algorithm), {})
            ]
            for environment in environments
        }
        tasks = [environment for environment in environments if not lacking[environment]]
        notes = [
            f"{environment} is left out: it has no finished runs of {', '.join(names)}"
            for environment, names in lacking.items()
            if names
        ]
        if not tasks:
            raise UserError(f"{results.name} has no environment with finished runs of all methods")
        seeds: dict[str, list[int]] = {}
        for name, (algorithm, series) in methods.items():
            of_tasks = [_seeds(groups[Place(task, algorithm)][series]) for task in tasks]
            seeds[name] = sorted(set.intersection(*map(set, of_tasks)))
            if not seeds[name]:
                raise UserError(f"{name} has no seed that is finished on all of {', '.join(tasks)}")
            if any(len(found) > len(seeds[name]) for found in of_tasks):
                notes.append(
                    f"{name}: seeds that are not finished on every environment are left out"
                )
        return cls(groups, tasks, methods, seeds, notes)

    def matrices(self) -> dict[str, dict[str, Floats]]:
        """By score and method (runs, tasks), as rliable takes them.

        The scores are a run's highest smoothed return and its mean return over the last tenth, as
        they are and between the environment's worst (0) and best run (1).
        """
        highest, last = normalised_scores(self.groups)
        scores = {
            "max_score": _of_groups(self.groups, "run_scores"),
            "end_score": _of_groups(self.groups, "run_ends"),
            "normalised_max_score": highest,
            "normalised_end_score": last,
        }
        return {
            score: {method: self._matrix(method, values) for method in self.methods}
            for score, values in scores.items()
        }

    def _matrix(self, method: str, scores: Scores) -> Floats:
        algorithm, series = self.methods[method]
        columns = []
        for task in self.tasks:
            place = Place(task, algorithm)
            of_seeds = zip(_seeds(self.groups[place][series]), scores[place][series], strict=True)
            by_seed = dict(of_seeds)
            columns.append([by_seed[seed] for seed in self.seeds[method]])
        return np.array(columns, np.float64).T

    def marl_eval(self) -> dict[str, Any]:
        """The raw data that marl-eval reads: environment, task, algorithm, run, step, metrics.

        It takes as many runs of every algorithm and as many steps of every run, so these are the
        seeds that all methods have and at most ``POINTS`` points of every curve. The metric is the
        smoothed return; the absolute one, of the best policy in training, is its maximum.
        """
        seeds = sorted(set.intersection(*map(set, self.seeds.values())))
        cells = {
            (task, name, cell.run.seed): cell
            for task in self.tasks
            for name, (algorithm, series) in self.methods.items()
            for cell in self.groups[Place(task, algorithm)][series].counted
            if cell.run.seed in seeds
        }
        points = min([POINTS, *(len(cell.returns) for cell in cells.values())])
        tasks: dict[str, Any] = {}
        for (task, name, seed), cell in cells.items():
            curve = smoothed(cell.returns)
            steps = cell.columns.get("env_steps", np.arange(1.0, len(curve) + 1))
            places = np.linspace(len(curve) / points, len(curve), points).round().astype(int) - 1
            run: dict[str, Any] = {
                f"step_{number}": {
                    "step_count": int(steps[place]),
                    "return": [float(curve[place])],
                }
                for number, place in enumerate(places, 1)
            }
            run["absolute_metrics"] = {"return": [max_score(cell.returns)]}
            # it looks names up in lower case
            tasks.setdefault(task.lower(), {}).setdefault(name, {})[f"seed_{seed}"] = run
        return {SUITE: tasks} if seeds else {}


def _new_name(algorithm: str, series: Series, taken: Collection[str]) -> str:
    """A name such as ``ppo_lpdm`` that is no other method's, and can name a file."""
    words = "_".join(filter(None, (algorithm, *series)))
    name = re.sub("[^A-Za-z0-9._-]+", "-", words).lstrip("._-") or "method"
    while name in taken:
        name += "-2"
    return name


def _of_groups(groups: Groups, name: str) -> Scores:
    return {
        place: {series: getattr(group, name) for series, group in row.items()}
        for place, row in groups.items()
    }


def _seeds(group: Group) -> list[int]:
    return [cell.run.seed for cell in group.counted]


def write_scores(results: Results, out: Path) -> tuple[list[Path], list[str]]:
    """Writes an experiment's scores for rliable and marl-eval.

    Args:
        results: of the experiment.
        out: a folder, made if need be; files of an earlier call are replaced.

    Returns:
        The files, and a sentence for everything that was left out.

    Raises:
        OSError: the folder cannot be written.
        UserError: the runs fill no matrix.
    """
    comparison = Comparison.of(results)
    out.mkdir(parents=True, exist_ok=True)
    files, notes = [], [*results.notes, *comparison.notes]
    for score, matrices in comparison.matrices().items():
        files.append(out / f"{score}.npz")
        write_whole(files[-1], packed(matrices))
    rows = {"tasks": list(comparison.tasks), "seeds": comparison.seeds}
    contents: dict[str, Any] = {TASKS_FILE: rows, MARL_EVAL_FILE: comparison.marl_eval()}
    if not contents[MARL_EVAL_FILE]:
        del contents[MARL_EVAL_FILE]
        notes.append(f"no {MARL_EVAL_FILE}: the methods have no seed in common")
    for name, content in contents.items():
        files.append(out / name)
        write_whole(files[-1], (json.dumps(content, allow_nan=False) + "\n").encode())
    return files, notes
