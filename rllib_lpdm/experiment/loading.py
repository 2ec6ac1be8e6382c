"""Reads experiment files: what they extend, and changes from the command line."""

import difflib
import os
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pydantic

from rllib_lpdm.algorithms.environments import EnvironmentSpec, Name, import_modules
from rllib_lpdm.experiment.faults import (
    check_settings,
    unknown_environment,
    unknown_key,
    validated,
)
from rllib_lpdm.experiment.reading import parse_yaml, read_yaml
from rllib_lpdm.experiment.search.checks import checked
from rllib_lpdm.experiment.spec import (
    CellSettings,
    Experiment,
    ExperimentError,
    ExperimentFile,
)
from rllib_lpdm.results.messages import one_line, shown, unknown_name

INHERITED = ("environments", "algorithms", "methods", "seeds", "in_process")
OWN = ("name", "throwaway", "search")  # of a file itself, whatever it extends
PACKAGED = Path(__file__).parents[1] / "tune_configs"


def load_experiment(
    path: str | Path, changes: Sequence[str] = (), imports: Sequence[str] = ()
) -> Experiment:
    """Reads an experiment file with what it extends.

    Args:
        path: the YAML file. A name alone that is not in the current folder is taken from the
            package's own files, and a line on stderr says so; so is a name that a file extends.
        changes: ``PATH=VALUE`` from the command line, such as ``seeds=5`` or
            ``settings.iterations=200``; VALUE is YAML.
        imports: modules that register environments with gymnasium. A file cannot name any.

    Raises:
        ExperimentError: names the file and the place.
    """
    path = _found(Path(path))
    try:
        import_modules(imports)
    except ValueError as error:
        raise ExperimentError(f"--import {one_line(error)}") from None
    files = _read_files(path)
    last_settings = _apply_changes(files, changes)
    layers = tuple(files.values())
    entries: dict[str, Any] = {"name": path.stem, "seeds": 1}
    variants: dict[str, dict[str, Any]] = {}
    for layer in layers:
        variants |= layer.variants
        for key in (*INHERITED, *(OWN if layer is layers[-1] else ())):
            if (value := getattr(layer, key)) is not None:
                entries[key] = value
    seeds = entries["seeds"]
    entries["seeds"] = list(range(seeds)) if isinstance(seeds, int) else seeds
    for key in ("environments", "algorithms", "methods", "seeds"):
        if not entries.get(key):
            raise ExperimentError(f"{path}: {key}: missing; list at least one")
    _check_environments(path, entries["environments"], files)
    for key in ("algorithms", "methods", "seeds"):
        _check_unique(f"{path}: {key}", entries[key])
    _check_name(path, entries["name"])
    _check_variants(files, variants)
    _check_tuning_seeds(path, entries["seeds"], files)
    experiment = Experiment(
        name=entries["name"],
        environments=tuple(entries["environments"]),
        algorithms=tuple(entries["algorithms"]),
        methods=tuple(entries["methods"]),
        seeds=tuple(entries["seeds"]),
        layers=layers,
        variants=variants,
        changes=last_settings,
        in_process=entries.get("in_process", False),
        throwaway=entries.get("throwaway", False),
        imports=tuple(imports),
        search=entries.get("search"),
        source=str(path),
    )
    if experiment.search:
        search = checked(f"{path}: search", experiment.search, experiment)
        return replace(experiment, search=search)
    return experiment


def _read_files(path: Path) -> dict[Path, ExperimentFile]:
    """The files a file extends, furthest first, and the file itself."""
    files: dict[Path, ExperimentFile] = {}
    seen: set[Path] = set()
    while True:
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself
            raise ExperimentError(f"{path}: cannot be read: {error}") from None
        if resolved in seen:
            raise ExperimentError(f"{path}: extends: the files extend one another in a circle")
        seen.add(resolved)
        files[path] = file = _read_file(path, extended=bool(files))
        if file.extends is None:
            return dict(reversed(files.items()))
        parent = _found(Path(file.extends), path.parent)
        if not os.path.isfile(parent):  # of a name too long Path.is_file() raises OSError
            raise ExperimentError(f"{path}: extends: there is no file {shown(file.extends)}")
        path = parent


def _found(path: Path, folder: Path = Path()) -> Path:
    """A file in a folder; where there is none of a name alone, the package's file of that name."""
    file, packaged = folder / path, PACKAGED / path.name
    if os.path.lexists(file) or not os.path.isfile(packaged):
        return file
    if path.name != str(path):
        raise ExperimentError(
            f"{file}: there is no such file; the name alone, {path.name}, takes the package's"
        )
    print(f"{file}: there is no such file; taking {packaged}", file=sys.stderr)
    return packaged


