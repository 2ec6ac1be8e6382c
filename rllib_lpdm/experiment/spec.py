"""The experiment file: its schema, how files extend one another, and its expansion into cells."""

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import gymnasium as gym
import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from rllib_lpdm.algorithms.settings import Method, PPOSettings, unknown_name

AlgorithmName = Literal["reinforce", "reinforce_baseline", "ppo"]
ALGORITHMS: tuple[AlgorithmName, ...] = get_args(AlgorithmName)
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ExperimentError(ValueError):
    """A fault of the experiment file or the command line; the message names the place."""


class CellSettings(PPOSettings):
    """All settings of a cell: those of the algorithms, and how the cell is run."""

    env_runners: int = Field(
        0, ge=0, description="Remote rollout workers of a cell; 0 collects in the cell's process."
    )
    checkpoint_interval: int = Field(
        20, ge=1, description="Reports between two checkpoints; the end always makes one."
    )


class When(BaseModel):
    """Which cells an override applies to; what is left out matches all."""

    model_config = ConfigDict(extra="forbid")

    environment: str | list[str] | None = None
    algorithm: AlgorithmName | list[AlgorithmName] | None = None
    method: Method | list[Method] | None = None

    def matches(self, environment: str, algorithm: str, method: str) -> bool:
        pairs = zip(
            (self.environment, self.algorithm, self.method),
            (environment, algorithm, method),
            strict=True,
        )
        return all(
            wanted is None or actual == wanted or (isinstance(wanted, list) and actual in wanted)
            for wanted, actual in pairs
        )


class Override(BaseModel):
    """Settings for some of the cells."""

    model_config = ConfigDict(extra="forbid")

    when: When
    set: dict[str, Any]


class ExperimentFile(BaseModel):
    """One YAML file, as written."""

    model_config = ConfigDict(extra="forbid")

    extends: str | None = Field(None, description="A file whose entries this one continues.")
    name: Name | None = Field(None, description="The results folder's name; the file's by default.")
    environments: list[str] | None = Field(None, min_length=1)
    algorithms: list[AlgorithmName] | None = Field(None, min_length=1)
    methods: list[Method] | None = Field(None, min_length=1)
    seeds: Annotated[int, Field(ge=1, le=100_000)] | list[Seed] | None = Field(
        None, description="How many seeds, from 0, or which."
    )
    settings: dict[str, Any] = Field({}, description="For every cell.")
    overrides: list[Override] = Field([], description="For the cells that match, in order.")
    variants: dict[Name, dict[str, Any]] = Field(
        {}, description="Named sets of settings, crossed with the rest."
    )
    in_process: bool | None = Field(
        None, description="Run the cells one by one in this process, without Tune: for a debugger."
    )


