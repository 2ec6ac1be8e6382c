"""A search as studies, one for each winner, and a study's configurations as cells."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_lpdm.results.paper import BASELINE, COLUMNS, published, read_table
from rllib_lpdm.results.scores import NOTHING, Measures
from rllib_lpdm.schema.experiment import Cell, Experiment, RunSettings
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.search_section import SearchSection
from rllib_lpdm.schema.search_space import Dimension
from rllib_lpdm.searches.draws import drawn

Kind = tuple[str, str, str]  # environment, algorithm, method
Values = dict[str, Any]


def configuration_name(number: int) -> str:
    """The variant that a configuration's cells are of."""
    return f"c{number:03d}"


@dataclass(frozen=True)
class Study:
    """One search with one winner.

    Attributes:
        each: what it is of, such as the environment, the algorithm and the method.
        kinds: the environments, algorithms and methods that share its settings.
        space: the settings that are searched of any of them.
    """

    each: Mapping[str, str]
    kinds: tuple[Kind, ...]
    space: Mapping[str, Dimension]

    @property
    def label(self) -> str:
        return " ".join(self.each.values()) or "all"


@dataclass(frozen=True)
class Search:
    """The ``search`` of an experiment.

    Attributes:
        experiment: with a ``search``.
        section: that.
    """

    experiment: Experiment
    section: SearchSection

    @classmethod
    def of(cls, experiment: Experiment) -> "Search":
        """The search of an experiment.

        Raises:
            UserError: it has none, a configuration cannot be trained, or what it is
                calibrated to has not been published.
        """
        if experiment.search is None:
            raise UserError(f"{experiment.source}: has no search; `tune` runs its cells")
        search = cls(experiment, experiment.search)
        for study in search.studies:
            for number, values in enumerate(search.drawn_of(study)):
                search.cells(study, number, values)
        search.targets  # noqa: B018  reads the table
        return search

    @functools.cached_property
    def targets(self) -> Mapping[Kind, tuple[Measures, float]]:
        """Published numbers of the kinds that count, and the baseline's max score for the others.

        Raises:
            UserError: the table cannot be read, or lacks one of them.
        """
        calibration, found = self.section.calibration, {}
        if calibration is None:
            return {}
        place, name = f"{self.experiment.source}: search.criterion", calibration.published
        try:
            beside = Path(self.experiment.source).parent
            table = published() if name == "paper" else read_table(beside / name)
        except ValueError as error:
            raise UserError(f"{place}.published: {error}") from None
        for study in self.studies:
            methods = calibration.methods or self.experiment.methods
            counted = [kind for kind in study.kinds if kind[2] in methods]
            if not counted:
                raise UserError(f"{place}.methods: nothing of {study.label} counts")
            for kind in counted:
                target = table.get(kind, NOTHING)
                numbers = dict(zip(COLUMNS, target, strict=True))
                for column in calibration.columns:
                    if math.isnan(numbers[column]):
                        raise UserError(f"{place}: {name} has no {column} for {' '.join(kind)}")
                baseline = table.get((*kind[:2], BASELINE)) if kind[2] != BASELINE else None
                found[kind] = target, baseline.max_score if baseline else math.inf
        return found

    @functools.cached_property
    def studies(self) -> tuple[Study, ...]:
        names = ("environment", "algorithm", "method")
        kinds: dict[tuple[str, ...], list[Kind]] = {}
        experiment, each = self.experiment, [name for name in names if name in self.section.each]
        labels = [environment.label for environment in experiment.environments]
        for kind in itertools.product(labels, experiment.algorithms, experiment.methods):
            key = tuple(part for name, part in zip(names, kind, strict=True) if name in each)
            kinds.setdefault(key, []).append(kind)
        return tuple(
            Study(
                dict(zip(each, key, strict=True)),
                tuple(members),
                {
                    name: dimension
                    for name, dimension in self.section.space.items()
                    if any(dimension.applies(*kind) for kind in members)
                },
            )
            for key, members in kinds.items()
        )

    @functools.cached_property
    def _drawn(self) -> list[Values]:
        return drawn(self.section)

    def drawn_of(self, study: Study) -> list[Values]:
        """What was drawn for a study; those of all studies agree in what they share."""
        return [
            {name: value for name, value in values.items() if name in study.space}
            for values in self._drawn
        ]

    def cells(
        self,
        study: Study,
        number: int,
        values: Values,
        share: float = 1.0,
        seeds: Sequence[int] | None = None,
    ) -> list[Cell]:
        """The cells of a configuration, the seeds varying slowest.

        Args:
            study: whose it is.
            number: its number.
            values: of the searched settings; none for those as they stand.
            share: of the iterations, to train for.
            seeds: those that all configurations run on by default.

        Raises:
            UserError: they cannot be trained.
        """
        made = {each.label: each for each in self.experiment.environments}
        variant = configuration_name(number)
        settings = {
            kind: self._settings(study, kind, variant, values, share) for kind in study.kinds
        }
        return [
            Cell(
                environment,
                algorithm,
                method,
                seed,
                settings[environment, algorithm, method],
                variant,
                None if made[environment].is_plain else made[environment],
                self.experiment.imports,
            )
            for seed in seeds or self.section.seeds
            for environment, algorithm, method in study.kinds
        ]

    def _settings(
        self, study: Study, kind: Kind, variant: str, values: Values, share: float
    ) -> RunSettings:
        own = {name: value for name, value in values.items() if study.space[name].applies(*kind)}
        settings = self.experiment.settings(*kind, variant, own)
        if settings.iterations is None:
            raise UserError(
                f"{self.experiment.source}: settings.iterations: say how many iterations a cell "
                "trains for"
            )
        iterations = max(1, round(share * settings.iterations))
        return settings.model_copy(update={"iterations": iterations})

    def defaults(self, study: Study) -> Values:
        """The searched settings as they stand, but for those that differ within the study."""
        found: dict[str, list[Any]] = {name: [] for name in study.space}
        for cell in self.cells(study, 0, {}):
            settings = cell.settings.model_dump(mode="json", include=set(found))
            for name, value in settings.items():
                if study.space[name].applies(cell.environment, cell.algorithm, cell.method):
                    found[name].append(value)
        return {name: each[0] for name, each in found.items() if all(v == each[0] for v in each)}

    def names(self) -> list[str]:
        """The names of all cells."""
        return [
            cell.name
            for study in self.studies
            for number in range(self.section.configurations)
            for cell in self.cells(study, number, {})
        ]


def in_turn(cells: Sequence[Cell], seeds: Sequence[int]) -> list[Cell]:
    """Cells with the seeds varying slowest, so that every configuration has a result early."""
    return sorted(cells, key=lambda cell: seeds.index(cell.seed))
