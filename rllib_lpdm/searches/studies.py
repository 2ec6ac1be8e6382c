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
from rllib_lpdm.schema.cell_settings import RunSettings
from rllib_lpdm.schema.experiment import Cell, Experiment
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.search_section import SearchSection
from rllib_lpdm.schema.search_space import Dimension
from rllib_lpdm.searches.proposals import Values, first_proposals

Kind = tuple[str, str, str]  # environment, algorithm, method


def kind_of(cell: Cell) -> Kind:
    """Returns the cell's environment, algorithm and method."""
    return cell.environment, cell.algorithm, cell.method


def configuration_name(number: int) -> str:
    """Returns the name of the variant to which a configuration's cells belong."""
    return f"c{number:03d}"


@dataclass(frozen=True)
class Study:
    """One search with one winner.

    Attributes:
        each: the environment, algorithm and method that name it, or fewer of these.
        kinds: the environments, algorithms and methods that share its settings.
        space: the settings that are searched for at least one of them.
    """

    each: Mapping[str, str]
    kinds: tuple[Kind, ...]
    space: Mapping[str, Dimension]

    @property
    def label(self) -> str:
        """The name of the study in messages."""
        return " ".join(self.each.values()) or "all"


@dataclass(frozen=True)
class Search:
    """The studies of an experiment with a ``search``, and their configurations as cells."""

    experiment: Experiment
    section: SearchSection

    @classmethod
    def of(cls, experiment: Experiment) -> "Search":
        """Returns the search of an experiment after checking it.

        Raises:
            UserError: there is no search, a configuration cannot be trained, or no number is
                published that a calibration needs.
        """
        if experiment.search is None:
            raise UserError(f"{experiment.source}: has no search; `tune` runs its cells")
        search = cls(experiment, experiment.search)
        for study in search.studies:
            for number, values in enumerate(search.proposals(study)):
                search.cells(study, number, values)
        search.targets  # noqa: B018  reads the table
        return search

    @functools.cached_property
    def targets(self) -> Mapping[Kind, tuple[Measures, float]]:
        """Published numbers of each kind that counts, each with the baseline's max score.

        The baseline's score is infinite for the baseline itself, and where none is published.

        Raises:
            UserError: the table cannot be read, or lacks a number.
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
        """The studies, one for each winner."""
        names, experiment = ("environment", "algorithm", "method"), self.experiment
        by_key: dict[tuple[tuple[str, str], ...], list[Kind]] = {}
        labels = [environment.label for environment in experiment.environments]
        for kind in itertools.product(labels, experiment.algorithms, experiment.methods):
            named = zip(names, kind, strict=True)
            key = tuple((name, part) for name, part in named if name in self.section.each)
            by_key.setdefault(key, []).append(kind)
        return tuple(
            Study(
                dict(key),
                tuple(kinds),
                {
                    name: dimension
                    for name, dimension in self.section.space.items()
                    if any(dimension.applies(*kind) for kind in kinds)
                },
            )
            for key, kinds in by_key.items()
        )

    @functools.cached_property
    def _proposals(self) -> list[Values]:
        return first_proposals(self.section)

    def proposals(self, study: Study) -> list[Values]:
        """Returns a study's values by configuration; all studies agree in shared settings."""
        return [
            {name: value for name, value in values.items() if name in study.space}
            for values in self._proposals
        ]

    def cells(
        self,
        study: Study,
        number: int,
        values: Values,
        share: float = 1.0,
        seeds: Sequence[int] | None = None,
    ) -> list[Cell]:
        """Returns the cells of a configuration; the seeds vary slowest.

        Args:
            study, number: identify the configuration.
            values: its values; empty for the default settings.
            share: share of the iterations to train for.
            seeds: the cells' seeds; by default those that all configurations run on.

        Raises:
            UserError: the cells cannot be trained.
        """
        special = {each.label: each for each in self.experiment.environments if not each.is_plain}
        variant = configuration_name(number)
        settings = {
            kind: self._settings(study, kind, variant, values, share) for kind in study.kinds
        }
        imports = self.experiment.imports
        return [
            Cell(*kind, seed, settings[kind], variant, special.get(kind[0]), imports)
            for seed in seeds or self.section.seeds
            for kind in study.kinds
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
        """Returns the default values of searched settings that all cells of the study share."""
        found: dict[str, list[Any]] = {name: [] for name in study.space}
        for cell in self.cells(study, 0, {}):
            settings = cell.settings.model_dump(mode="json", include=set(found))
            for name, value in settings.items():
                if study.space[name].applies(*kind_of(cell)):
                    found[name].append(value)
        return {name: each[0] for name, each in found.items() if all(v == each[0] for v in each)}

    def names(self) -> list[str]:
        """Returns the names of all cells."""
        return [
            cell.name
            for study in self.studies
            for number in range(self.section.configurations)
            for cell in self.cells(study, number, {})
        ]
