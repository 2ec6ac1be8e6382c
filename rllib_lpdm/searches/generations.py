"""Which cells a search runs next, generation by generation, from what the cells' folders hold.

All cells of a generation end before the next begins, and what is decided between them depends on
the cells' files alone. So a search that was killed goes on as if it had not been, and ends the same
with any number of cells at once.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rllib_lpdm.results.record import RunRecord, read_runs
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.search_section import LowerBound, MoreSeeds
from rllib_lpdm.searches.asking import asked
from rllib_lpdm.searches.choice import best, calibrated, ranked
from rllib_lpdm.searches.standing import Standing, standing
from rllib_lpdm.searches.studies import (
    Search,
    Study,
    Values,
    configuration_name,
    in_turn,
)


@dataclass(frozen=True)
class Generation:
    """Cells that run together.

    Attributes:
        title: what it is, in a line.
        cells: of all studies; their settings say how many iterations they train for now.
        over: whether a later one has begun, so that its failed cells are not tried again.
    """

    title: str
    cells: Sequence[Cell]
    over: bool


@dataclass(frozen=True)
class Trial:
    """A configuration as far as it came.

    Attributes:
        number, values: of it.
        rung: the last that it took part in, from 0.
        cells: those of that rung.
        standings: of these, in their order.
        score: by the criterion among those of that rung; nan where no cell has one.
    """

    number: int
    values: Values
    rung: int
    cells: Sequence[Cell]
    standings: Sequence[Standing]
    score: float


@dataclass
class Trials:
    """The configurations of a study, and the noise of the last rung's scores."""

    study: Study
    by_number: dict[int, Trial] = field(default_factory=dict)
    noise: float = 0.0

    @property
    def last(self) -> list[Trial]:
        """Those that reached the last rung that any did."""
        rung = max(trial.rung for trial in self.by_number.values())
        return [trial for _, trial in sorted(self.by_number.items()) if trial.rung == rung]