def _read_file(path: Path, extended: bool) -> ExperimentFile:
    """The experiment in a file.

    Who wrote an experiment file may let it extend any file here, also one that is secret. So no
    error quotes an extended file that is no experiment file.
    """
    content = read_yaml(path, quoted=not extended)
    if extended and not content.keys() <= ExperimentFile.model_fields.keys():
        raise ExperimentError(
            f"{path}: has keys that no experiment file has; --dry-run of it alone names them"
        )
    file: ExperimentFile = validated(ExperimentFile, content, str(path))
    check_settings(f"{path}: settings", file.settings)
    for index, override in enumerate(file.overrides):
        check_settings(f"{path}: overrides[{index}].set", override.set)
    for name, variant in file.variants.items():
        check_settings(f"{path}: variants.{name}", variant)
    return file


# -- changes from the command line ----------------------------------------------------------------

CHANGEABLE = ("name", *INHERITED)


def _apply_changes(files: dict[Path, ExperimentFile], changes: Sequence[str]) -> dict[str, Any]:
    """Replaces entries of the last file by ``--set``; returns the changed settings."""
    settings: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for change in changes:
        place = f"--set {one_line(change, 80)}"
        key, separator, text = change.partition("=")
        if not separator:
            raise ExperimentError(f"{place}: write PATH=VALUE, such as seeds=5")
        try:
            value = parse_yaml(text)
        except ValueError:
            raise ExperimentError(f"{place}: the value is not valid YAML") from None
        head, _, rest = key.partition(".")
        if head == "settings" and rest:
            check_settings("--set settings", {rest: value})
            settings[rest] = value
        elif head == "settings":
            raise ExperimentError(f"{place}: name a setting, such as settings.lr=1.0e-3")
        elif key in CellSettings.model_fields:
            raise ExperimentError(f"{place}: {key} is a setting, write settings.{key}=...")
        elif key not in CHANGEABLE:
            every = [*CHANGEABLE, *(f"settings.{name}" for name in CellSettings.model_fields)]
            near = difflib.get_close_matches(key[:80], every, n=1)
            known = near or [*CHANGEABLE, "settings.NAME"]
            raise ExperimentError(f"{place}: {unknown_key(key, known, 'path')}")
        elif value is None:
            raise ExperimentError(f"{place}: give a value, or leave the change out")
        else:
            entries[key] = value
    if entries:
        last = next(reversed(files))
        written = files[last].model_dump(exclude_unset=True)
        files[last] = validated(ExperimentFile, written | entries, "--set")
    return settings


# -- what one entry alone cannot show -------------------------------------------------------------


def _check_unique(place: str, values: Sequence[Any], hint: str = "") -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ExperimentError(f"{place}: {shown(repeated[0])} is listed twice{hint}")


def _check_environments(
    path: Path, environments: Sequence[EnvironmentSpec], files: dict[Path, ExperimentFile]
) -> None:
    """Only registered ids: gymnasium would import a module named before a colon."""
    for index, environment in enumerate(environments):
        if environment.id not in gym.registry:
            unknown = unknown_environment(environment.id)
            raise ExperimentError(f"{path}: environments[{index}]: {unknown}")
    names = [environment.label for environment in environments]
    _check_unique(f"{path}: environments", names, "; a second form of an id needs a name")
    for source, file in files.items():
        for index, override in enumerate(file.overrides):
            named = override.when.environment
            for name in [named] if isinstance(named, str) else named or []:
                if name not in gym.registry and name not in names:
                    raise ExperimentError(
                        f"{source}: overrides[{index}].when.environment: "
                        f"{unknown_environment(name, names)}"
                    )


def _check_variants(files: dict[Path, ExperimentFile], variants: Collection[str]) -> None:
    for source, file in files.items():
        for index, override in enumerate(file.overrides):
            named = override.when.variant
            for name in [named] if isinstance(named, str) else named or []:
                if name not in variants:
                    raise ExperimentError(
                        f"{source}: overrides[{index}].when.variant: "
                        f"{unknown_name(name, variants, 'variant')}"
                    )


def _check_tuning_seeds(
    path: Path, seeds: Sequence[int], files: dict[Path, ExperimentFile]
) -> None:
    """What was chosen on a seed must not be reported on it."""
    for source, file in files.items():
        taken = sorted(set(seeds) & set(file.search.all_seeds if file.search else ()))
        if taken:
            raise ExperimentError(
                f"{path}: seeds: {taken[0]} is among the search.seeds of {source}, on which "
                "settings are chosen; report others"
            )


def _check_name(path: Path, name: str) -> None:
    try:
        pydantic.TypeAdapter(Name).validate_python(name)
    except pydantic.ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ExperimentError(f"{path}: name: {shown(name)} {reason}") from None
