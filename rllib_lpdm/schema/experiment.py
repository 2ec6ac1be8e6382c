"""The experiment file: its schema, how files extend one another, and its expansion into cells."""

import functools
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from rllib_lpdm.schema.catalogue import AlgorithmName, MethodName
from rllib_lpdm.schema.cell_settings import CellSettings, RunSettings, own_settings
from rllib_lpdm.schema.conditions import Override
from rllib_lpdm.schema.environments import (
    EnvironmentMaker,
    EnvironmentSpec,
    Name,
    name_with,
)
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.registry import METHODS
from rllib_lpdm.schema.search_section import SearchSection, Seed
from rllib_lpdm.schema.settings import refuse_booleans

VariantName = Annotated[str, AfterValidator(name_with(".-"))]
MOST_CELLS = 100_000


class ExperimentFile(BaseModel):
    """One YAML file, as written."""

    model_config = ConfigDict(extra="forbid")

    extends: str | None = Field(None, description="A file whose entries this one continues.")

    @field_validator("seeds", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any) -> Any:
        return refuse_booleans(value)

    name: Name | None = Field(None, description="The results folder's name; the file's by default.")
    throwaway: bool | None = Field(
        None,
        description="Results of no value: a run replaces those of the one before. Not extended.",
    )
    environments: list[EnvironmentSpec] | None = Field(
        None, min_length=1, description="Ids, or mappings that say how they are made."
    )
    algorithms: list[AlgorithmName] | None = Field(None, min_length=1)
    methods: list[MethodName] | None = Field(None, min_length=1)
    seeds: Annotated[int, Field(ge=1, le=100_000)] | list[Seed] | None = Field(
        None, description="How many seeds, from 0, or which."
    )
    settings: dict[str, Any] = Field({}, description="For every cell.")
    overrides: list[Override] = Field([], description="For the cells that match, in order.")
    variants: dict[VariantName, dict[str, Any]] = Field(
        {}, description="Named sets of settings, crossed with the rest."
    )
    search: SearchSection | None = Field(
        None, description="Settings to be searched, by a command of its own. Not extended."
    )
    in_process: bool | None = Field(
        None, description="Run the cells one by one in this process, without Tune: for a debugger."
    )


@dataclass(frozen=True)
class Cell:
    """One run: what distinguishes it, and the settings of its algorithm, no others.

    Attributes:
        environment: its name; a gymnasium id where ``environment_spec`` says nothing else.
        algorithm: how it is trained.
        method: what trains the hidden layers.
        seed: of everything random.
        settings: those of its algorithm, and how the cell is run.
        variant: the named set of settings, None without variants.
        environment_spec: how the environment is made; None for that of the id.
        imports: modules that register the environment.
    """

    environment: str
    algorithm: AlgorithmName
    method: MethodName
    seed: int
    settings: RunSettings
    variant: str | None = None
    environment_spec: EnvironmentSpec | None = None
    imports: tuple[str, ...] = ()

    @functools.cached_property
    def maker(self) -> EnvironmentMaker:
        """Makes the environment, in any process."""
        spec = self.environment_spec or EnvironmentSpec(id=self.environment)
        return EnvironmentMaker(spec, self.imports)

    @property
    def environment_record(self) -> dict[str, Any] | None:
        """``environment_spec`` as ``run.json`` has it."""
        spec = self.environment_spec
        return None if spec is None else spec.model_dump(mode="json", exclude_defaults=True)

    def __post_init__(self) -> None:
        if isinstance(self.settings, CellSettings):
            settings = own_settings(self.algorithm, self.settings.model_dump())
            object.__setattr__(self, "settings", settings)

    @functools.cached_property
    def name(self) -> str:
        """Such as ``Pusher-v4_ppo_lpdm_s3``; a variant stands before the seed."""
        environment = re.sub(r"[^A-Za-z0-9.-]+", "-", self.environment)
        parts = [environment, self.algorithm, self.method, self.variant, f"s{self.seed}"]
        return "_".join(part for part in parts if part)


