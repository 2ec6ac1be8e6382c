"""Every setting of a cell: those of its algorithm, and how the cell is run."""

import functools
import os
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import field_validator

from rllib_lpdm.schema.catalogue import ALGORITHMS, AlgorithmName, settings_classes
from rllib_lpdm.schema.settings import Settings, is_dotted_name, setting

PATHS = ("init_hidden_from", "pretrain_from")  # settings that name files
LARGEST = 2**53  # every integer up to here is a float too, as in iterations.csv


class RunSettings(Settings):
    """Settings of every cell: those that all algorithms have, and how the cell is run."""

    env_runners: int = setting(
        0,
        "Remote rollout workers of a cell; 0 collects in the cell's process.",
        section="",
        cost="a CPU each",
        ge=0,
    )
    learners: int = setting(
        0,
        "Remote learners of a cell, which share out the rows of every batch; 0 learns in the "
        "cell's process.",
        section="",
        cost="a CPU each",
        ge=0,
    )
    cpus: float = setting(
        1,
        "CPUs that a cell's process reserves; it computes on one thread.",
        section="",
        cost="fewer cells at once",
        gt=0,
    )
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = setting(
        "PACK", "How Ray places a cell's processes on the nodes.", section=""
    )
    checkpoint_interval: int = setting(
        4,
        "Blocks of `iterations_per_report` between two checkpoints; the end always makes one.",
        section="",
        cost="milliseconds a checkpoint",
        ge=1,
    )
    retries: int = setting(
        2,
        "How often a cell that fails is tried again before its next checkpoint; lost nodes do not "
        "count. An error that repeats itself at the same place is not tried again.",
        section="",
        ge=0,
    )
    tensorboard: bool = setting(
        False,
        "Write TensorBoard files into the cell's folder.",
        section="",
        cost="disk, about as much as iterations.csv",
    )
    wandb_points: int = setting(
        1000, "Most points of a run in W&B: means over consecutive iterations.", section="", ge=1
    )

    @field_validator("*")
    @classmethod
    def _no_number_beyond_all_files(cls, value: Any) -> Any:
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"must be at most {LARGEST}")
        for item in value if isinstance(value, tuple) else ():
            cls._no_number_beyond_all_files(item)
        return value

    @field_validator("metric", "black_box")
    @classmethod
    def _no_code(cls, value: str | None) -> str | None:
        if value is not None and is_dotted_name(value):
            raise ValueError(
                f"{value!r} names code, which an experiment file cannot; train it from Python"
            )
        return value

    def with_absolute_paths(self) -> Self:
        """These settings with paths that mean the same in every process, node and later resume.

        Raises:
            ValueError: a URL.
        """
        paths: dict[str, str] = {}
        for name in PATHS:
            path = getattr(self, name)
            if path is None:
                continue
            if "://" in path:
                raise ValueError(
                    f"{name}: {path[:200]!r} is a URL; copy it into a folder that all nodes reach"
                )
            paths[name] = os.path.abspath(os.path.expanduser(path))
        return self.model_copy(update=paths) if paths else self

    def of_training(self) -> dict[str, Any]:
        """Returns the settings that decide what a cell learns, as JSON has them."""
        return self.model_dump(mode="json", exclude=set(HOW_RUN))


#: Settings that say how a cell is run, and change nothing that is learned.
HOW_RUN = {"iterations_per_report", *RunSettings.model_fields} - (
    Settings.model_fields.keys() - {"iterations_per_report"}
)


class CellSettings(RunSettings, *settings_classes()):  # type: ignore[misc]  # the catalogue's
    """Every setting that an experiment file can give, whichever algorithm it belongs to."""


#: Every setting's default, as JSON has it.
DEFAULTS = CellSettings().model_dump(mode="json")


def every_setting() -> type[CellSettings]:
    """Returns ``CellSettings``, with the settings of registered algorithms beside them."""
    added = [each for each in settings_classes() if not issubclass(CellSettings, each)]
    return _combined(CellSettings, *added) if added else CellSettings


def settings_of(algorithm: AlgorithmName) -> type[RunSettings]:
    """Returns the class of the settings of an algorithm's cells."""
    return _combined(RunSettings, ALGORITHMS[algorithm].settings_class)


@functools.cache
def _combined(*classes: Any) -> Any:
    """Returns a class with the settings of several; its instances can be pickled."""
    needed = [c for c in classes if not any(c in other.__mro__[1:] for other in classes)]
    bases = tuple(sorted(needed, key=lambda each: -len(each.__mro__)))

    def reduced(self: Any) -> tuple[Any, ...]:
        return _restored, (classes, dict(self))

    return type("Settings", bases, {"__reduce__": reduced, "__module__": __name__})


def _restored(classes: tuple[Any, ...], values: dict[str, Any]) -> RunSettings:
    restored: RunSettings = _combined(*classes).model_construct(**values)
    return restored


def own_settings(algorithm: AlgorithmName, values: Mapping[str, Any]) -> RunSettings:
    """The settings of an algorithm's cell, validated; values that are another's are left out."""
    own = settings_of(algorithm)
    return own(**{name: value for name, value in values.items() if name in own.model_fields})
