"""Each method beside the baseline: scores as in the paper's table, and speed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rllib_lpdm.analysis.cells import CellResult, Series
from rllib_lpdm.analysis.statistics import (
    ENOUGH,
    NOTHING,
    Floats,
    Measures,
    end_score,
    first_full,
    measures,
    ratios,
    seed_scores,
    smoothed,
)
from rllib_lpdm.results.paper import published

PLAIN = "", "reference"  # names of the variant that the others are compared with


class Place(NamedTuple):
    """Where methods are compared: one algorithm on one environment."""

    environment: str
    algorithm: str


@dataclass(frozen=True)
class Group:
    """The runs of one method, or variant of it, in one place; they differ by their seed.

    Attributes:
        cells: all of them, by seed; at least one.
    """

    place: Place
    series: Series
    cells: Sequence[CellResult]

    @cached_property
    def counted(self) -> list[CellResult]:
        """The runs whose scores count: the finished ones; all, as far as they are, if none is."""
        return [cell for cell in self.cells if cell.finished] or list(self.cells)

    @property
    def finished(self) -> bool:
        return self.counted[0].finished

    @cached_property
    def returns(self) -> list[Floats]:
        """(iterations,) raw scores of each counted run."""
        return [cell.returns for cell in self.counted]

    @cached_property
    def scores(self) -> Floats:
        """(seeds, iterations) smoothed scores of the counted runs, as far as all of them go."""
        return seed_scores(self.returns)

    @cached_property
    def run_scores(self) -> Floats:
        """(seeds,) each counted run's own highest smoothed score."""
        return np.array([smoothed(run)[first_full(len(run)) :].max() for run in self.returns])

    @cached_property
    def run_ends(self) -> Floats:
        """(seeds,) each counted run's end score."""
        return np.array([end_score([run]) for run in self.returns])

    @property
    def name(self) -> str:
        return f"{self.place.environment} {self.place.algorithm} {self.series.label}"

    @property
    def as_registered(self) -> bool:
        """Whether the environment is the one that its name says, and no other under that name.

        Only such runs stand beside the paper's: another version, or another time limit, is another
        task, whatever an experiment calls it.
        """
        return all(cell.run.environment_spec is None for cell in self.cells)


Groups = Mapping[Place, Mapping[Series, Group]]


def grouped(cells: Sequence[CellResult]) -> Groups:
    """Cells by place and series, in their order."""
    found: dict[Place, dict[Series, list[CellResult]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        found[Place(cell.run.environment, cell.run.algorithm)][cell.series].append(cell)
    return {
        place: {series: Group(place, series, members) for series, members in row.items()}
        for place, row in found.items()
    }


def baseline_of(group: Group, row: Mapping[Series, Group], baseline: str) -> Group | None:
    """The runs of the baseline's method that a group is compared with.

    Those of its own variant where there are any, else those without one or of ``reference``.
    """
    for variant in (group.series.variant, *PLAIN):
        if found := row.get(Series(baseline, variant)):
            return found
    return None


@dataclass(frozen=True)
class Score:
    """One line of the paper's table.

    Attributes:
        seeds: number of runs that count.
        finished: whether they are; where none of a group is, the scores are those so far.
        measures: see :class:`~rllib_lpdm.results.scores.Measures`.
        ratios: of the measures to the baseline's; nan for the baseline itself and without one.
        end_score: mean return over the last tenth of the iterations.
        paper: the paper's numbers; nan where it has none.
        paper_ratios: of those to the paper's for the baseline.
    """

    place: Place
    series: Series
    seeds: int
    finished: bool
    measures: Measures
    ratios: Measures
    end_score: float
    paper: Measures
    paper_ratios: Measures

    @property
    def differences(self) -> Measures:
        """Of the measures less the paper's; nan where it has none, and with too few seeds."""
        if self.seeds < ENOUGH:
            return NOTHING
        return Measures(
            *(ours - theirs for ours, theirs in zip(self.measures, self.paper, strict=True))
        )


def score_rows(groups: Groups, baseline: str = "bp") -> list[Score]:
    """The paper's table: a line for every place and series."""
    return [
        _score(group, baseline_of(group, row, baseline), baseline)
        for row in groups.values()
        for group in row.values()
    ]


def _score(group: Group, reference: Group | None, baseline: str) -> Score:
    theirs = measures(reference.scores) if reference else NOTHING
    ours = measures(group.scores, theirs.max_score) if reference else measures(group.scores)
    plain = group.series.variant in PLAIN and group.as_registered
    paper = published().get((*group.place, group.series.method), NOTHING) if plain else NOTHING
    paper_baseline = published().get((*group.place, baseline), NOTHING)
    return Score(
        place=group.place,
        series=group.series,
        seeds=len(group.counted),
        finished=group.finished,
        measures=ours,
        ratios=NOTHING if reference is group else ratios(ours, theirs),
        end_score=end_score(group.returns),
        paper=paper,
        paper_ratios=NOTHING if group.series.method == baseline else ratios(paper, paper_baseline),
    )


@dataclass(frozen=True)
class Speed:
    """How fast the runs of a group trained, by the wall clock of their iterations.

    Attributes:
        hours: of training a run, median over runs.
        steps_per_second: environment steps over those seconds, median over runs.
        ratio: of steps_per_second to the baseline's; nan where there is none.
    """

    place: Place
    series: Series
    hours: float
    steps_per_second: float
    ratio: float


def speed_rows(groups: Groups, baseline: str = "bp") -> list[Speed]:
    """Wall clock and speed of every place and series that was timed."""
    rows = []
    for row in groups.values():
        for group in row.values():
            reference = baseline_of(group, row, baseline)
            hours, speed = _speed(group)
            theirs = _speed(reference)[1] if reference else float("nan")
            ratio = speed / theirs if theirs > 0 else float("nan")
            rows.append(Speed(group.place, group.series, hours, speed, ratio))
    return [row for row in rows if np.isfinite(row.hours)]


def _speed(group: Group) -> tuple[float, float]:
    """Median hours a run and median steps a second; nan where no run was timed."""
    seconds, speeds = [], []
    for cell in group.counted:
        if {"seconds", "env_steps"} <= cell.columns.keys() and cell.columns["seconds"].sum() > 0:
            seconds.append(cell.columns["seconds"].sum())
            speeds.append(cell.columns["env_steps"][-1] / seconds[-1])
    if not seconds:
        return float("nan"), float("nan")
    return float(np.median(seconds)) / 3600, float(np.median(speeds))
