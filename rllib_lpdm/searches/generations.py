"""Decides which cells of a search run next, from the files in the cells' folders alone.

All cells of a generation end before the next generation begins. So a search that was killed goes on
to the same end, with any number of cells at once.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rllib_lpdm.results.iterations import RETURN, read_columns
from rllib_lpdm.results.layout import ITERATIONS_FILE
from rllib_lpdm.results.record import RunRecord, read_runs
from rllib_lpdm.results.scores import Floats, end_score, finite, max_score, mean_score
from rllib_lpdm.results.search_record import SearchedCell
from rllib_lpdm.results.storage import read_file
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.search_section import LowerBound
from rllib_lpdm.searches.choice import best, calibrated, ranked
from rllib_lpdm.searches.proposals import Values, optuna_proposals
from rllib_lpdm.searches.studies import Search, Study, configuration_name, kind_of

SCORES = {score.__name__: score for score in (max_score, end_score, mean_score)}


@dataclass(frozen=True)
class Generation:
    """Cells that run together; their settings say how many iterations they train for now."""

    title: str
    cells: Sequence[Cell]
    over: bool  # whether a later one has begun; then failed cells are not tried again


@dataclass
class Trial:
    """A configuration in the last rung that it took part in.

    Attributes:
        rung: the rung's number, from 0.
        cells: its cells in that rung.
        results: records of the cells, in their order; empty until they have ended.
        returns: (iterations,) mean episode returns of each cell; None where it has no score.
        score: by the criterion, among the trials of that rung; nan where no cell has one.
    """

    number: int
    values: Values
    rung: int
    cells: Sequence[Cell]
    results: Sequence[SearchedCell] = ()
    returns: Sequence[Floats | None] = ()
    score: float = math.nan


@dataclass
class StudyTrials:
    """The trials of a study by number, and the noise of the last rung's scores."""

    study: Study
    by_number: dict[int, Trial] = field(default_factory=dict)
    noise: float = 0.0

    @property
    def last(self) -> list[Trial]:
        """The trials of the last rung that any has reached."""
        rung = max(trial.rung for trial in self.by_number.values())
        return [trial for trial in self.by_number.values() if trial.rung == rung]

    def best(self, count: int) -> dict[int, Values]:
        """Returns the values of the best trials of the last rung by number."""
        last = self.last
        indices = best(np.array([trial.score for trial in last]), count)
        return {last[index].number: last[index].values for index in indices}