class Progression:
    """A search in its folder.

    Args:
        search: what is searched.
        folder: the experiment's.
    """

    def __init__(self, search: Search, folder: Path) -> None:
        self.search, self.folder = search, folder
        self.trials = [Trials(study) for study in search.studies]
        self.outdated = False  # whether what is in the folder is yet to be deleted

    @property
    def rungs(self) -> Sequence[float]:
        halving = self.search.section.halving
        return halving.rungs if halving else (1.0,)

    def generations(self) -> Iterator[Generation]:
        """The generations in turn; the next may be asked for when the cells of one have ended."""
        if self.search.section.proposer == "optuna":
            yield from self._asked()
        else:
            yield from self._halved()
        if more := self.search.section.more_seeds:
            yield from self._on_more_seeds(more)

    def records(self) -> dict[str, RunRecord]:
        """The records of all cells that have begun.

        Raises:
            UserError: one of them is damaged.
        """
        if self.outdated or not self.folder.exists():
            return {}
        runs, damaged = read_runs(self.folder)
        if damaged:
            raise UserError(next(iter(damaged.values())))
        return runs

    # -- random and Sobol: all at once, the best of a rung going on --------------------------------

    def _halved(self) -> Iterator[Generation]:
        search, rungs = self.search, self.rungs
        drawn = [search.drawn_of(study) for study in search.studies]
        kept = [list(range(search.section.configurations)) for _ in search.studies]
        for rung, share in enumerate(rungs):
            cells = {
                (place, number): search.cells(study, number, drawn[place][number], share)
                for place, study in enumerate(search.studies)
                for number in kept[place]
            }
            flat = [cell for members in cells.values() for cell in members]
            title = f"rung {rung + 1} of {len(rungs)}" if len(rungs) > 1 else "all configurations"
            yield Generation(title, in_turn(flat, search.section.seeds), self._extended(flat))
            for place, trials in enumerate(self.trials):
                members = {number: cells[place, number] for number in kept[place]}
                values = {number: drawn[place][number] for number in kept[place]}
                self._rank(trials, rung, members, values)
                if rung + 1 < len(rungs):
                    scores = np.array([trials.by_number[n].score for n in kept[place]])
                    kept[place] = [kept[place][i] for i in best(scores, self.going_on(len(scores)))]

    def going_on(self, count: int) -> int:
        """How many of some configurations go on after a rung."""
        halving = self.search.section.halving
        return max(1, math.ceil(halving.keep * count)) if halving else count

    def _extended(self, cells: Sequence[Cell]) -> bool:
        """Whether a later generation has begun: any of some cells has gone on, or more seeds."""
        runs = self.records()
        return self._has_more_seeds(runs) or any(
            (runs[cell.name].settings.get("iterations") or 0) > (cell.settings.iterations or 0)
            for cell in cells
            if cell.name in runs
        )

    # -- optuna: some at a time, each time with all that is known ----------------------------------

    def _asked(self) -> Iterator[Generation]:
        search, size = self.search, self.search.section.generation
        count = search.section.configurations
        for first in range(0, count, size):
            numbers = range(first, min(first + size, count))
            runs = self.records()
            cells: list[dict[int, list[Cell]]] = []
            values: list[dict[int, Values]] = []
            for trials in self.trials:
                as_it_stands = search.defaults(trials.study)
                known = [
                    (trial.values or as_it_stands, trial.score)
                    for _, trial in sorted(trials.by_number.items())
                ]
                new = (
                    search.drawn_of(trials.study)[: len(numbers)]
                    if first == 0
                    else asked(search.section, trials.study, known, len(numbers), first)
                )
                values.append(
                    {
                        number: self._begun(trials.study, number, runs) or proposed
                        for number, proposed in zip(numbers, new, strict=True)
                    }
                )
                cells.append({n: search.cells(trials.study, n, v) for n, v in values[-1].items()})
            flat = [cell for members in cells for each in members.values() for cell in each]
            later = {configuration_name(n) for n in range(numbers[-1] + 1, count)}
            title = f"configurations {numbers[0]} to {numbers[-1]} of {count}"
            over = any(run.variant in later for run in runs.values())
            over = over or self._has_more_seeds(runs)
            yield Generation(title, in_turn(flat, search.section.seeds), over)
            for trials, members, own in zip(self.trials, cells, values, strict=True):
                done = {n: trial.cells for n, trial in trials.by_number.items()}
                known_values = {n: trial.values for n, trial in trials.by_number.items()}
                self._rank(trials, 0, done | members, known_values | own)

    def _begun(self, study: Study, number: int, runs: Mapping[str, RunRecord]) -> Values | None:
        """The values that a configuration's cells have begun with, None where none has."""
        found: Values = {}
        for cell in self.search.cells(study, number, {}):
            run = runs.get(cell.name)
            if run is None or number == 0:
                continue
            kind = (cell.environment, cell.algorithm, cell.method)
            for name, dimension in study.space.items():
                if dimension.applies(*kind) and name in run.settings:
                    found[name] = run.settings[name]
        return found if found.keys() == study.space.keys() else None

    # -- the best of either, on more seeds ---------------------------------------------------------

    def _on_more_seeds(self, more: MoreSeeds) -> Iterator[Generation]:
        search, seeds = self.search, self.search.section.all_seeds
        kept: list[list[Trial]] = []
        for trials in self.trials:
            scores = np.array([trial.score for trial in trials.last])
            kept.append([trials.last[index] for index in best(scores, more.keep)])
        cells = [
            {
                each.number: search.cells(t.study, each.number, each.values, 1.0, seeds)
                for each in of
            }
            for t, of in zip(self.trials, kept, strict=True)
        ]
        flat = [cell for members in cells for each in members.values() for cell in each]
        title = f"more seeds for the best {more.keep}"
        yield Generation(title, in_turn(flat, seeds), over=False)
        for trials, members, of in zip(self.trials, cells, kept, strict=True):
            values = {each.number: each.values for each in of}
            self._rank(trials, len(self.rungs), members, values, seeds)

    def _has_more_seeds(self, runs: Mapping[str, RunRecord]) -> bool:
        more = self.search.section.more_seeds
        return more is not None and any(run.seed in more.seeds for run in runs.values())

    # -- scores -----------------------------------------------------------------------------------

    def _rank(
        self,
        trials: Trials,
        rung: int,
        cells: Mapping[int, Sequence[Cell]],
        values: Mapping[int, Values],
        seeds: Sequence[int] | None = None,
    ) -> None:
        """Scores the configurations of a rung, which have ended, against one another."""
        runs, section = self.records(), self.search.section
        calibration, criterion = section.calibration, section.criterion
        measure = criterion.lower_bound if isinstance(criterion, LowerBound) else criterion
        if not isinstance(measure, str) or calibration:
            measure = "max_score"
        kinds, seeds = trials.study.kinds, seeds or section.seeds
        standings: dict[int, list[Standing]] = {}
        for number, members in cells.items():
            standings[number] = [self._standing(cell, runs, measure) for cell in members]
        if calibration:
            curves = [
                [[s.returns for s in row[kind :: len(kinds)]] for kind in range(len(kinds))]
                for row in standings.values()
            ]
            targets = [self.search.targets.get(kind) for kind in kinds]
            ranking = calibrated(curves, calibration, targets)
        else:
            scores = np.array(
                [[np.nan if s.score is None else s.score for s in r] for r in standings.values()]
            )
            by_kind = scores.reshape(len(cells), len(seeds), len(kinds)).transpose(0, 2, 1)
            ranking = ranked(by_kind, criterion if isinstance(criterion, LowerBound) else measure)
        trials.noise = ranking.noise
        for (number, members), score in zip(cells.items(), ranking.scores.tolist(), strict=True):
            trials.by_number[number] = Trial(
                number, values[number], rung, members, standings[number], score
            )

    def _standing(self, cell: Cell, runs: Mapping[str, RunRecord], measure: str) -> Standing:
        try:
            return standing(self.folder, cell, runs.get(cell.name), measure)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder / cell.name}: {error}") from None
