"""The ``search`` of an experiment file, as written."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rllib_lpdm.algorithms.settings import refuse_booleans
from rllib_lpdm.experiment.search.space import Dimension

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Proposer = Literal["random", "sobol", "optuna"]
Score = Literal["max_score", "end_score", "mean_score"]
Fraction = Annotated[float, Field(gt=0, le=1)]


class LowerBound(BaseModel):
    """A criterion that prefers what is sure: a one-sided bound of a mean over seeds (Student's)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lower_bound: Score
    confidence: float = Field(0.8, gt=0.5, lt=1)


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
    criterion: Score | Literal["paper"] | LowerBound = "max_score"
    halving: Halving | None = None

    @field_validator("configurations", "seeds", "generation", "seed", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any) -> Any:
        return refuse_booleans(value)

    @field_validator("each", "seeds")
    @classmethod
    def _each_once(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) < len(values):
            raise ValueError("lists something twice")
        return values

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
        return self