class SearchSchedule:
    """The generations of a search in an experiment's folder."""

    def __init__(self, search: Search, folder: Path) -> None:
        self.search, self.folder = search, folder
        self.studies = [StudyTrials(study) for study in search.studies]
        self.is_outdated = False  # whether the folder's content is still to be deleted
        halving = search.section.halving
        self.rungs: Sequence[float] = halving.rungs if halving else (1.0,)

    def generations(self) -> Iterator[Generation]:
        """Yields the generations in turn; ask for the next when the cells of one have ended.

        Raises:
            UserError: a file of a cell is damaged.
        """
        section = self.search.section
        if section.proposer == "optuna":
            yield from self._proposed_by_optuna()
        else:
            yield from self._halved()
        if more := section.more_seeds:
            values, rung = [study.best(more.keep) for study in self.studies], len(self.rungs)
            title = f"more seeds for the best {more.keep}"
            yield from self._run(title, rung, values, seeds=section.all_seeds)

    def records(self) -> dict[str, RunRecord]:
        """Returns the records of all cells that have begun.

        Raises:
            UserError: one of them is damaged.
        """
        if self.is_outdated or not self.folder.exists():
            return {}
        runs, damaged = read_runs(self.folder)
        if damaged:
            raise UserError(next(iter(damaged.values())))
        return runs

    def count_after_rung(self, count: int) -> int:
        """Returns how many of `count` configurations go on after a rung."""
        halving = self.search.section.halving
        return max(1, math.ceil(halving.keep * count)) if halving else count

    def _halved(self) -> Iterator[Generation]:
        """Yields a generation for each rung; the best configurations go on to the next rung."""
        search, rungs = self.search, self.rungs
        values = [dict(enumerate(search.proposals(study))) for study in search.studies]
        for rung, share in enumerate(rungs):
            title = f"rung {rung + 1} of {len(rungs)}" if len(rungs) > 1 else "all configurations"
            yield from self._run(title, rung, values, share=share)
            kept = self.count_after_rung(len(values[0]))
            values = [study.best(kept) for study in self.studies]

    def _proposed_by_optuna(self) -> Iterator[Generation]:
        """Yields generations of some configurations, each proposed with all that is known."""
        section = self.search.section
        count, size = section.configurations, section.generation
        for first in range(0, count, size):
            numbers = range(first, min(first + size, count))
            runs = self.records()
            values = [self._optuna_values(study, numbers, runs) for study in self.studies]
            title = f"configurations {numbers[0]} to {numbers[-1]} of {count}"
            yield from self._run(title, 0, values, later=range(numbers.stop, count))

    def _optuna_values(
        self, trials: StudyTrials, numbers: range, runs: Mapping[str, RunRecord]
    ) -> dict[int, Values]:
        """Returns values by number; a configuration that has begun keeps those it began with."""
        search, study = self.search, trials.study
        if numbers.start == 0:
            proposals = search.proposals(study)[: len(numbers)]
        else:
            defaults = search.defaults(study)
            known = [(trial.values or defaults, trial.score) for trial in trials.last]
            proposals = optuna_proposals(search.section, study.space, known, numbers)
        values = dict(zip(numbers, proposals, strict=True))
        for number in filter(None, numbers):
            begun = {
                name: runs[cell.name].settings[name]
                for cell in search.cells(study, number, {})
                if cell.name in runs
                for name, dimension in study.space.items()
                if dimension.applies(*kind_of(cell)) and name in runs[cell.name].settings
            }
            if begun.keys() == study.space.keys():
                values[number] = begun
        return values

    def _run(
        self,
        title: str,
        rung: int,
        values: Sequence[Mapping[int, Values]],
        *,
        share: float = 1.0,
        later: range = range(0),
        seeds: Sequence[int] | None = None,
    ) -> Iterator[Generation]:
        """Yields one generation, and scores its trials after its cells have ended.

        Args:
            title: the generation's name.
            rung: the number of its rung.
            values: the values of configurations by number, for each study.
            share: share of the iterations to train for.
            later: numbers of the configurations that begin after this generation.
            seeds: the seeds of the last generation, where those are more.
        """
        trials = [
            [
                Trial(number, own, rung, self.search.cells(of.study, number, own, share, seeds))
                for number, own in numbered.items()
            ]
            for of, numbered in zip(self.studies, values, strict=True)
        ]
        cells = [cell for each in trials for trial in each for cell in trial.cells]
        order = seeds or self.search.section.seeds
        cells.sort(key=lambda cell: order.index(cell.seed))  # every configuration has one early
        yield Generation(title, cells, seeds is None and self._later_has_begun(cells, later))
        runs = self.records()
        for of, new in zip(self.studies, trials, strict=True):
            of.by_number |= {trial.number: trial for trial in new}
            self._score(of, runs)

    def _later_has_begun(self, cells: Sequence[Cell], later: range) -> bool:
        """Tells whether a later generation than that of these cells has begun."""
        runs, more = self.records(), self.search.section.more_seeds
        later_names = {configuration_name(number) for number in later}
        return any(
            run.variant in later_names or (more is not None and run.seed in more.seeds)
            for run in runs.values()
        ) or any(
            (runs[cell.name].settings.get("iterations") or 0) > (cell.settings.iterations or 0)
            for cell in cells
            if cell.name in runs
        )

    def _score(self, trials: StudyTrials, runs: Mapping[str, RunRecord]) -> None:
        """Scores the trials of the last rung against one another."""
        section, kinds, compared = self.search.section, trials.study.kinds, trials.last
        calibration, criterion = section.calibration, section.criterion
        measure = criterion.lower_bound if isinstance(criterion, LowerBound) else criterion
        if calibration or not isinstance(measure, str):
            measure = "max_score"
        for trial in compared:
            results = [self._result(cell, runs.get(cell.name), measure) for cell in trial.cells]
            trial.results, trial.returns = zip(*results, strict=True)
        if calibration:
            count = len(kinds)
            curves = [[trial.returns[k::count] for k in range(count)] for trial in compared]
            targets = [self.search.targets.get(kind) for kind in kinds]
            ranking = calibrated(curves, calibration, targets)
        else:
            scores = np.array([[r.score for r in trial.results] for trial in compared], float)
            by_kind = scores.reshape(len(compared), -1, len(kinds)).transpose(0, 2, 1)
            ranking = ranked(by_kind, criterion if isinstance(criterion, LowerBound) else measure)
        trials.noise = ranking.noise
        for trial, score in zip(compared, ranking.scores.tolist(), strict=True):
            trial.score = score

    def _result(
        self, cell: Cell, run: RunRecord | None, measure: str
    ) -> tuple[SearchedCell, Floats | None]:
        """Returns a cell's record, with the score of that name in ``SCORES``, and its returns."""
        path = self.folder / cell.name / ITERATIONS_FILE
        wanted, needed = cell.settings.iterations or 0, ("env_steps", "seconds")
        columns: Mapping[str, Floats] | None = None
        if run is not None and path.is_file():
            try:
                columns = read_columns(read_file(path), lambda name: name in needed)
            except (OSError, ValueError) as error:
                raise UserError(f"{path.parent}: {error}") from None
        returns = finite(columns[RETURN][:wanted]) if columns else np.zeros(0)
        zeros = np.zeros(len(returns))
        steps, seconds = ((columns or {}).get(name, zeros)[:wanted] for name in needed)
        reached = run is not None and run.iteration >= wanted == len(returns)
        is_whole = reached and bool(np.isfinite(returns).all())
        record = SearchedCell(
            cell=cell.name,
            environment=cell.environment,
            algorithm=cell.algorithm,
            method=cell.method,
            seed=cell.seed,
            iterations=len(returns),
            score=SCORES[measure](returns) if is_whole else None,
            env_steps=int(np.nan_to_num(steps[-1])) if len(steps) else 0,
            cpu_hours=float(np.nansum(seconds)) / 3600,
        )
        return record, returns if is_whole else None
