"""The ``search`` of an experiment file, as written."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from rllib_lpdm.schema.catalogue import MethodName
from rllib_lpdm.schema.search_space import Dimension
from rllib_lpdm.schema.settings import refuse_booleans

#: A column of the paper's table 1.
Column = Literal["max_score", "rel_spread", "iterations"]

# The least that a unit of distance may be, in percent: of the published score, of the score again
# (a spread is in percent of it), and of the published iteration.
FLOORS: Final[Mapping[Column, float]] = {"max_score": 2.0, "rel_spread": 2.0, "iterations": 10.0}

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Proposer = Literal["random", "sobol", "optuna"]
Score = Literal["max_score", "end_score", "mean_score"]
Fraction = Annotated[float, Field(gt=0, le=1)]


class LowerBound(BaseModel):
    """A criterion that prefers what is sure: a one-sided bound of a mean over seeds (Student's)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lower_bound: Score
    confidence: float = Field(0.8, gt=0.5, lt=1)


class Calibration(BaseModel):
    """A criterion that prefers what comes closest to published scores, in published spreads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    published: str = Field(
        min_length=1, description="A CSV beside the file, or ``paper`` for the paper's table."
    )
    methods: list[MethodName] | None = Field(
        None, min_length=1, description="Those whose distance counts; all by default."
    )
    columns: list[Column] = Field(
        ["max_score"], min_length=1, description="Numbers that are compared; their mean counts."
    )
    floors: dict[Column, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        dict(FLOORS), description="Percent: the least that a unit of distance may be, by column."
    )

    @field_validator("floors", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any) -> Any:
        for floor in value.values() if isinstance(value, dict) else ():
            refuse_booleans(floor)
        return value

    @field_validator("floors")
    @classmethod
    def _with_defaults(cls, floors: dict[Column, float]) -> dict[Column, float]:
        return {**FLOORS, **floors}

    @field_validator("methods", "columns")
    @classmethod
    def _each_once(cls, values: list[Any] | None) -> list[Any] | None:
        return _once(values)


def _form(value: Any) -> str:
    """Which criterion was meant; the names are no keys of a file."""
    if isinstance(value, Calibration) or (isinstance(value, dict) and "published" in value):
        return "a calibration"
    return "a lower bound" if isinstance(value, (LowerBound, dict)) else "a name"


Criterion = Annotated[
    Annotated[Score | Literal["paper"], Tag("a name")]
    | Annotated[LowerBound, Tag("a lower bound")]
    | Annotated[Calibration, Tag("a calibration")],
    Discriminator(_form),
]


class MoreSeeds(BaseModel):
    """The best configurations run on more seeds, and the winner is chosen by all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: int = Field(ge=1, description="Configurations for each winner that run on them.")
    seeds: list[Seed] = Field(min_length=1, description="Besides those that all run on.")

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any) -> Any:
        return refuse_booleans(value)


class Halving(BaseModel):
    """Which configurations go on: after each share of the iterations the best are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rungs: list[Fraction] = Field(description="Shares of the iterations, rising to 1.")
    keep: float = Field(0.5, gt=0, lt=1, description="Share of the configurations that go on.")

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any) -> Any:
        return refuse_booleans(value)

    @field_validator("rungs")
    @classmethod
    def _rising_to_one(cls, rungs: list[float]) -> list[float]:
        if len(rungs) < 2:
            raise ValueError("halving takes two rungs or more, such as [0.25, 1.0]")
        if rungs[-1] != 1 or sorted(set(rungs)) != rungs:
            raise ValueError("rungs rise, and the last one is 1.0")
        return rungs


class SearchSection(BaseModel):
    """How settings are searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    each: list[Literal["environment", "algorithm", "method"]] = Field(
        ["environment", "algorithm", "method"],
        description="One winner for each; what is left out shares its settings.",
    )
    configurations: int = Field(
        ge=2, le=10_000, description="For each winner; number 0 is the settings as they stand."
    )
    seeds: list[Seed] = Field(min_length=1, description="Those that it runs on; none is reported.")
    space: dict[str, Dimension] = Field(description="The searched settings.")
    proposer: Proposer = "sobol"
    generation: int = Field(8, ge=1, description="optuna: configurations asked for at once.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of the draws.")
    criterion: Criterion = "max_score"
    halving: Halving | None = None
    more_seeds: MoreSeeds | None = None

    @field_validator("configurations", "seeds", "generation", "seed", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any) -> Any:
        return refuse_booleans(value)

    @field_validator("each", "seeds")
    @classmethod
    def _each_once(cls, values: list[Any]) -> list[Any]:
        return _once(values)

    @field_validator("space")
    @classmethod
    def _not_empty(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        if not space:
            raise ValueError("is empty; name a setting, such as lr: {log: [1.0e-5, 1.0e-2]}")
        return space

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.halving and self.proposer == "optuna":
            raise ValueError(
                "halving needs all configurations at once, and optuna asks for them generation "
                "by generation; use sobol or random"
            )
        if isinstance(self.criterion, LowerBound) and len(self.seeds) < 2:
            raise ValueError("a lower bound takes two seeds or more")
        if self.calibration and "rel_spread" in self.calibration.columns and len(self.seeds) < 2:
            raise ValueError("a spread takes two seeds or more")
        if len(set(self.all_seeds)) < len(self.all_seeds):
            raise ValueError("more_seeds: lists a seed twice, or one that all run on")
        return self

    @property
    def calibration(self) -> Calibration | None:
        """The criterion where it is a distance from published scores."""
        if self.criterion == "paper":
            return Calibration.model_validate({"published": "paper"})
        return self.criterion if isinstance(self.criterion, Calibration) else None

    @property
    def all_seeds(self) -> list[int]:
        """The seeds that settings are chosen on."""
        return [*self.seeds, *(self.more_seeds.seeds if self.more_seeds else ())]


def _once(values: Any) -> Any:
    if values and len(set(values)) < len(values):
        raise ValueError("lists something twice")
    return values
