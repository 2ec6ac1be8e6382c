"""One searched setting: its values, and where each lies between 0 and 1."""

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rllib_lpdm.schema.conditions import When
from rllib_lpdm.schema.settings import refuse_booleans

DIGITS = 4  # of a drawn number: what a person would write, and reads back from every file alike
Number = Annotated[float, Field(allow_inf_nan=False)]


class Dimension(BaseModel):
    """The values of a searched setting: one of ``log``, ``uniform``, ``integer`` and ``choice``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    log: tuple[Number, Number] | None = Field(None, description="From, to; by their logarithm.")
    uniform: tuple[Number, Number] | None = Field(None, description="From, to.")
    integer: tuple[int, int] | None = Field(None, description="Whole numbers from, to.")
    choice: list[Any] | None = Field(None, min_length=2, description="One of a list.")
    when: When | None = Field(None, description="The cells that have it; all by default.")

    @field_validator("log", "uniform", "integer", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any) -> Any:
        return refuse_booleans(value)

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(KINDS)}; there are {len(given)}")
        limits = self.limits
        if limits and limits[0] >= limits[1]:
            raise ValueError(f"{given[0]} goes from the lower to the higher value")
        if self.log and self.log[0] <= 0:
            raise ValueError("log has no place for 0 or less; begin above it, or use uniform")
        if limits and not math.isfinite(limits[1] - limits[0]):
            raise ValueError(f"{given[0]} is too wide")
        return self

    @property
    def limits(self) -> tuple[float, float] | None:
        """The lowest and the highest value; None of a choice."""
        return self.log or self.uniform or self.integer

    @property
    def examples(self) -> list[Any]:
        """Values which, where they are allowed, all are."""
        return list(self.limits or self.choice or ())

    def applies(self, environment: str, algorithm: str, method: str) -> bool:
        """Whether cells of these have the setting searched."""
        return self.when is None or self.when.matches(environment, algorithm, method)

    def at(self, unit: float) -> Any:
        """The value at a place from 0 to 1."""
        if self.choice is not None:
            return self.choice[min(int(unit * len(self.choice)), len(self.choice) - 1)]
        if self.integer is not None:
            first, last = self.integer
            return first + min(int(unit * (last - first + 1)), last - first)
        if self.log is not None:
            low, high = map(math.log, self.log)
            return self.rounded(math.exp(low + unit * (high - low)))
        assert self.uniform is not None
        low, high = self.uniform
        return self.rounded(low + unit * (high - low))

    def rounded(self, value: float) -> float:
        """A number to a few digits, within the limits."""
        assert self.limits is not None
        low, high = self.limits
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)

    def place(self, value: Any) -> float | None:
        """Where a number lies between 0 and 1; None of a choice, and of what is no number."""
        if self.limits is None or isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        low, high = self.limits
        if self.log is not None:
            if value <= 0:
                return None
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of those searched."""
        if self.choice is not None:
            return value in self.choice
        place = self.place(value)
        return place is not None and 0 <= place <= 1

    def distance(self, value: Any, other: Any) -> float:
        """How far two values are from one another: from 0 to 1; 1 for two of a choice."""
        if value == other:
            return 0.0
        places = self.place(value), self.place(other)
        if places[0] is None or places[1] is None:
            return 1.0
        return min(abs(places[0] - places[1]), 1.0)


KINDS = ("log", "uniform", "integer", "choice")
