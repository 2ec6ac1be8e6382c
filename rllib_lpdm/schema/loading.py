"""Reads experiment files: what they extend, and changes from the command line."""

import difflib
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pydantic

from rllib_lpdm.schema.cell_settings import every_setting
from rllib_lpdm.schema.environments import EnvironmentSpec, Name, import_modules
from rllib_lpdm.schema.experiment import Experiment, ExperimentFile
from rllib_lpdm.schema.faults import (
    check_all,
    check_settings,
    refuse,
    unknown_environment,
    unknown_key,
    validated,
)
from rllib_lpdm.schema.messages import UserError, one_line, shown, unknown_name
from rllib_lpdm.schema.reading import parse_yaml, read_yaml
from rllib_lpdm.schema.search_checks import checked

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
        UserError: names the file and the place.
    """
    path = _found(Path(path))
    try:
        import_modules(imports)
    except ValueError as error:
        raise UserError(f"--import {one_line(error)}") from None
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
    keys = ("environments", "algorithms", "methods", "seeds")
    refuse([f"{path}: {key}: missing; list at least one" for key in keys if not entries.get(key)])
    check_all(
        [
            partial(_check_environments, path, entries["environments"], files),
            *(partial(_check_unique, f"{path}: {key}", entries[key]) for key in keys[1:]),
            partial(_check_name, path, entries["name"]),
            partial(_check_variants, files, variants),
            partial(_check_tuning_seeds, path, entries["seeds"], files),
        ]
    )
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
            raise UserError(f"{path}: cannot be read: {error}") from None
        if resolved in seen:
            raise UserError(f"{path}: extends: the files extend one another in a circle")
        seen.add(resolved)
        files[path] = file = _read_file(path, extended=bool(files))
        if file.extends is None:
            return dict(reversed(files.items()))
        parent = _found(Path(file.extends), path.parent)
        if not os.path.isfile(parent):  # of a name too long Path.is_file() raises OSError
            raise UserError(
                f"{path}: extends: there is no file {shown(file.extends)}; looked for "
                f"{one_line(parent, 200)} and, for a name alone, among the package's files"
            )
        path = parent


def _found(path: Path, folder: Path = Path()) -> Path:
    """A file in a folder; where there is none of a name alone, the package's file of that name."""
    file, packaged = folder / path, PACKAGED / path.name
    if os.path.lexists(file) or not os.path.isfile(packaged):
        return file
    if path.name != str(path):
        raise UserError(
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
        raise UserError(
            f"{path}: has keys that no experiment file has; --dry-run of it alone names them"
        )
    check_all(
        [
            lambda: validated(ExperimentFile, content, str(path)),
            *(partial(check_settings, f"{path}: {place}", v) for place, v in _settings_in(content)),
        ]
    )
    return ExperimentFile(**content)


def _settings_in(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings in a file that may have other faults, with their places."""
    overrides, variants = content.get("overrides"), content.get("variants")
    found = [("settings", content.get("settings"))]
    for index, override in enumerate(overrides if isinstance(overrides, list) else []):
        values = override.get("set") if isinstance(override, dict) else None
        found.append((f"overrides[{index}].set", values))
    for name, variant in (variants if isinstance(variants, dict) else {}).items():
        found.append((f"variants.{name}", variant))
    for place, values in found:
        if isinstance(values, dict):
            yield place, {name: value for name, value in values.items() if isinstance(name, str)}


# -- changes from the command line ----------------------------------------------------------------

CHANGEABLE = ("name", *INHERITED)


def _apply_changes(files: dict[Path, ExperimentFile], changes: Sequence[str]) -> dict[str, Any]:
    """Replaces entries of the last file by ``--set``; returns the changed settings."""
    settings: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    check_all(partial(_take_change, change, settings, entries) for change in changes)
    if entries:
        last = next(reversed(files))
        written = files[last].model_dump(exclude_unset=True)
        files[last] = validated(ExperimentFile, written | entries, "--set")
    return settings


def _take_change(change: str, settings: dict[str, Any], entries: dict[str, Any]) -> None:
    """Takes one ``PATH=VALUE`` into the changed settings, or into the changed entries."""
    place = f"--set {one_line(change, 80)}"
    key, separator, text = change.partition("=")
    if not separator:
        raise UserError(f"{place}: write PATH=VALUE, such as seeds=5")
    try:
        value = parse_yaml(text)
    except ValueError:
        raise UserError(f"{place}: the value is not valid YAML") from None
    head, _, rest = key.partition(".")
    if head == "settings" and rest:
        check_settings("--set settings", {rest: value})
        settings[rest] = value
    elif head == "settings":
        raise UserError(f"{place}: name a setting, such as settings.lr=1.0e-3")
    elif key in every_setting().model_fields:
        raise UserError(f"{place}: {key} is a setting, write settings.{key}=...")
    elif key not in CHANGEABLE:
        every = [*CHANGEABLE, *(f"settings.{name}" for name in every_setting().model_fields)]
        near = difflib.get_close_matches(key[:80], every, n=1)
        known = near or [*CHANGEABLE, "settings.NAME"]
        raise UserError(f"{place}: {unknown_key(key, known, 'path')}")
    elif value is None:
        raise UserError(f"{place}: give a value, or leave the change out")
    else:
        entries[key] = value


# -- what one entry alone cannot show -------------------------------------------------------------


def _check_unique(place: str, values: Sequence[Any], hint: str = "") -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise UserError(f"{place}: {shown(repeated[0])} is listed twice{hint}")


def _check_environments(
    path: Path, environments: Sequence[EnvironmentSpec], files: dict[Path, ExperimentFile]
) -> None:
    """Only registered ids: gymnasium would import a module named before a colon."""
    lines = [
        f"{path}: environments[{index}]: {unknown_environment(environment.id)}"
        for index, environment in enumerate(environments)
        if environment.id not in gym.registry
    ]
    names = [environment.label for environment in environments]
    lines += [
        f"{place}.environment: {unknown_environment(name, names)}"
        for place, name in _conditions(files, "environment")
        if name not in gym.registry and name not in names
    ]
    refuse(lines)
    _check_unique(f"{path}: environments", names, "; a second form of an id needs a name")


def _check_variants(files: dict[Path, ExperimentFile], variants: Collection[str]) -> None:
    refuse(
        [
            f"{place}.variant: {unknown_name(name, variants, 'variant')}"
            for place, name in _conditions(files, "variant")
            if name not in variants
        ]
    )


def _conditions(files: dict[Path, ExperimentFile], key: str) -> Iterator[tuple[str, str]]:
    """The names that overrides ask for under a key of ``when``, with their places."""
    for source, file in files.items():
        for index, override in enumerate(file.overrides):
            named = getattr(override.when, key)
            for name in [named] if isinstance(named, str) else named or []:
                yield f"{source}: overrides[{index}].when", name


def _check_tuning_seeds(
    path: Path, seeds: Sequence[int], files: dict[Path, ExperimentFile]
) -> None:
    """What was chosen on a seed must not be reported on it."""
    for source, file in files.items():
        taken = sorted(set(seeds) & set(file.search.all_seeds if file.search else ()))
        if taken:
            raise UserError(
                f"{path}: seeds: {taken[0]} is among the search.seeds of {source}, on which "
                "settings are chosen; report others"
            )


def _check_name(path: Path, name: str) -> None:
    try:
        pydantic.TypeAdapter(Name).validate_python(name)
    except pydantic.ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: name: {shown(name)} {reason}") from None