@dataclass(frozen=True)
class Experiment:
    """An experiment file with everything it extends and the command line's changes.

    ``layers`` are applied to a cell in turn, each its settings first and then its overrides: the
    extended file's layer before the file's own. A variant comes after the layers, and ``--set``
    last of all.
    """

    name: str
    environments: tuple[EnvironmentSpec, ...]
    algorithms: tuple[AlgorithmName, ...]
    methods: tuple[MethodName, ...]
    seeds: tuple[int, ...]
    layers: tuple[ExperimentFile, ...] = ()
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    in_process: bool = False
    throwaway: bool = False
    imports: tuple[str, ...] = ()
    search: SearchSection | None = None
    source: str = "experiment"
    without: frozenset[str] = frozenset()  # cells that are not run, by name

    def cells(self) -> list[Cell]:
        """All cells; the seeds vary slowest, so that every configuration has a result early.

        Raises:
            UserError: two cells would have one name, a cell has no budget, or there are more
                than MOST_CELLS.
        """
        crossed = (self.seeds, self.environments, self.algorithms, self.methods, self.variants)
        count = math.prod(len(values) or 1 for values in crossed)
        if count > MOST_CELLS:
            raise UserError(f"{self.source}: {count:,} cells are more than {MOST_CELLS:,}")
        cells = list(self.every_cell())
        repeated = [name for name, count in Counter(c.name for c in cells).items() if count > 1]
        if repeated:
            raise UserError(f"{self.source}: two cells would be named {repeated[0]!r}")
        if cells and any(cell.settings.iterations is None for cell in cells):
            raise UserError(
                f"{self.source}: settings.iterations: say how many iterations a cell trains for"
            )
        left_out = self.without | self.same.keys()
        return [cell for cell in cells if cell.name not in left_out]

    @functools.cached_property
    def same(self) -> dict[str, tuple[str, str]]:
        """The cells that an earlier variant's cell stands for, as the two differ in nothing.

        By their names: that cell's name, and the own variant. A method may ignore all in which
        variants differ, such as ``metric`` under backpropagation.
        """
        firsts: dict[str, str] = {}
        found: dict[str, tuple[str, str]] = {}
        for cell in self.every_cell() if len(self.variants) > 1 else ():
            settings = cell.settings.model_dump(mode="json")
            if settings["pretrain_from"] is None:
                ignored = METHODS[cell.method].ignores
                settings = {name: v for name, v in settings.items() if name not in ignored}
            kind = [cell.environment, cell.algorithm, cell.method, cell.seed, settings]
            first = firsts.setdefault(json.dumps(kind, sort_keys=True), cell.name)
            if first != cell.name and cell.variant is not None:
                found[cell.name] = first, cell.variant
        return found

    def every_cell(self) -> Iterator[Cell]:
        """All cells, with those that repeat another one."""
        variants: Sequence[str | None] = list(self.variants) or [None]
        settings: dict[tuple[Any, ...], RunSettings] = {}
        for seed, made, algorithm, method, variant in itertools.product(
            self.seeds, self.environments, self.algorithms, self.methods, variants
        ):
            key = (made.label, algorithm, method, variant)
            if key not in settings:
                settings[key] = self.settings(*key, self.variants.get(variant or "", {}))
            spec = None if made.is_plain else made
            of_run = (seed, settings[key], variant, spec, self.imports)
            yield Cell(made.label, algorithm, method, *of_run)

    def settings(
        self,
        environment: str,
        algorithm: str,
        method: str,
        variant: str | None,
        own: Mapping[str, Any],
    ) -> RunSettings:
        """The settings of a kind of cell.

        Args:
            environment, algorithm, method, variant: what it is.
            own: settings of the variant.

        Raises:
            UserError: they cannot be used together, or with the method.
        """
        values: dict[str, Any] = {}
        for layer in self.layers:
            values |= layer.settings
            for override in layer.overrides:
                if override.when.matches(environment, algorithm, method, variant):
                    values |= override.set
        values |= own
        try:
            settings = own_settings(algorithm, values | self.changes).with_absolute_paths()
            settings.check(method)
        except ValueError as error:
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            place = " ".join(filter(None, (environment, algorithm, method, variant)))
            reason = str(what).removeprefix("Value error, ")
            raise UserError(f"{self.source}: {place}: {reason}") from None
        return settings