@dataclass(frozen=True)
class Cell:
    """One run: what distinguishes it, and all its settings."""

    environment: str
    algorithm: AlgorithmName
    method: Method
    seed: int
    settings: CellSettings
    variant: str | None = None

    @property
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
    environments: tuple[str, ...]
    algorithms: tuple[AlgorithmName, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    layers: tuple[ExperimentFile, ...] = ()
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    in_process: bool = False

    def cells(self) -> list[Cell]:
        """All cells; the seeds vary slowest, so that every configuration has a result early.

        Raises:
            ExperimentError: two cells would have one name, or a cell has no budget.
        """
        cells = list(self._expand())
        repeated = [name for name, count in Counter(c.name for c in cells).items() if count > 1]
        if repeated:
            raise ExperimentError(f"two cells would be named {repeated[0]!r}")
        if cells and any(cell.settings.iterations is None for cell in cells):
            raise ExperimentError("settings.iterations: say how many iterations a cell trains for")
        return cells

    def _expand(self) -> Iterator[Cell]:
        variants: Sequence[str | None] = list(self.variants) or [None]
        settings: dict[tuple[Any, ...], CellSettings] = {}
        for seed, environment, algorithm, method, variant in itertools.product(
            self.seeds, self.environments, self.algorithms, self.methods, variants
        ):
            key = (environment, algorithm, method, variant)
            if key not in settings:
                settings[key] = self._settings(*key)
            yield Cell(environment, algorithm, method, seed, settings[key], variant)

    def _settings(
        self, environment: str, algorithm: str, method: str, variant: str | None
    ) -> CellSettings:
        values: dict[str, Any] = {}
        for layer in self.layers:
            values |= layer.settings
            for override in layer.overrides:
                if override.when.matches(environment, algorithm, method):
                    values |= override.set
        values |= self.variants.get(variant or "", {})
        return CellSettings(**(values | self.changes))


def load_experiment(path: str | Path, changes: Sequence[str] = ()) -> Experiment:
    """Reads an experiment file with what it extends.

    Args:
        path: the YAML file.
        changes: ``PATH=VALUE`` from the command line, such as ``seeds=5`` or
            ``settings.iterations=200``; VALUE is YAML.

    Raises:
        ExperimentError: names the file and the place.
    """
    path = Path(path)
    layers = _read_layers(path, seen=())
    last_settings = _apply_changes(layers, changes)
    merged: dict[str, Any] = {"name": path.stem}
    variants: dict[str, dict[str, Any]] = {}
    for layer in layers:
        variants |= layer.variants
        for key in ("name", "environments", "algorithms", "methods", "seeds", "in_process"):
            value = getattr(layer, key)
            if value is not None and not (key == "name" and layer is not layers[-1]):
                merged[key] = value
    for key in ("environments", "algorithms", "methods"):
        if key not in merged:
            raise ExperimentError(f"{path}: {key}: missing; list at least one")
        _check_unique(f"{path}: {key}", merged[key])
    seeds = merged.get("seeds", 1)
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not seeds:
        raise ExperimentError(f"{path}: seeds: list at least one")
    _check_unique(f"{path}: seeds", seeds)
    _check_environments(path, merged["environments"])
    if not _VALID_NAME.match(merged["name"]):
        raise ExperimentError(
            f"{path}: name: {merged['name']!r} may have letters, digits, '.' and '-' only"
        )
    return Experiment(
        name=merged["name"],
        environments=tuple(merged["environments"]),
        algorithms=tuple(merged["algorithms"]),
        methods=tuple(merged["methods"]),
        seeds=seeds,
        layers=tuple(layers),
        variants=variants,
        changes=last_settings,
        in_process=bool(merged.get("in_process", False)),
    )


_VALID_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


def _read_layers(path: Path, seen: tuple[Path, ...]) -> list[ExperimentFile]:
    """The files a file extends, furthest first, and the file itself."""
    if path.resolve() in seen:
        raise ExperimentError(f"{path}: extends: the files extend one another in a circle")
    content = _read_yaml(path)
    layer = _validated(ExperimentFile, content, str(path))
    _check_settings(f"{path}: settings", layer.settings)
    for index, override in enumerate(layer.overrides):
        _check_settings(f"{path}: overrides[{index}].set", override.set)
    for name, variant in layer.variants.items():
        _check_settings(f"{path}: variants.{name}", variant)
    if layer.extends is None:
        return [layer]
    parent = path.parent / layer.extends
    if not parent.is_file():
        raise ExperimentError(f"{path}: extends: there is no file {parent}")
    return [*_read_layers(parent, (*seen, path.resolve())), layer]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except FileNotFoundError:
        raise ExperimentError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ExperimentError(
            f"{path}: is not valid YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(content, dict):
        raise ExperimentError(f"{path}: an experiment file is a mapping of keys to values")
    return content


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if isinstance(key, str) and keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _apply_changes(layers: list[ExperimentFile], changes: Sequence[str]) -> dict[str, Any]:
    """Replaces entries of the last layer by ``--set``; returns the changed settings."""
    settings: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for change in changes:
        place = f"--set {change}"
        key, separator, text = change.partition("=")
        if not separator:
            raise ExperimentError(f"{place}: write PATH=VALUE, such as seeds=5")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            raise ExperimentError(f"{place}: the value is not valid YAML") from None
        head, _, rest = key.partition(".")
        if head == "settings" and rest:
            _check_settings(place, {rest: value})
            settings[rest] = value
        elif rest or head not in _CHANGEABLE:
            known = [*_CHANGEABLE, *(f"settings.{name}" for name in CellSettings.model_fields)]
            raise ExperimentError(f"{place}: {unknown_name(key, known, 'path')}")
        else:
            entries[head] = value
    if entries:
        written = layers[-1].model_dump(exclude_unset=True)
        layers[-1] = _validated(ExperimentFile, written | entries, "--set")
    return settings


_CHANGEABLE = ("name", "environments", "algorithms", "methods", "seeds", "in_process")


def _validated(model: type[Any], content: dict[str, Any], place: str) -> Any:
    unknown = [key for key in content if key not in model.model_fields]
    if unknown:
        raise ExperimentError(
            f"{place}: {unknown_name(str(unknown[0]), model.model_fields, 'key')}"
        )
    try:
        return model(**content)
    except pydantic.ValidationError as error:
        raise ExperimentError(f"{place}: {_first_fault(error)}") from None


def _check_settings(place: str, values: dict[str, Any]) -> None:
    for name in values:
        if name not in CellSettings.model_fields:
            raise ExperimentError(f"{place}: {unknown_name(str(name), CellSettings.model_fields)}")
    try:
        CellSettings(**values)
    except pydantic.ValidationError as error:
        raise ExperimentError(f"{place}.{_first_fault(error)}") from None


def _first_fault(error: pydantic.ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    place = ""
    for part in fault["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return f"{place}: {fault['msg']}, got {fault['input']!r}"


def _check_unique(place: str, values: Sequence[Any]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ExperimentError(f"{place}: {repeated[0]!r} is listed twice")


def _check_environments(path: Path, environments: Sequence[str]) -> None:
    """Only registered ids: gymnasium would import a module named before a colon."""
    for index, environment in enumerate(environments):
        if environment not in gym.registry:
            raise ExperimentError(
                f"{path}: environments[{index}]: {unknown_environment(environment)}"
            )


def unknown_environment(environment: str) -> str:
    """One sentence that refuses an environment and offers the nearest registered one."""
    matches = difflib.get_close_matches(environment, list(gym.registry), n=1)
    hint = f"did you mean {matches[0]!r}?" if matches else "it is not registered with gymnasium"
    return f"unknown environment {environment!r}, {hint}"
