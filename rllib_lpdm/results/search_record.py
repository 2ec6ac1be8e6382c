"""``search.json``: every configuration of a search with its scores, and what was chosen."""

import json
import sys
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rllib_lpdm.results.layout import SEARCH_FILE
from rllib_lpdm.results.storage import read_file, write_whole
from rllib_lpdm.schema.messages import fault, one_line, parsed


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class SearchedCell(_Part):
    """A cell of a configuration.

    Attributes:
        iterations: that it has trained for.
        score: by the criterion's measure over those iterations; None where it failed.
        env_steps: environment steps it took.
        cpu_hours: of training, as its rows were timed.
    """

    cell: str
    environment: str
    algorithm: str
    method: str
    seed: int
    iterations: int
    score: float | None
    env_steps: int
    cpu_hours: float


class Configuration(_Part):
    """A configuration of a study.

    Attributes:
        number: 0 is the settings as they stand.
        name: the variant that its cells are of.
        values: of the searched settings; of number 0 those that all its cells have.
        places: where between 0 and 1 each number lies in its range; without those of a choice.
        rung: the last one that it reached, from 0; always 0 without halving.
        score: by the criterion, at that rung.
        distance: from the settings as they stand, 0 to 1: mean over the searched settings.
    """

    number: int
    name: str
    values: dict[str, Any]
    places: dict[str, float]
    rung: int
    score: float | None
    distance: float
    cells: list[SearchedCell]

    @field_validator("values")
    @classmethod
    def _can_be_drawn(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, value in values.items():
            if isinstance(value, int) and abs(value) > sys.float_info.max:
                raise ValueError(f"{name} is too large a number")
        return values


class StudyRecord(_Part):
    """One search with one winner.

    Attributes:
        each: what it is of: environment, algorithm and method, or fewer.
        configurations: by number.
        best: the number with the highest score at the last rung; None where all failed.
        noise: standard error of a difference of two scores; 0 with a single seed.
        tied: numbers of those that are within it, the best among them.
        winner: of these the nearest to the settings as they stand.
        margin: the winner's score less the next best's; negative where it was chosen of a tie.
        over_default: the winner's score less that of number 0; None where that was not kept.
    """

    each: dict[str, str]
    configurations: list[Configuration] = Field(min_length=1)
    best: int | None
    noise: float
    tied: list[int]
    winner: int
    margin: float | None
    over_default: float | None

    @model_validator(mode="after")
    def _named_are_there(self) -> Self:
        count = len(self.configurations)
        if [each.number for each in self.configurations] != list(range(count)):
            raise ValueError("configurations are not numbered from 0 in their order")
        named = {"winner": [self.winner], "tied": self.tied}
        named["best"] = [] if self.best is None else [self.best]
        for name, numbers in named.items():
            for number in numbers:
                if not 0 <= number < count:
                    raise ValueError(f"{name}: {number} is none of the {count} configurations")
        return self

    @property
    def label(self) -> str:
        return " ".join(self.each.values()) or "all"


class SearchRecord(_Part):
    """The content of ``search.json``.

    Attributes:
        space: the searched settings, as the experiment file has them.
        rungs: shares of the iterations after which configurations were left; [1] without halving.
        env_steps, cpu_hours: the whole search's.
    """

    name: str
    proposer: str
    criterion: str | dict[str, Any]
    seeds: list[int]
    space: dict[str, dict[str, Any]]
    rungs: list[float]
    studies: list[StudyRecord]
    env_steps: int
    cpu_hours: float

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record in a search's folder; None where there is none.

        Raises:
            ValueError: it is damaged; names the file.
        """
        path = folder / SEARCH_FILE
        try:
            return cls.model_validate(parsed(read_file(path).decode("utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError as error:
            raise ValueError(f"{path} is damaged: {fault(error)}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} cannot be read: {one_line(error, 200)}") from None

    def write(self, folder: Path) -> None:
        """Writes the folder's file in one piece.

        Raises:
            OSError: the disk is full or read-only.
        """
        text = json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
        write_whole(folder / SEARCH_FILE, text.encode())
